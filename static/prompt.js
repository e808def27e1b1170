// The prompt page: shortcuts, the mark of the selected token in the charts, and the history (texts never stand in addresses).
(() => {
  const form = () => document.getElementById("run");
  const press = (selector) => { const button = document.querySelector(selector); button?.click(); return button; };

  // --- shortcuts

  document.addEventListener("keydown", (event) => {
    // Enter in a small field presses its own button, not the first of the form.
    if (event.key === "Enter" && event.target.dataset?.enter && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      document.getElementById(event.target.dataset.enter)?.click();
      return;
    }
    if (window.page.typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "a") ablate(event.target);
    if (event.key === "p") press("[data-pin]");
    if (event.key === "Enter" && event.target.closest?.("#strip .tok")) document.querySelector("#neurons tr[tabindex='0']")?.focus();
  });

  const ablate = (target) => {
    if (document.querySelector('#neurons input[name="tick"]:checked')) { press("[data-ablate]"); return; }
    const row = target.closest?.("#neurons tr[data-neuron]") ?? document.querySelector("#neurons tr[data-neuron]");
    row?.querySelector('button[value^="ablate:"]')?.click();
  };

  const modes = () => {
    const mode = document.querySelector("[data-mode]");
    if (!mode) return;
    for (const field of document.querySelectorAll("[data-for-mode]")) field.hidden = !field.dataset.forMode.split(" ").includes(mode.value);
  };
  document.addEventListener("change", (event) => { if (event.target.matches?.("[data-mode]")) modes(); });

  // --- what was asked (text, model, BOS, LayerNorm): the boxes may have been edited since the answer on the page was computed

  const boxes = () => [...form().querySelectorAll(".ask :is(textarea, input, select)")];
  let asked = null;
  const answered = (fields) => { asked = fields; };
  const age = () => document.getElementById("result")?.classList.toggle("old", asked !== null && form().elements.text.value !== asked.text);
  document.addEventListener("input", (event) => { if (event.target.id === "text") age(); });
  document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
    if (!ctx.target?.closest("#result")) return;
    const { body } = ctx.request;
    // What the answer asks for by itself (its panels, a model that is still loading) stays with the text of that answer.
    if (ctx.sourceElement.closest("#result")) for (const [name, value] of Object.entries(asked)) body.set(name, value);
    ctx.asked = Object.fromEntries(boxes().map(({ name }) => [name, body.get(name)]));
    ctx.entry = entry;
  });
  // An answer belongs to the entry of the history in which it was asked for: it must not overwrite another one.
  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx } = event.detail;
    if (!ctx.asked || ctx.hx?.refusal) return;
    if (ctx.entry === history.state?.entry) answered(ctx.asked);
    else event.preventDefault();
  });

  // --- the selected token in the curves

  const line = (position, range) => [
    ...(range ? [{ type: "rect", xref: "x", yref: "paper", x0: range[0] - 0.5, x1: range[1] + 0.5, y0: 0, y1: 1, fillcolor: window.plots.css("--accent"), opacity: 0.1, line: { width: 0 }, layer: "below" }] : []),
    ...(position === null ? [] : [{ type: "line", xref: "x", yref: "paper", x0: position, x1: position, y0: 0, y1: 1, line: { color: window.plots.css("--mark"), width: 1 }, opacity: 0.5 }]),
  ];
  let last = { position: null, range: null };
  const markCurves = () => document.querySelectorAll("#curves [data-drawn]").forEach(markCurve);
  const markCurve = (plot) => {
    if (plot.offsetParent === null) return;
    // Token labels need about 13 px each; on a narrow screen numbers stand there instead.
    const labels = plot._figure.layout.xaxis.tickvals;
    const roomy = labels && plot.clientWidth - 90 > 13 * labels.length;
    window.Plotly.relayout(plot, { shapes: line(last.position, last.range), "xaxis.tickmode": roomy ? "array" : "auto", "xaxis.tickangle": roomy ? -60 : 0 });
  };
  document.addEventListener("strip:selected", (event) => { last = event.detail; markCurves(); });
  document.addEventListener("plot:drawn", markCurves);
  document.addEventListener("plot:click", (event) => {
    if (!event.detail.element.closest("#curves")) return;
    event.preventDefault();
    window.strip.choose(Math.round(event.detail.x));
  });

  // The strip's choice of run (clean, intervened, change) decides which chart is to be seen.
  document.addEventListener("change", (event) => {
    if (!event.target.matches?.('input[name="show"]')) return;
    for (const element of document.querySelectorAll("[data-show]")) element.hidden = !element.dataset.show.split(" ").includes(event.target.value);
    window.plots.drawAll(document.getElementById("curves"));
    markCurves();
  });

  // --- history: the form rides in history.state, so back, forward and reload show the text again

  const SPENT = ["act", "tick", "neuron", "value", "min", "max", "where", "mode"];
  const entries = () => ({ ...Object.fromEntries([...new FormData(form())].filter(([name]) => !SPENT.includes(name))), ...asked });
  // Every entry has a key, and `entry` is that of the one on the page: the browser may already be at another one when an
  // answer comes in, and what belongs to the page must not be written there.
  let entry = null;
  const mark = (key) => { entry = key; history.replaceState({ ...history.state, htmx: true, entry }, ""); };
  const fresh = () => `${performance.timeOrigin}-${performance.now()}`;
  const stamp = () => { if (form() && history.state?.entry === entry) history.replaceState({ ...history.state, form: entries() }, ""); };
  const restore = (fields) => {
    for (const box of boxes()) box.value = fields[box.name] ?? box.value;
    return window.htmx.ajax("POST", form().action, { source: "#run", target: "#result", swap: "outerHTML", values: { ...fields, restored: "yes" } });
  };

  // The examples stand outside of what is swapped.
  const markExample = () => {
    const key = form()?.querySelector('input[name="example"]')?.value;
    for (const link of document.querySelectorAll(".examples a")) {
      if (key && link.dataset.example === key) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };

  // In the same tick as the address was pushed and the content put in: later, the browser may already be at another entry.
  document.addEventListener("htmx:before:settle", stamp);
  document.addEventListener("htmx:after:history:push", () => mark(fresh()));
  document.addEventListener("htmx:after:history:replace", () => mark(entry));
  // A token that was chosen while the table of another was on its way: the element that listened is gone, so it is asked again.
  let chased = null;
  const follow = (swapped) => {
    const table = document.getElementById("neurons"), at = form()?.querySelector('input[name="pos"]')?.value;
    if (swapped !== "neurons" || !table?.dataset.at || !at) return;
    if (table.dataset.at === at) chased = null;
    else if (chased !== at) {
      chased = at;
      document.getElementById("strip").dispatchEvent(new CustomEvent("token", { bubbles: true }));
    }
  };
  document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    modes();
    follow(ctx.target?.id);
    if (form()) age();
    markExample();
    // The pressed button is gone; the keyboard goes on at the selected token.
    if (document.activeElement === document.body) document.querySelector('#strip .tok[tabindex="0"]')?.focus({ preventScroll: true });
  });
  document.addEventListener("htmx:before:history:restore", (event) => {
    if (!form()) return;
    entry = history.state?.entry ?? null;
    const fields = history.state?.form;
    if (!fields) return;
    event.preventDefault();
    restore(fields);
  });
  document.addEventListener("DOMContentLoaded", () => {
    if (!form()) return;
    mark(history.state?.entry ?? fresh());
    modes();
    answered(Object.fromEntries(boxes().map(({ name, value }) => [name, value])));
    const fields = history.state?.form;
    if (fields?.text && fields.text !== form().elements.text.value) restore(fields);
  });
})();
