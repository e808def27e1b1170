// The chosen theme, before the first paint. "system" follows prefers-color-scheme by having no data-theme.
(() => {
  const order = ["system", "light", "dark"];
  const read = () => { try { return localStorage.getItem("theme") || "system"; } catch { return "system"; } };
  const apply = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const button = document.querySelector("[data-theme-switch]");
    if (button) {
      button.textContent = { system: "◐", light: "☀", dark: "☾" }[theme];
      button.title = `Theme: ${theme}`;
      button.setAttribute("aria-label", button.title);
      button.hidden = false;
    }
    document.dispatchEvent(new CustomEvent("theme"));
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    apply(read());
    document.querySelector("[data-theme-switch]").addEventListener("click", () => {
      const next = order[(order.indexOf(read()) + 1) % order.length];
      try { localStorage.setItem("theme", next); } catch { /* private window: this page only */ }
      apply(next);
    });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(read()));
})();
