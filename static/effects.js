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
