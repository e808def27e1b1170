// What every page has: dialogs, copy buttons, definitions that close, Ctrl+Enter, rows that arrows move over, messages for
// screen readers, downloads.
(() => {
  const announce = (text) => { document.getElementById("announce").textContent = text; };
  const typing = (target) => target.closest?.("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");

  const copy = async (text, what) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no clipboard outside https and localhost
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    announce(`${what} copied`);
  };

  const reveal = (root) => {
    for (const element of root.querySelectorAll?.("[data-open][hidden], [data-copy][hidden], [data-js][hidden]") ?? []) element.hidden = false;
    // What scrolls is reached by the keyboard, too, where nothing in it is.
    for (const box of root.querySelectorAll?.(".scroll:not([tabindex]), pre:not([tabindex])") ?? []) {
      if (box.querySelector("a[href], button, input, select, summary")) continue;
      const name = box.closest("section, figure, details")?.querySelector("h2, h3, figcaption, summary")?.textContent.trim();
      Object.assign(box, { tabIndex: 0, role: "region", ariaLabel: name || (box.matches("pre") ? "Formula or code" : "Table") });
    }
  };

  // A prompt's box grows once somebody is in it and stays so: were it to change while a finger goes down, what lies below would
  // move, and the press would miss it.
  document.addEventListener("focusin", (event) => event.target.closest?.(".ask textarea[name=text]")?.classList.add("grown"));

  // The neurons at hand (of the bar) in every table.
  let marked = null;
  const markRows = () => {
    const said = document.querySelector("#state [data-at-hand]")?.dataset.atHand ?? "", names = new Set(said.split(" "));
    if (marked !== null && marked !== said) document.dispatchEvent(new CustomEvent("hand"));
    marked = said;
    for (const link of document.querySelectorAll("main tr :is(a.neuron, th)")) {
      if (/^\d+\.\d+$/.test(link.textContent.trim())) link.closest("tr").classList.toggle("at-hand", names.has(link.textContent.trim()));
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    reveal(document);
    markRows();
    // The address names the prompt that the page shows (never its text), so that going back brings the same one.
    const bar = document.getElementById("state"), here = new URL(window.location.href);
    if (bar?.dataset.prompt && document.querySelector("main textarea[name=text]") && !document.getElementById("run") && !here.searchParams.has("prompt")) {
      here.searchParams.set("prompt", bar.dataset.prompt);
      window.history.replaceState(window.history.state, "", here);
    }
    // On a phone the navigation is wider than the screen; the page one is on stands in sight.
    const nav = document.querySelector(".top nav");
    const current = nav.querySelector("[aria-current]");
    if (current) nav.scrollLeft = current.offsetLeft - nav.offsetLeft - (nav.clientWidth - current.offsetWidth) / 2;
  });
  document.addEventListener("htmx:after:process", (event) => { reveal(event.target); markRows(); });

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) document.getElementById(opener.dataset.open).showModal();
    const copier = event.target.closest("[data-copy]");
    if (copier) copy(copier.previousElementSibling.textContent, "Code").then(() => { copier.textContent = "Copied"; });
    const sharer = event.target.closest("button[type=button][data-share]");
    if (sharer) copy(location.href, "Address").then(() => { sharer.textContent = "Copied"; });
    for (const open of document.querySelectorAll("details.define[open]")) if (!open.contains(event.target)) open.open = false;
  });

  // A definition opens beside its mark and inside the window, wherever the mark is.
  const within = (pop, mark) => {
    const box = mark.getBoundingClientRect(), { clientWidth } = document.documentElement;
    pop.style.setProperty("--x", `${Math.max(8, Math.min(box.left - 8, clientWidth - pop.offsetWidth - 8))}px`);
    const below = box.bottom + 6, above = box.top - pop.offsetHeight - 6;
    pop.style.setProperty("--y", `${Math.max(8, below + pop.offsetHeight > window.innerHeight - 8 && above > 8 ? above : Math.min(below, window.innerHeight - pop.offsetHeight - 8))}px`);
  };
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("details.define[open]")) within(event.target.querySelector(".pop"), event.target.querySelector("summary"));
  }, true);
  document.addEventListener("scroll", (event) => {
    if (event.target.closest?.(".pop")) return;
    for (const open of document.querySelectorAll("details.define[open]")) open.open = false;
  }, { capture: true, passive: true });

  // The turns of a conversation: one more field, or all of them anew.
  const turns = () => [...document.querySelectorAll(".chat .turn")];
  const addTurn = (role, content = "") => {
    const rows = turns(), row = rows.at(-1).cloneNode(true), [hidden, box] = row.querySelectorAll("input, textarea");
    row.querySelector("span").textContent = role[0].toUpperCase() + role.slice(1);
    Object.assign(hidden, { name: `role${rows.length}`, value: role });
    Object.assign(box, { name: `turn${rows.length}`, value: content, placeholder: "" });
    rows.at(-1).after(row);
    return box;
  };
  window.turns = {
    show: (said) => {
      const old = turns();
      const [first, ...rest] = said.map(({ role, content }, i) => addTurn(role, content));
      for (const row of old) row.remove();
      turns().forEach((row, i) => row.querySelectorAll("input, textarea").forEach((field) => { field.name = field.name.replace(/\d+$/, i); }));
      return rest.at(-1) ?? first;
    },
  };
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-add-turn]")) return;
    addTurn(turns().at(-1).querySelector("input").value === "user" ? "assistant" : "user").focus();
  });

  // One box finds a neuron by its name, a token of the text on this page, and a page by its words.
  const entry = (href, label, hint) => {
    const item = document.createElement("li"), link = Object.assign(document.createElement("a"), { href });
    link.append(Object.assign(document.createElement("b"), { textContent: label }), " ", Object.assign(document.createElement("span"), { textContent: hint, className: "soft" }));
    item.dataset.made = "";
    item.append(link);
    return item;
  };
  const seek = (box) => {
    const list = document.getElementById("find-list"), typed = box.value.trim().toLowerCase();
    for (const item of list.querySelectorAll("[data-made]")) item.remove();
    for (const item of list.children) item.hidden = !typed.split(/\s+/).every((word) => item.dataset.words.includes(word));
    const tokens = typed ? [...document.querySelectorAll("#strip .tok")].filter((token) => token.textContent.toLowerCase().includes(typed)).slice(0, 8) : [];
    list.prepend(...tokens.map((token) => {
      const item = entry("#strip", token.textContent, `token ${token.dataset.i} of this text`);
      item.firstChild.dataset.token = token.dataset.i;
      return item;
    }));
    if (/^\d+\.\d+$/.test(typed)) list.prepend(entry(`${box.dataset.neurons}${typed}${box.dataset.model ? `?model=${encodeURIComponent(box.dataset.model)}` : ""}`, typed, "this neuron"));
    for (const item of list.children) delete item.dataset.first;
    const first = [...list.children].find((item) => !item.hidden);
    if (first) first.dataset.first = "";
  };
  document.addEventListener("input", (event) => { if (event.target.id === "find-box") seek(event.target); });
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "find-box" || event.key !== "Enter") return;
    event.preventDefault();
    document.querySelector("#find-list [data-first] a")?.click();
  });
  document.addEventListener("click", (event) => {
    const token = event.target.closest?.("[data-token]");
    if (!token) return;
    event.preventDefault();
    document.getElementById("find").close();
    document.querySelector(`#strip .tok[data-i="${token.dataset.token}"]`)?.click();
  });

  // Downloads and other pages are the browser's own submissions, not htmx's.
  document.addEventListener("submit", (event) => {
    if (event.submitter?.dataset.native !== undefined) event.stopImmediatePropagation();
  }, true);

  const moveRow = (row, step) => {
    const rows = [...row.closest("tbody").querySelectorAll("tr[tabindex]")];
    const next = rows[rows.indexOf(row) + step];
    if (!next) return;
    row.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      // The form one writes in, else the one that the page is about.
      const button = event.target.closest?.("form")?.querySelector("button.primary") ?? document.querySelector("[data-run]");
      if (button) { event.preventDefault(); button.form.requestSubmit(button); }
      return;
    }
    if (event.key === "Escape") for (const open of document.querySelectorAll("details.define[open]")) open.open = false;
    if (typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = event.target.closest?.("tr[tabindex]");
    if (row && event.target === row) {
      if (event.key === "ArrowDown") { event.preventDefault(); moveRow(row, 1); }
      if (event.key === "ArrowUp") { event.preventDefault(); moveRow(row, -1); }
      if (event.key === " ") { event.preventDefault(); row.querySelector("input[type=checkbox]")?.click(); }
      if (event.key === "Enter") row.querySelector("a.neuron")?.click();
    }
    if (event.key === "?") document.getElementById("keys").showModal();
    if (event.key === "/") { event.preventDefault(); document.getElementById("find").showModal(); }
    if (event.key === "s" && !document.querySelector("[data-share]")) copy(location.href, "Address");
    if (event.key === "s") document.querySelector("[data-share]")?.click();
  });

  // The strip of a text whose tokens are buttons (macro `strip`): one stop for the Tab key, arrows within.
  document.addEventListener("keydown", (event) => {
    const token = event.target.closest?.(".strip.picks .tok");
    if (!token || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...token.closest(".strip").querySelectorAll(".tok:not(:disabled)")], i = all.indexOf(token);
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: all.length - 1 }[event.key];
    if (!all[to]) return;
    event.preventDefault();
    token.tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  });

  // A refusal (app.core.pages.render_failure) goes where its form says; the form, what was typed in it, and what it would have
  // replaced stay, and so does the address.
  document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
    const place = ctx.hx?.refusal;
    if (!place) return;
    const form = ctx.sourceElement.closest("form"), itself = ctx.sourceElement === ctx.target;
    const slot = document.querySelector(`[data-refused="${CSS.escape(place)}"]`)
      ?? [!itself && form?.nextElementSibling, ctx.target?.querySelector?.(".refused"), !itself && form?.querySelector(".refused")].find((found) => found && found.matches(".refused"));
    if (!slot) return;
    Object.assign(ctx, { target: slot, swap: "innerHTML", push: "false", replace: "false" });
  });

  // What an answer brings along for another place of the page: the bar of what is at hand.
  document.addEventListener("htmx:after:swap", () => {
    for (const part of document.querySelectorAll("template[data-replaces]")) {
      document.getElementById(part.dataset.replaces)?.replaceChildren(part.content);
      part.remove();
    }
    markRows();
  });

  // What somebody asked for comes into sight, if none of it is: what a page asks for by itself leaves the page where it is.
  let asked = null;
  document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => { if (["submit", "click"].includes(ctx.sourceEvent?.type)) asked = ctx; });
  document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (!asked || ctx !== asked) return;
    asked = null;
    const id = ctx.target?.id, answer = id ? document.getElementById(id) : null;
    if (!answer || !answer.offsetParent) return;
    const { top, bottom } = answer.getBoundingClientRect();
    if (top > window.innerHeight - 120 || bottom < 60) answer.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  });

  document.addEventListener("htmx:error", (event) => announce(`Request failed: ${event.detail.error?.message ?? "no answer"}`));
  window.page = { announce, copy, typing };
})();
