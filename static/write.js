// The model writes: server-sent events become tokens in the strip; stop, continue, branch; one step looked at.
//
// What stands on the page is always the answer to one request: the fields as they were, and as `written` the tokens that were
// there already when it went on. So a branch can be kept, downloaded and asked for again exactly as it is shown.
(() => {
  const FULL = 4;  // nats of the deepest shade, unless a token exceeds it
  const $ = (id) => document.getElementById(id);
  const form = () => $("write-form");
  const { num: fmt, percent, flowing: visible } = window.reading;
  const make = (tag, more = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), more);
    element.append(...children);
    return element;
  };

  // A branch is a whole text: the prompt and every step of it, those it shares with its parent as well.
  // asked, written: the request that it answers; finish: how it ended; hash: of the answer, where the server has it whole.
  let branches = [];
  let current = null;
  let locked = null;
  let abort = null;

  const FIELDS = ["model", "text", "n", "temperature", "seed", "turned", "apply_to", "watch", "top_k", "top_p", "stop"];
  const read = () => Object.fromEntries(FIELDS.map((name) => [name, form().elements[name]?.value ?? ""]));
  const ids = (one) => one.steps.map((step) => step.id);
  // The fields of the request that is answered by what is shown: of a text that was stopped, as many tokens as it has.
  const request = (one) => ({ ...one.asked, written: one.written.join(","), ...(one.finish === "stopped" ? { n: String(one.steps.length - one.written.length) } : {}) });

  // --- kept while this tab is open, for going back and loading anew; beside it the prompt at hand, which is one session's

  const KEPT = "nullscope write";
  const hand = () => new URL(location.href).searchParams.get("prompt") ?? "";
  const keep = () => {
    if (!current?.prompt.length) return;
    const left = (one) => (one === current && abort ? { ...one, finish: "stopped", hash: null } : one);
    const told = (some) => JSON.stringify({ hand: hand(), branches: some.map(left), at: some.indexOf(current), locked });
    try {
      try { sessionStorage.setItem(KEPT, told(branches)); } catch { sessionStorage.setItem(KEPT, told([{ ...current, parent: null, depth: 0, at: 0 }])); }
    } catch { /* no room, or no storage: this page only */ }
  };
  const kept = () => { try { return JSON.parse(sessionStorage.getItem(KEPT)); } catch { return null; } };

  // --- the strip

  const shade = () => {
    const most = Math.max(FULL, ...current.steps.map((step) => step.entropy));
    for (const element of $("write-strip").querySelectorAll("[data-step]")) element.style.setProperty("--w", `${(100 * current.steps[Number(element.dataset.step)].entropy / most).toFixed(1)}%`);
  };
  const cell = (step, i) => {
    const element = make("button", { type: "button", className: "write-token" });
    element.dataset.step = i;
    if (step.instead) element.classList.add("write-branch");
    dress(element, step, i);
    return element;
  };
  const dress = (element, step, i) => {
    element.textContent = visible(step.piece) || "·";
    element.setAttribute("aria-pressed", String(locked === i));
    element.setAttribute("aria-label", `${step.text}, entropy ${fmt(step.entropy, 2)} nats`);
  };
  const given = (token) => {
    const element = make("span", { className: `write-given${token.special ? " special" : ""}`, textContent: visible(token.piece) });
    if (token.role) element.dataset.role = token.role;
    return element;
  };
  const draw = () => {
    const strip = $("write-strip");
    document.querySelector(".write-empty").hidden = true;
    strip.replaceChildren(
      ...current.prompt.map((token) => given(token)),
      ...current.steps.map(cell),
    );
    shade();
    say();
    list();
  };
  // A token that was there already is told anew, and stays where it is.
  const add = (step) => {
    const i = step.position - current.prompt.length, old = current.steps[i];
    current.steps[i] = old ? { ...step, instead: old.instead } : step;
    if (old) dress($("write-strip").querySelector(`[data-step="${i}"]`), step, i);
    else $("write-strip").append(cell(step, i));
    if (locked === i) look(i);
    shade();
    say();
  };

  const ENDED = { length: "the length asked for", eos: "its end of text", stop: "the stop text", context: "a full context", stopped: "you" };
  const say = () => {
    const steps = current.steps;
    // Of the whole answer, what other branches share with it included: the API tells it of what it wrote.
    const sum = (of) => steps.reduce((total, step) => total + of(step), 0);
    const whole = sum((step) => Math.log(step.prob)), n = Math.max(1, steps.length);
    const sure = steps.length ? ` · log-probability ${fmt(whole, 2)} nats (${fmt(whole / n, 2)} a token) · first choice ${fmt(100 * sum((step) => step.rank === 0) / n, 0)} %` : "";
    $("write-said").textContent = `${steps.length} token${steps.length === 1 ? "" : "s"} · mean entropy ${fmt(sum((step) => step.entropy) / n, 2)} nats${sure}${current.finish ? ` · ended by ${ENDED[current.finish]}` : ""}`;
    const busy = abort !== null, shown = steps.length > 0 && !busy;
    $("write-share").hidden = !shown;
    $("write-stop").disabled = !busy;
    $("write-on").disabled = busy || current.finish === "context" || !current.prompt.length;
    $("write-reply").hidden = !shown || !document.querySelector(".chat") || !current.prompt.some((token) => token.role);
    for (const button of document.querySelectorAll("[form=write-shown]")) button.disabled = !shown;
  };
  // What the footer's buttons ask for: the branch that is shown, and the Python that asks for it.
  const fill = (one) => { for (const [name, value] of Object.entries(request(one))) $("write-shown").elements[name].value = value; };
  const settle = () => {
    fill(current);
    say();
    list();
    keep();
    window.htmx.ajax("POST", $("write-shown").action, { source: "#write-code", target: "#write-code", swap: "outerHTML", values: { ...request(current), panel: "shown" } });
  };

  // --- one step

  const choice = (i, token, taken) => {
    const row = make("div", { className: "write-choice" }, make(taken ? "b" : "span", { textContent: visible(token.text) || "·" }), make("span", { className: "n", textContent: percent(token.prob) }));
    if (taken) row.append(make("span", { className: "soft", textContent: "written" }));
    else {
      const button = make("button", { type: "button", className: "link", textContent: "take it" });
      button.addEventListener("click", () => branch(i, token));
      row.append(button);
    }
    const bar = make("span", { className: "bar" });
    bar.style.setProperty("--w", `${100 * token.prob}%`);
    row.append(bar);
    return row;
  };
  // Interventions with the positions that "on the prompt" or "on what is written" stands for.
  const placed = ({ turned, apply_to: where }, n) => {
    const last = n + current.steps.length - 1, at = { prompt: `@0-${n - 1}`, new: `@${n}-${last}` }[where] ?? "";
    return turned.split(/\s+/).filter(Boolean).map((item) => (item.includes("@") ? item : item + at)).join(" ");
  };
  const onPromptPage = (step) => {
    const target = $("write-open"), { asked, prompt } = current;
    const values = { text: asked.text + current.steps.map((each) => each.piece).join(""), model: asked.model, pos: String(step.position - 1), do: placed(asked, prompt.length), watch: asked.watch };
    for (const [name, value] of Object.entries(values)) target.elements[name].value = value;
    target.submit();
  };
  const look = (i) => {
    const step = current?.steps[i], panel = $("write-step");
    if (!step) { panel.replaceChildren(); return; }
    const figures = [["probability", `${percent(step.prob, 2)}, rank ${step.rank}`], ["entropy", `${fmt(step.entropy)} nats`], ["LN scale", fmt(step.ln_scale)], ["KL to unigram", step.kl_unigram === null ? "no counts" : `${fmt(step.kl_unigram)} nats`], ...Object.entries(step.activations).map(([name, value]) => [`activation of ${name}`, fmt(value)])];
    const body = make("tbody", {}, ...figures.map(([name, value]) => make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { className: "n", textContent: value }))));
    const open = make("button", { type: "button", textContent: "Open on the prompt page", title: "Or click its token twice" });
    open.addEventListener("click", () => onPromptPage(step));
    panel.replaceChildren(
      make("h3", {}, "Token ", make("bdi", { textContent: `“${visible(step.text)}”` })),
      make("table", {}, body),
      make("h3", { textContent: "It chose among" }),
      ...(step.top.some((token) => token.id === step.id) ? step.top : [step, ...step.top]).map((token) => choice(i, token, token.id === step.id)),
    );
    if (step.neurons.length) {
      const rows = step.neurons.map((one) => make("tr", {}, make("th", { scope: "row" }, make("a", { className: "neuron", textContent: one.neuron, href: `${$("written").dataset.neurons}${encodeURIComponent(current.asked.model)}/n/${one.neuron}` })), ...[one.activation, one.d_entropy.total, one.d_entropy.direct, one.d_entropy.ln_mediated, one.d_entropy.frequency_mediated].map((v) => make("td", { className: "n", textContent: fmt(v) }))));
      const head = make("tr", {}, ...["neuron", "activation", "ΔH ablated", "logits", "LN scale", "frequency"].map((name, at) => make("th", { scope: "col", className: at ? "n" : "", textContent: name })));
      panel.append(make("h3", { textContent: "Neurons that set its entropy" }), make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
    }
    else panel.append(make("p", { className: "soft", textContent: "The neurons are named once the reference means of this model are there." }));
    panel.append(make("p", {}, open));
  };
  const lock = (i) => {
    locked = i;
    for (const element of $("write-strip").querySelectorAll("[data-step]")) element.setAttribute("aria-pressed", String(Number(element.dataset.step) === i));
    look(i);
  };

  // --- branches

  const list = () => {
    const place = $("write-branches");
    place.hidden = branches.length < 2;
    place.querySelector("ol").replaceChildren(...branches.map((one) => {
      const label = one.parent === null ? "the first text" : `“${visible(one.steps[one.at].text)}” instead of “${visible(branches[one.parent].steps[one.at].text)}” at token ${one.steps[one.at].position}`;
      const button = make("button", { type: "button", className: "link", textContent: `${"↳ ".repeat(one.depth)}${label}` });
      button.addEventListener("click", () => { if (abort) return; current = one; locked = null; draw(); lock(one.at); settle(); });
      const item = make("li", {}, button);
      if (one === current) item.setAttribute("aria-current", "true");
      return item;
    }));
  };
  const branch = (i, token) => {
    if (abort || !current.prompt.length) return;
    const asked = next();
    if (!asked) return;
    const before = { branches: [...branches], current, locked }, parent = current, old = parent.steps[i];
    const step = { ...old, id: token.id, text: token.text, piece: "", prob: token.prob, rank: old.top.findIndex((one) => one.id === token.id), instead: old.text };
    const written = [...ids(parent).slice(0, i), token.id];
    current = { parent: branches.indexOf(parent), depth: parent.depth + 1, at: i, prompt: parent.prompt, steps: [...parent.steps.slice(0, i), step], asked, written, finish: null };
    branches.push(current);
    draw();
    lock(i);
    write(before);
  };
  const goOn = () => {
    const asked = next();
    if (!asked) return;
    const before = { branches: [...branches], current, locked }, written = ids(current);
    branches[branches.indexOf(current)] = current = { ...current, steps: [...current.steps], asked, written, finish: null, hash: null };
    write(before);
  };

  // --- writing

  const refuse = (error) => {
    const strong = make("strong", { textContent: error.message });
    const box = make("div", { className: "error" }, make("p", {}, strong), ...(error.hint ? [make("p", { textContent: error.hint })] : []));
    box.setAttribute("role", "alert");
    $("write-refused").replaceChildren(box);
    box.scrollIntoView({ block: "nearest" });
  };
  // The fields as they stand now: a text goes on with them. Not behind another prompt, which it was not written after.
  const next = () => {
    const fields = read(), { text, model } = current.asked;
    if (fields.text === text && fields.model === model) return fields;
    refuse({ message: "The prompt or the model is another than that of the text shown.", hint: "Run writes after the new one. To go on with the text shown, put the prompt back." });
    return null;
  };
  const take = (one, data) => {
    const view = JSON.parse(data);
    if (one !== current) return;
    if (!one.prompt.length) { one.prompt = view.prompt; draw(); }
    if (view.finish_reason) { one.finish = view.finish_reason; one.hash = view.provenance.request_sha256; return; }
    view.tokens.forEach((step) => { one.told = (one.told ?? 0) + 1; add(step); });
  };
  const post = (fields, accept, signal) => fetch(form().action, { method: "POST", body: new URLSearchParams(fields), headers: { Accept: accept }, signal });
  // before: what stood on the page, for a request that is refused, or stopped before it had come as far: nothing is lost by it.
  const write = async (before) => {
    const one = current, mine = new AbortController();
    abort = mine;
    one.told = 0;
    $("write-refused").replaceChildren();
    say();
    try {
      const answer = await post({ ...one.asked, written: one.written.join(",") }, "text/event-stream, application/json", mine.signal);
      if (!answer.ok) throw (await answer.json()).error;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
          if (event.startsWith("event: error")) throw JSON.parse(data).error;
          if (data) take(one, data);
        }
      }
    } catch (error) {
      if (error.name !== "AbortError") refuse(error);
    } finally {
      if (!one.finish) one.finish = "stopped";
      if (abort === mine) abort = null;
      if (one === current) {
        if (before.current && (!one.prompt.length || one.told < one.written.length)) {
          ({ branches, current, locked } = before);
          draw();
          if (locked !== null) look(locked);
        }
        if (current.prompt.length) settle();
        else say();
      }
    }
  };
  // The server has the whole of what came to its end; of what was stopped it makes it now.
  const share = async () => {
    const one = current;
    try {
      if (!one.hash) {
        const answer = await post({ ...request(one), panel: "shown" }, "application/json");
        const told = await answer.json();
        if (!answer.ok) throw told.error;
        one.hash = told.answer.provenance.request_sha256;
      }
      const target = $("keep");
      target.action = `${$("write-share").dataset.at}${one.hash}`;
      target.submit();
    } catch (error) { refuse(error); }
  };
  // The answer becomes a turn of the conversation, and one's own next one is to be written. A turn is a run of tokens of one
  // side: between two turns stand the template's own.
  const reply = () => {
    const said = [], end = current.finish === "eos" ? current.steps.length - 1 : current.steps.length;
    let before = null;
    for (const token of current.prompt) {
      if (token.role && token.role === before) said.at(-1).content += token.piece;
      else if (token.role) said.push({ role: token.role, content: token.piece });
      before = token.role;
    }
    const answer = current.steps.slice(0, end).map((step) => step.piece).join("");
    if (before === "assistant") said.at(-1).content += answer;
    else said.push({ role: "assistant", content: answer });
    document.querySelector(".chat").open = true;
    window.turns.show([...said, { role: "user", content: "" }]).focus();
  };

  document.addEventListener("submit", (event) => {
    if (event.target !== form() || event.submitter?.dataset.native !== undefined) return;
    event.preventDefault();
    abort?.abort();
    const before = { branches, current, locked };
    current = { parent: null, depth: 0, at: 0, prompt: [], steps: [], asked: read(), written: [], finish: null };
    branches = [current];
    locked = null;
    $("write-step").replaceChildren();
    draw();
    write(before);
  });
  document.addEventListener("click", (event) => {
    if (event.target.id === "write-stop") abort?.abort();
    if (event.target.id === "write-on" && current) goOn();
    if (event.target.id === "write-share" && current) share();
    if (event.target.id === "write-reply" && current) reply();
    const token = event.target.closest?.("#write-strip [data-step]");
    if (token) lock(Number(token.dataset.step));
  });
  document.addEventListener("dblclick", (event) => {
    const token = event.target.closest?.("#write-strip [data-step]");
    if (token) onPromptPage(current.steps[Number(token.dataset.step)]);
  });
  const over = (event) => { const token = event.target.closest?.("#write-strip [data-step]"); if (token) look(Number(token.dataset.step)); };
  document.addEventListener("pointerover", over);
  document.addEventListener("focusin", over);
  document.addEventListener("pointerout", (event) => { if (event.target.closest?.("#write-strip [data-step]") && locked !== null) look(locked); });
  document.addEventListener("keydown", (event) => {
    const token = event.target.closest?.("#write-strip [data-step]");
    if (token && event.key === "ArrowRight") token.nextElementSibling?.focus();
    if (token && event.key === "ArrowLeft") token.previousElementSibling?.focus?.();
  });
  // A dial's number and its slider are one value; a number beyond the slider stands in the number alone.
  document.addEventListener("input", (event) => {
    const { target } = event;
    if (target.dataset?.dial) target.form.elements[target.dataset.dial].value = target.value;
    const slider = target.name && document.querySelector(`[data-dial="${CSS.escape(target.name)}"]`);
    if (slider) slider.value = target.value;
  });
  window.addEventListener("pagehide", () => { keep(); abort?.abort(); });

  const again = () => {
    const tree = kept();
    if (!tree?.branches?.length || tree.hand !== hand()) return;
    const shown = tree.branches[tree.at] ?? tree.branches[0], fields = read();
    const back = ["reload", "back_forward"].includes(performance.getEntriesByType("navigation")[0]?.type);
    if (!back && (shown.asked.text !== fields.text || shown.asked.model !== fields.model)) return;
    for (const [name, value] of Object.entries(shown.asked)) if (form().elements[name]) form().elements[name].value = value;
    ({ branches, locked } = tree);
    current = shown;
    draw();
    if (locked !== null) look(locked);
    settle();
  };
  document.addEventListener("DOMContentLoaded", () => {
    if (!form()) return;
    const data = $("write-data");
    if (!data) return again();
    const view = JSON.parse(data.textContent);
    current = { parent: null, depth: 0, at: 0, prompt: view.prompt, steps: view.tokens, asked: read(), written: [], finish: view.finish_reason, hash: view.provenance.request_sha256 };
    branches = [current];
    draw();
    settle();
  });
})();
