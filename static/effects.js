// A cell of the heat map opens its token and its neuron on the prompt page. Texts never stand in addresses: a form is sent,
// of text areas, since an input would lose line ends.
document.addEventListener("plot:click", (event) => {
  const opens = event.detail.element.closest("#heatmap")?.querySelector("[data-opens]");
  if (!opens) return;
  event.preventDefault();
  const { x, y } = event.detail;
  const fields = { ...JSON.parse(opens.textContent), pos: x, find: y, watch: y };
  const form = Object.assign(document.createElement("form"), { method: "post", action: opens.dataset.opens, hidden: true });
  for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement("textarea"), { name, value }));
  document.body.append(form);
  form.submit();
});

// Token labels need about 11 px each; on a narrow screen numbers stand there instead.
document.addEventListener("plot:drawn", (event) => {
  const labels = event.target.closest("#heatmap") && event.target._figure.layout.xaxis.tickvals;
  if (labels && event.target.clientWidth - 170 < 11 * labels.length) {
    window.Plotly.relayout(event.target, { "xaxis.tickmode": "auto", "xaxis.tickangle": 0, "xaxis.title.text": "Position (token)" });
  }
});
