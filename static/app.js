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
  };

  document.addEventListener("DOMContentLoaded", () => {
    reveal(document);
    // On a phone the navigation is wider than the screen; the page one is on stands in sight.
    const nav = document.querySelector(".top nav");
    const current = nav.querySelector("[aria-current]");
    if (current) nav.scrollLeft = current.offsetLeft - nav.offsetLeft - (nav.clientWidth - current.offsetWidth) / 2;
  });
  document.addEventListener("htmx:after:process", (event) => reveal(event.target));

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) document.getElementById(opener.dataset.open).showModal();
    const copier = event.target.closest("[data-copy]");
    if (copier) copy(copier.previousElementSibling.textContent, "Code").then(() => { copier.textContent = "Copied"; });
    const sharer = event.target.closest("button[type=button][data-share]");
    if (sharer) copy(location.href, "Address").then(() => { sharer.textContent = "Copied"; });
    for (const open of document.querySelectorAll("details.define[open]")) if (!open.contains(event.target)) open.open = false;
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
    if (event.key === "/") {
      const find = document.querySelector("[data-find]");
      if (find) { event.preventDefault(); find.closest("details")?.setAttribute("open", ""); find.focus(); find.select?.(); }
    }
    if (event.key === "s" && !document.querySelector("[data-share]")) copy(location.href, "Address");
    if (event.key === "s") document.querySelector("[data-share]")?.click();
  });

  document.addEventListener("htmx:error", (event) => announce(`Request failed: ${event.detail.error?.message ?? "no answer"}`));
  window.page = { announce, copy, typing };
})();
