// The induction page: clicks on charts that stand for a button, and the field for one's own text.
(() => {
  // A point may say "act:clip:3.17": press its panel's button with that value.
  document.addEventListener("plot:click", (event) => {
    const said = [event.detail.customdata].flat()[0];
    const button = event.target.closest(".panel")?.querySelector("[data-act]");
    if (typeof said !== "string" || !said.startsWith("act:") || !button) return;
    button.value = said.slice(4);
    button.click();
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
