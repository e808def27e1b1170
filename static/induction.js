// The induction page: keys, clicks on charts that stand for a button, and the field for one's own text.
(() => {
  const form = () => document.querySelector("#lab");

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !form()) return;
    event.preventDefault();
    form().requestSubmit(form().querySelector("button.primary"));
  });

  // Downloads and other pages are the browser's own submissions, not htmx's.
  document.addEventListener("submit", (event) => {
    if (event.submitter?.dataset.native !== undefined) event.stopImmediatePropagation();
  }, true);

  // A point may say "act:clip:3.17": press its panel's button with that value.
  document.addEventListener("plot:click", (event) => {
    const said = [event.detail.customdata].flat()[0];
    const button = event.target.closest(".panel")?.querySelector("[data-act]");
    if (typeof said !== "string" || !said.startsWith("act:") || !button) return;
    button.value = said.slice(4);
    button.click();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-share]");
    if (!button) return;
    window.page.copy(location.href, "Address");
    button.textContent = "Copied";
  });

  // Once the rows are edited, what is kept belongs to others.
  document.addEventListener("input", (event) => {
    if (event.target.closest("[data-rows]")) document.querySelector("#result [name=saved]").value = "";
  });

  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-kind]")) return;
    const own = document.querySelector("[data-own-text]");
    own.open = event.target.value === "text";
    if (own.open) own.querySelector("textarea").focus();
  });
})();
