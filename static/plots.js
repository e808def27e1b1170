// The island that draws figures: every [data-plotly] with a JSON script behind it, after load and after each htmx swap.
// Colours come as CSS variables and are resolved here, so a chart follows the theme. plotly.js is fetched when the first chart appears.
(() => {
  const source = document.currentScript.dataset.plotlySrc;
  let loading = null;
  // A page in one file brings its data and a reduced build along, packed (app.core.packed).
  const unpacked = async (element) => {
    const bytes = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const reduced = async () => {
    const script = document.createElement("script");
    script.textContent = await unpacked(document.getElementById("plotly-packed"));
    document.head.append(script);
    return window.Plotly;
  };
  const plotly = () => loading ??= document.getElementById("plotly-packed") ? reduced()
    : window.Plotly ? Promise.resolve(window.Plotly) : new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = () => resolve(window.Plotly);
    script.onerror = reject;
    document.head.append(script);
  });

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const resolve = (value) => {
    if (typeof value === "string") return value.replace(/var\((--[\w-]+)\)/g, (_, name) => css(name));
    if (Array.isArray(value)) return value.map(resolve);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolve(v)]));
    return value;
  };

  const axisLook = () => ({
    gridcolor: css("--grid"), zerolinecolor: css("--quiet"), linecolor: css("--grid"), tickcolor: css("--grid"),
    automargin: true, zeroline: false, title: { font: { size: 12, color: css("--soft") }, standoff: 8 },
  });
  const merge = (base, over) => {
    const out = { ...base };
    for (const [key, value] of Object.entries(over ?? {})) {
      const both = value && typeof value === "object" && !Array.isArray(value) && out[key] && typeof out[key] === "object";
      out[key] = both ? merge(out[key], value) : value;
    }
    return out;
  };
  const bar = { outlinewidth: 0, thickness: 13 };
  const template = {
    layout: { coloraxis: { colorbar: bar } },
    data: { heatmap: [{ colorbar: bar }], scatter: [{ marker: { colorbar: bar } }], scattergl: [{ marker: { colorbar: bar } }] },
  };
  const look = ({ template: _, ...layout }) => {
    const out = merge({
      template,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      font: { family: css("--sans"), size: 12, color: css("--soft") },
      title: { font: { size: 14, color: css("--ink") }, x: 0, xref: "paper", xanchor: "left" },
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--line"), font: { family: css("--mono"), size: 12, color: css("--ink") }, align: "left" },
      legend: { font: { color: css("--ink") } }, modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--ink") },
    }, layout);
    for (const key of Object.keys({ xaxis: 0, yaxis: 0, ...layout })) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      out[key] = merge(axisLook(), out[key]);
      // One kind of tick: within few decades plain numbers, over many powers of ten; never small digits between large ones.
      if (out[key].type === "log") Object.assign(out[key], { minorloglabels: "complete" }, out[key].dtick === 1 ? {} : { exponentformat: "none", tickformat: "~g" }); // one size, too
    }
    return out;
  };
  const config = { responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: matchMedia("(pointer: coarse)").matches ? false : "hover", scrollZoom: false,
    modeBarButtonsToRemove: ["lasso2d", "select2d", "toImage", "autoScale2d"] };

  // On a phone the scale of colours lies under the chart, and what stands beside the map (meta.wide) is left out.
  const NARROW = 520;
  const narrowed = ({ data, layout }) => {
    const under = { orientation: "h", thickness: 8, x: 0.5, xanchor: "center", len: 0.9, y: 0, yref: "container", yanchor: "bottom" };
    const flat = (colorbar) => ({ ...colorbar, ...under, title: { ...colorbar.title, side: "bottom" } });
    let scaled = false;
    const shown = data.filter(({ meta }) => !meta?.wide).map((trace) => {
      const bar = trace.colorbar ?? trace.marker?.colorbar;
      if (!bar) return trace;
      scaled = true;
      return trace.colorbar ? { ...trace, colorbar: flat(bar) } : { ...trace, marker: { ...trace.marker, colorbar: flat(bar) } };
    });
    const out = { ...layout };
    if (layout.coloraxis?.colorbar) {
      scaled = true;
      out.coloraxis = { ...layout.coloraxis, colorbar: flat(layout.coloraxis.colorbar) };
    }
    if (layout.meta?.wide) for (const axis of ["xaxis", "yaxis"]) out[axis] = { ...layout[axis], domain: [0, 1] };
    if (scaled) Object.assign(out, { height: layout.height + 60, margin: { ...layout.margin, b: (layout.margin?.b ?? 46) + 70 } });
    return { data: shown, layout: out };
  };

  const figureOf = (element) => {
    const script = element.parentElement.querySelector("script");
    return script?.type === "text/plain" ? unpacked(script).then(JSON.parse) : script && JSON.parse(script.textContent);
  };

  // Labels of an axis need about 13 px each; where there is less, every second or third stands.
  const thin = (element) => {
    const axes = Object.entries(element._figure.layout).filter(([name, axis]) => /^xaxis/.test(name) && axis.ticktext);
    const changes = {};
    for (const [name, axis] of Object.entries(element._fullLayout)) {
      if (/^xaxis/.test(name) && axis.type === "log" && axis.dtick === "D1" && axis._length < 360) changes[`${name}.dtick`] = "D2";
    }
    for (const [name, { tickvals, ticktext }] of axes) {
      const step = Math.ceil((13 * ticktext.length) / Math.max(60, element._fullLayout[name]._length));
      if (step > 1) Object.assign(changes, { [`${name}.tickvals`]: tickvals.filter((_, i) => i % step === 0), [`${name}.ticktext`]: ticktext.filter((_, i) => i % step === 0) });
    }
    if (Object.keys(changes).length) window.Plotly.relayout(element, changes);
  };

  // The neurons at hand (of the bar) in every chart: a ring with the name around a point, a band over a row or bar.
  const chosen = () => (document.querySelector("#state [data-at-hand]")?.dataset.atHand ?? "").split(" ").filter(Boolean);
  const named = (said) => [said].flat().map((part) => (typeof part === "string" ? /(?:^|[/:])(\d+\.\d+)$/.exec(part)?.[1] : null)).find(Boolean);
  const mark = async (element) => {
    const names = new Set(chosen());
    const rings = new Map(), bands = [];
    for (const { type, mode, customdata, x, y, xaxis, yaxis } of names.size ? element._fullData : []) {
      if (/^scatter/.test(type) && customdata && /markers/.test(mode)) {
        [...customdata].forEach((said, i) => { if (names.has(named(said))) rings.set(named(said), { x: [x[i]], y: [y[i]], xaxis, yaxis }); });
      }
      for (const [axis, values] of type === "heatmap" || type === "bar" ? [["y", y], ["x", x]] : []) {
        [...(values ?? [])].forEach((value, i) => { if (names.has(value)) bands.push({ axis, i }); });
      }
    }
    if (bands.length) {
      const shape = ({ axis, i }) => ({ type: "rect", xref: axis === "x" ? "x" : "paper", yref: axis === "y" ? "y" : "paper", line: { color: css("--mark"), width: 1.5 },
        ...(axis === "y" ? { y0: i - 0.5, y1: i + 0.5, x0: 0, x1: 1 } : { x0: i - 0.5, x1: i + 0.5, y0: 0, y1: 1 }) });
      const seen = new Set(), once = bands.filter(({ axis, i }) => !seen.has(axis + i) && seen.add(axis + i));
      await window.Plotly.relayout(element, { shapes: [...(element.layout.shapes ?? []), ...once.map(shape)] });
    }
    const look = { type: "scatter", mode: "markers+text", showlegend: false, hoverinfo: "skip", textposition: "bottom center",
      textfont: { size: 11, color: css("--mark") }, marker: { size: 16, symbol: "circle-open", color: css("--mark"), line: { width: 2, color: css("--mark") } } };
    if (!rings.size) return;
    const written = new Set(element._fullData.flatMap(({ mode, text }) => (/text/.test(mode ?? "") && Array.isArray(text) ? text : [])));
    if (element.data.length === 1) await window.Plotly.relayout(element, { showlegend: false });  // a second trace would bring one
    await window.Plotly.addTraces(element, [...rings].map(([name, where]) => ({ ...look, ...where, text: [written.has(name) ? "" : name], name })));
  };

  const draw = async (element) => {
    const figure = await (element._figure ??= figureOf(element));
    element._figure = figure;
    if (!figure) return;
    const Plotly = await plotly();
    if (!element.isConnected) return;
    const least = figure.layout.meta?.least;  // pixels: a narrower window scrolls it
    if (least) { element.style.minWidth = `${least}px`; element.parentElement.classList.add("wide"); element.parentElement.tabIndex = 0; }
    const { data, layout } = element.clientWidth < NARROW ? narrowed(figure) : figure;
    await Plotly.react(element, resolve(data), look(resolve(layout)), config);
    if (least && !element._bound) element.parentElement.scrollLeft = element.scrollWidth;  // where what it is of stands
    element.dataset.drawn = "true";
    thin(element);
    await mark(element);
    if (element._bound) return;
    element._bound = true;
    // What a click does is said by the trace (app.core.theme.OPENS): customdata may hold a model's tokens, and a token may look
    // like an address. Pages with more to say listen to `plot:click`.
    element.on("plotly_click", (event) => {
      const { x, y, customdata, data } = event.points[0];
      const detail = { x, y, customdata, click: data?.meta?.click, element };
      const unhandled = element.dispatchEvent(new CustomEvent("plot:click", { bubbles: true, cancelable: true, detail }));
      const link = [customdata].flat()[0];
      if (!unhandled || detail.click !== "open" || !link) return;
      const address = new URL(link, window.location.href);
      if (address.origin === window.location.origin) window.location.assign(address);
    });
    element.dispatchEvent(new CustomEvent("plot:drawn", { bubbles: true }));
  };
  const drawAll = (root) => {
    const found = [...(root.querySelectorAll?.("[data-plotly]") ?? [])];
    if (root.matches?.("[data-plotly]")) found.push(root);
    // What is hidden has no size yet; whoever reveals it calls `plots.drawAll`.
    for (const element of found) if (!element.dataset.drawn && element.offsetParent !== null) draw(element);
    for (const button of root.querySelectorAll?.(".chart-tools button") ?? []) button.hidden = false;
  };

  document.addEventListener("DOMContentLoaded", () => drawAll(document));
  document.addEventListener("htmx:after:process", (event) => drawAll(event.target));
  document.addEventListener("htmx:before:cleanup", (event) => {
    if (window.Plotly) for (const element of event.target.querySelectorAll?.("[data-drawn]") ?? []) window.Plotly.purge(element);
  });
  // Other colours, or other neurons at hand.
  for (const change of ["theme", "hand"]) document.addEventListener(change, () => {
    for (const element of document.querySelectorAll("[data-drawn]")) draw(element);
  });

  // Paper is light: style sheets know, charts have to be drawn anew (at once, as plotly.js is there by then).
  let screen = null;
  window.addEventListener("beforeprint", () => {
    screen = document.documentElement.dataset.theme ?? "";
    document.documentElement.dataset.theme = "light";
    for (const element of document.querySelectorAll("[data-drawn]")) draw(element);
  });
  window.addEventListener("afterprint", () => {
    if (screen === null) return;
    if (screen) document.documentElement.dataset.theme = screen;
    else delete document.documentElement.dataset.theme;
    screen = null;
    for (const element of document.querySelectorAll("[data-drawn]")) draw(element);
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-plot]");
    if (!button) return;
    const chart = button.closest(".chart");
    const element = chart.querySelector("[data-plotly]");
    if (button.dataset.plot === "maximise") {
      const large = chart.classList.toggle("maximised");
      button.textContent = large ? "Restore" : "Maximise";
      element._height ??= element._figure.layout.height;
      await window.Plotly.relayout(element, { height: large ? window.innerHeight - 120 : element._height, autosize: true });
      return;
    }
    window.Plotly.downloadImage(element, { format: button.dataset.plot, filename: chart.dataset.chart, width: 1200, height: 700, scale: 2 });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    document.querySelector(".chart.maximised [data-plot=maximise]")?.click();
  });

  // A file's own numbers, as a file of their own.
  document.addEventListener("DOMContentLoaded", () => { for (const button of document.querySelectorAll("[data-save]")) button.hidden = false; });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-save]");
    if (!button) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await unpacked(document.getElementById(button.dataset.save))], { type: "application/json" }));
    link.download = button.dataset.as;
    link.click();
    URL.revokeObjectURL(link.href);
  });

  // For the scripts of single pages: draw a changed figure again with the same look.
  window.plots = { draw, drawAll, css };

  // A point of a trace that presses says "clip:3.17": press its panel's button with that value.
  document.addEventListener("plot:click", (event) => {
    const said = [event.detail.customdata].flat()[0];
    const button = event.target.closest(".panel")?.querySelector("[data-act]");
    if (event.detail.click !== "press" || typeof said !== "string" || !button) return;
    button.value = said;
    button.click();
  });
})();
