// The induction page: the field for one's own text.
(() => {
  // Once the rows are edited, what is kept belongs to others.
  document.addEventListener("input", (event) => {
    if (event.target.closest("[data-rows]")) document.querySelector("#result [name=saved]").value = "";
  });

  // The field of corrupted tokens stands outside of what is swapped, and a press on the strip changes it.
  document.addEventListener("htmx:after:swap", () => {
    const now = document.querySelector("#result [data-corrupted]"), field = document.querySelector("#lab [name=corrupt_at]");
    if (now && field) field.value = now.dataset.corrupted;
  });

  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-kind]")) return;
    const own = document.querySelector("[data-own-text]");
    own.open = event.target.value === "text";
    if (own.open) own.querySelector("textarea").focus();
  });
})();
