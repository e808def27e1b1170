// The model writes: server-sent events become tokens in the strip; stop, continue, branch; one step looked at.
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
  let branches = [];
  let current = null;
  let locked = null;
  let abort = null;
  let asked = {};  // the form as it was when the text began

  const read = () => Object.fromEntries(["model", "text", "n", "temperature", "seed", "turned", "top_k", "top_p", "stop"].map((name) => [name, form().elements[name]?.value ?? ""]));

  // --- the strip

  const shade = () => {
    const most = Math.max(FULL, ...current.steps.map((step) => step.entropy));
    for (const element of $("write-strip").querySelectorAll("[data-step]")) element.style.setProperty("--w", `${(100 * current.steps[Number(element.dataset.step)].entropy / most).toFixed(1)}%`);
  };
  const cell = (step, i) => {
    const element = make("button", { type: "button", className: "write-token", textContent: visible(step.piece) || "·" });
    element.dataset.step = i;
    if (step.instead) element.classList.add("write-branch");
    element.setAttribute("aria-pressed", String(locked === i));
    element.setAttribute("aria-label", `${step.text}, entropy ${fmt(step.entropy, 2)} nats`);
    return element;
  };
  const given = (token) => {
    const element = make("span", { className: `write-given${token.special ? " special" : ""}`, textContent: visible(token.text) });
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
  const add = (step) => {
    current.steps.push(step);
    $("write-strip").append(cell(step, current.steps.length - 1));
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
    $("write-said").textContent = `${steps.length} tokens · mean entropy ${fmt(sum((step) => step.entropy) / n, 2)} nats${sure}${current.finish ? ` · ended by ${ENDED[current.finish]}` : ""}`;
    const share = $("write-share");
    share.hidden = !current.hash;
    share.formAction = `${share.dataset.at}${current.hash}`;
    $("write-stop").disabled = abort === null;
    $("write-on").disabled = abort !== null || current.finish === "context" || !current.prompt.length;
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
  const onPromptPage = (step) => {
    const target = $("write-open"), before = current.text ?? asked.text;
    const values = { text: before + current.steps.map((each) => each.piece).join(""), model: asked.model, pos: String(step.position - 1), do: asked.turned };
    for (const [name, value] of Object.entries(values)) target.elements[name].value = value;
    target.submit();
  };
  const look = (i) => {
    const step = current?.steps[i], panel = $("write-step");
    if (!step) { panel.replaceChildren(); return; }
    const figures = [["probability", `${percent(step.prob, 2)}, rank ${step.rank}`], ["entropy", `${fmt(step.entropy)} nats`], ["LN scale", fmt(step.ln_scale)], ["KL to unigram", step.kl_unigram === null ? "no counts" : `${fmt(step.kl_unigram)} nats`]];
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
      const rows = step.neurons.map((one) => make("tr", {}, make("th", { scope: "row" }, make("a", { className: "neuron", textContent: one.neuron, href: `${$("written").dataset.neurons}${encodeURIComponent(asked.model)}/n/${one.neuron}` })), ...[one.activation, one.d_entropy.total, one.d_entropy.direct, one.d_entropy.ln_mediated].map((v) => make("td", { className: "n", textContent: fmt(v) }))));
      const head = make("tr", {}, ...["neuron", "activation", "ΔH ablated", "logits", "LN scale"].map((name, at) => make("th", { scope: "col", className: at ? "n" : "", textContent: name })));
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
      button.addEventListener("click", () => { if (abort) return; current = one; locked = null; draw(); lock(one.at); });
      const item = make("li", {}, button);
      if (one === current) item.setAttribute("aria-current", "true");
      return item;
    }));
  };
  const ids = (one) => [...one.prompt, ...one.steps].map((token) => token.id).join(",");
  const branch = (i, token) => {
    if (abort || !current.prompt.length) return;
    const parent = current, old = parent.steps[i];
    const step = { ...old, id: token.id, text: token.text, piece: token.text, prob: token.prob, rank: old.top.findIndex((one) => one.id === token.id), instead: old.text, activations: {} };
    current = { parent: branches.indexOf(parent), depth: parent.depth + 1, at: i, prompt: parent.prompt, text: parent.text, steps: [...parent.steps.slice(0, i), step], finish: null };
    branches.push(current);
    draw();
    lock(i);
    write(ids(current));
  };

  // --- writing

  const refuse = (error) => {
    const strong = make("strong", { textContent: error.message });
    const box = make("div", { className: "error" }, make("p", {}, strong), ...(error.hint ? [make("p", { textContent: error.hint })] : []));
    box.setAttribute("role", "alert");
    $("write-refused").replaceChildren(box);
  };
  const take = (one, data) => {
    const view = JSON.parse(data);
    if (one !== current) return;
    if (!one.prompt.length) { one.prompt = view.prompt; draw(); }
    if (view.finish_reason) { one.finish = view.finish_reason; one.hash = view.provenance.request_sha256; return; }
    view.tokens.forEach(add);
  };
  // before: what stood on the page, for a request that is refused: nothing is lost by it.
  const write = async (given, before = null) => {
    const one = current, mine = new AbortController();
    abort = mine;
    one.finish = one.hash = null;
    $("write-refused").replaceChildren();
    say();
    try {
      const answer = await fetch(form().action, { method: "POST", body: new URLSearchParams({ ...asked, ids: given }), headers: { Accept: "text/event-stream, application/json" }, signal: mine.signal });
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
      if (!one.finish) one.finish = "stopped";
    } catch (error) {
      if (error.name !== "AbortError") refuse(error);
      else one.finish = "stopped";
    } finally {
      if (abort === mine) abort = null;
      if (one === current && before?.current && !one.prompt.length) {
        ({ branches, current, asked, locked } = before);
        draw();
        if (locked !== null) look(locked);
      } else if (one === current) { say(); list(); }
    }
  };

  document.addEventListener("submit", (event) => {
    if (event.target !== form() || event.submitter?.dataset.native !== undefined) return;
    event.preventDefault();
    abort?.abort();
    const before = { branches, current, asked, locked };
    asked = read();
    current = { parent: null, depth: 0, at: 0, prompt: [], text: asked.text, steps: [], finish: null };
    branches = [current];
    locked = null;
    $("write-step").replaceChildren();
    draw();
    write("", before);
  });
  document.addEventListener("click", (event) => {
    if (event.target.id === "write-stop") abort?.abort();
    if (event.target.id === "write-on" && current) write(ids(current));
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
  window.addEventListener("pagehide", () => abort?.abort());

  document.addEventListener("DOMContentLoaded", () => {
    const data = $("write-data");
    if (!data) return;
    const view = JSON.parse(data.textContent);
    asked = read();
    current = { parent: null, depth: 0, at: 0, prompt: view.prompt, text: asked.text, steps: view.tokens, finish: view.finish_reason, hash: view.provenance.request_sha256 };
    branches = [current];
    draw();
  });
})();
