// The induction page: the field for one's own text.
(() => {
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
