// The map of the neurons: a click opens one, a lasso makes a list. Forms marked data-auto are sent when a choice changes.
(() => {
  let picked = [];
  const chart = () => document.querySelector('[data-chart="map"] [data-plotly]');

  const show = () => {
    const panel = document.getElementById("picked");
    if (!panel) return;
    panel.hidden = picked.length === 0;
    panel.querySelector("[data-count]").textContent = `${picked.length} neurons`;
    for (const form of panel.querySelectorAll("[data-picked]")) form.elements.neurons.value = picked.slice(0, 1000).join(",");
    if (picked.length) window.page.announce(`${picked.length} neurons picked`);
  };

  document.addEventListener("plot:drawn", (event) => {
    if (event.target !== chart() || event.target._picks) return;
    event.target._picks = true;
    event.target.on("plotly_selected", (selection) => {
      picked = [...new Set((selection?.points ?? []).map((point) => point.customdata).filter((name) => /^\d+\.\d+$/.test(name ?? "")))];
      show();
    });
  });

  document.addEventListener("plot:click", (event) => {
    const home = event.target.closest("[data-neurons-at]");
    const name = [event.detail.customdata].flat()[0];
    if (home && /^\d+\.\d+$/.test(name ?? "")) window.location.assign(home.dataset.neuronsAt + name + (home.dataset.neuronsQuery ?? ""));
  });

  document.addEventListener("click", (event) => {
    const drag = event.target.closest("[data-drag]");
    if (drag) {
      for (const button of document.querySelectorAll("[data-drag]")) button.setAttribute("aria-pressed", String(button === drag));
      window.Plotly.relayout(chart(), { dragmode: drag.dataset.drag });
    }
    if (event.target.closest("[data-copy-picked]")) window.page.copy(picked.join(", "), "List");
    if (event.target.closest("[data-clear-picked]")) { picked = []; show(); window.Plotly.restyle(chart(), { selectedpoints: [null] }); }
  });

  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form) form.requestSubmit();
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-mirror]")) document.getElementById(event.target.dataset.mirror).textContent = event.target.value;
  });
})();
