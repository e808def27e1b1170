// What every page has: dialogs, copy buttons, definitions that close, rows that arrows move over, messages for screen readers.
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

  document.addEventListener("DOMContentLoaded", () => reveal(document));
  document.addEventListener("htmx:after:process", (event) => reveal(event.target));

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) document.getElementById(opener.dataset.open).showModal();
    const copier = event.target.closest("[data-copy]");
    if (copier) copy(copier.previousElementSibling.textContent, "Code").then(() => { copier.textContent = "Copied"; });
    for (const open of document.querySelectorAll("details.define[open]")) if (!open.contains(event.target)) open.open = false;
  });

  const moveRow = (row, step) => {
    const rows = [...row.closest("tbody").querySelectorAll("tr[tabindex]")];
    const next = rows[rows.indexOf(row) + step];
    if (!next) return;
    row.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };

  document.addEventListener("keydown", (event) => {
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
