// The token strip: colours from numbers that are already in the page, one popup, selection by mouse, touch and keyboard.
// It asks the server for nothing; choosing a token fires `token` on the strip, which htmx listens to.
(() => {
  const UNITS = { entropy: "nats", loss: "nats", kl_unigram: "nats", ln_scale: "", top1_prob: "" };
  const NAMES = { entropy: "entropy", loss: "loss", ln_scale: "LN scale", kl_unigram: "KL to unigram", top1_prob: "top-1 prob." };
  const { num: fmt, percent, visible, mix, sequential, stops: CIVIDIS } = window.reading;
  const hex = (name) => {
    const value = window.plots.css(name).replace("#", "");
    return [0, 2, 4].map((i) => parseInt(value.slice(i, i + 2), 16));
  };
  const diverging = (t) => {
    const x = Math.min(Math.max(t, -1), 1);
    return mix(hex("--zero"), hex(x < 0 ? "--down" : "--up"), Math.abs(x));
  };

  let data = null;
  let range = null;
  let locked = null;
  const $ = (id) => document.getElementById(id);
  const strip = () => $("strip");
  const tokens = (root = strip()) => [...root.querySelectorAll(".tok")];
  const control = (name) => {
    const found = document.querySelectorAll(`#run [name="${name}"][data-strip-control]`);
    return found.length === 1 && found[0].type !== "radio" ? found[0].value : [...found].find((input) => input.checked)?.value;
  };
  const selected = () => { const field = document.querySelector('#run input[name="pos"]'); return field && field.value !== "" ? Number(field.value) : null; };

  const series = (run, metric) => data[run] && (data[run][metric] ?? data[run].activations?.[metric] ?? null);

  const values = () => {
    const metric = control("metric") ?? "entropy";
    const show = data.intervened ? control("show") ?? "clean" : "clean";
    const clean = series("clean", metric) ?? [];
    if (show !== "change") return { metric, show, shown: series(show, metric) ?? clean, pinned: series("pinned", metric) };
    const after = series("intervened", metric) ?? [];
    const beside = series("pinned", metric);
    return { metric, show, shown: clean.map((v, i) => (v === null || after[i] === null ? null : after[i] - v)), pinned: beside };
  };

  // The same limits for every run of a metric, so that colours can be compared.
  const limits = (metric, show, shown, pinned) => {
    const kept = (list) => (list ?? []).slice(data.skip).filter((v) => v !== null);
    if (show === "change") {
      const most = Math.max(...kept(shown).map(Math.abs), 0) || 1;
      return [-most, most];
    }
    if (control("scale") === "fixed" && metric !== "ln_scale" && NAMES[metric]) return [0, metric === "top1_prob" ? 1 : data.log_vocab];
    const all = [...kept(series("clean", metric)), ...kept(series("intervened", metric)), ...kept(pinned)];
    if (!all.length) return [0, 1];
    const low = Math.min(...all);
    const high = Math.max(...all);
    return high > low ? [low, high] : [low, low + 1];
  };

  const paint = (elements, list, [low, high], change) => {
    for (const element of elements) {
      const v = list?.[Number(element.dataset.i)];
      const off = v === null || v === undefined || element.classList.contains("bos");
      const rgb = off ? null : change ? diverging(v / high) : sequential((v - low) / (high - low));
      // The word stays ink on paper; its value is the height and the colour of the bar beneath. A change stands above or hangs below a line.
      const share = off ? 0 : change ? Math.min(Math.abs(v) / high, 1) : Math.min(Math.max((v - low) / (high - low), 0), 1);
      element.style.setProperty("--c", rgb ? `rgb(${rgb})` : "transparent");
      element.style.setProperty("--h", off ? "0px" : change ? `${0.5 + 6.5 * share}px` : `${2 + 12 * share}px`);
      element.classList.toggle("below", change && !off && v < 0);
    }
  };

  const colour = () => {
    if (!data || !strip()) return;
    const { metric, show, shown, pinned } = values();
    const change = show === "change";
    const ends = limits(metric, show, shown, pinned);
    strip().classList.toggle("signed", change);
    paint(tokens(), shown, ends, change);
    const beside = document.querySelector("[data-pinned]");
    if (beside) paint(tokens(beside), pinned, change ? limits(metric, "clean", pinned, pinned) : ends, false);
    const stops = change ? [-1, 0, 1].map((t) => `rgb(${diverging(t)})`) : CIVIDIS.map((c) => `rgb(${c})`);
    const ramp = document.querySelector(".legend .ramp");
    ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const unit = UNITS[metric] ? ` ${UNITS[metric]}` : "";
    document.querySelector("[data-legend=low]").textContent = fmt(ends[0], 2);
    document.querySelector("[data-legend=high]").textContent = fmt(ends[1], 2) + unit;
  };

  // --- popup: one for the strip; opens after 150 ms, closes 80 ms after leaving, never during a drag

  let timer = null;
  let dragging = false;
  const row = (cells, tag = "td") => {
    const tr = document.createElement("tr");
    cells.forEach((cell, i) => {
      const element = document.createElement(i === 0 ? "th" : tag);
      element.textContent = cell;
      tr.append(element);
    });
    return tr;
  };

  const fill = (tip, i) => {
    tip.replaceChildren();
    const title = Object.assign(document.createElement("p"), { className: "tip-title" });
    const bdi = document.createElement("bdi");
    bdi.textContent = visible(data.tokens[i]);
    title.append(bdi, ` · position ${i} · id ${data.ids[i]}`);
    const runs = ["clean", "intervened", "pinned"].filter((name) => data[name] && i < (name === "pinned" ? data.pinned_tokens.length : data.tokens.length));
    const table = document.createElement("table");
    if (runs.length > 1) table.append(row(["", ...runs], "th"));
    for (const key of ["entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", ...Object.keys(data.clean.activations ?? {})]) {
      if (!series("clean", key)) continue;
      table.append(row([NAMES[key] ?? `n ${key}`, ...runs.map((run) => fmt(series(run, key)?.[i], 4))]));
    }
    tip.append(title, table);
    const next = document.createElement("p");
    const after = data.tokens[i + 1];
    if (after === undefined) {
      next.textContent = "The text ends here.";
    } else {
      const loss = data.clean.loss[i];
      const token = document.createElement("bdi");
      token.textContent = visible(after);
      next.append("next ", token, ` · rank ${data.clean.rank[i]} · p ${fmt(Math.exp(-loss), 4)} · ln p ${fmt(-loss, 3)}`);
    }
    tip.append(next);
    const expected = Object.assign(document.createElement("p"), { className: "soft" });
    expected.textContent = "expects " + (data.top[i] ?? []).map(([text, p]) => `${visible(text)} ${percent(p)}`).join("  ");
    tip.append(expected);
  };

  const place = (tip, element) => {
    const box = element.getBoundingClientRect();
    tip.hidden = false;
    const left = Math.min(Math.max(8, box.left), document.documentElement.clientWidth - tip.offsetWidth - 8);
    const below = box.bottom + 6;
    const fits = below + tip.offsetHeight < window.innerHeight;
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${(fits ? below : Math.max(8, box.top - tip.offsetHeight - 6)) + window.scrollY}px`;
  };

  const open = (element) => {
    if (!data || dragging) return;
    clearTimeout(timer);  // one that would close it
    fill($("tip"), Number(element.dataset.i));
    place($("tip"), element);
  };
  const close = () => { clearTimeout(timer); locked = null; if ($("tip")) $("tip").hidden = true; };

  document.addEventListener("pointerover", (event) => {
    const token = event.target.closest?.("#strip .tok");
    if (!token || dragging || locked !== null || event.pointerType === "touch") return;
    clearTimeout(timer);
    if ($("tip").hidden) timer = setTimeout(() => open(token), 150);
    else open(token);
  });
  document.addEventListener("pointerout", (event) => {
    if (!event.target.closest?.("#strip .tok") || locked !== null || event.pointerType === "touch") return;
    clearTimeout(timer);
    timer = setTimeout(close, 80);
  });

  // --- selection

  const mark = () => {
    if (!strip()) return;
    const at = selected();
    for (const token of tokens()) {
      const i = Number(token.dataset.i);
      const on = i === at;
      token.setAttribute("aria-selected", on ? "true" : "false");
      token.tabIndex = on ? 0 : -1;
      token.classList.toggle("in-range", range !== null && i >= range[0] && i <= range[1]);
    }
    const where = document.querySelector("[data-where]");
    if (where && (where.value === "" || where.dataset.auto === where.value)) {
      where.value = range ? `${range[0]}-${range[1]}` : "";
      where.dataset.auto = where.value;
    }
    summary();
    document.dispatchEvent(new CustomEvent("strip:selected", { detail: { position: at, range } }));
  };

  const summary = () => {
    const line = $("range");
    line.hidden = range === null;
    if (range === null) return;
    const mean = (list) => {
      const kept = (list ?? []).slice(range[0], range[1] + 1).filter((v) => v !== null);
      return kept.length ? kept.reduce((a, b) => a + b, 0) / kept.length : null;
    };
    const text = ["entropy", "loss"].map((key) => {
      const before = fmt(mean(series("clean", key)));
      return data.intervened ? `mean ${key} ${before} → ${fmt(mean(series("intervened", key)))}` : `mean ${key} ${before}`;
    });
    line.textContent = `Tokens ${range[0]}–${range[1]} (${range[1] - range[0] + 1}): ${text.join(", ")} nats`;
  };

  const choose = (i, end = null) => {
    const at = Math.min(Math.max(i, 0), data.tokens.length - 1);
    range = end === null || end === at ? null : [Math.min(at, end), Math.max(at, end)];
    document.querySelector('#run input[name="pos"]').value = range ? range[0] : at;
    document.querySelector('#run input[name="to"]').value = range ? range[1] : "";
    mark();
    strip().dispatchEvent(new CustomEvent("token", { bubbles: true }));
  };

  let anchor = null;
  document.addEventListener("pointerdown", (event) => {
    const token = event.target.closest?.("#strip .tok");
    if (!token || event.button !== 0 || event.pointerType === "touch") return;
    anchor = Number(token.dataset.i);
    if (event.shiftKey && selected() !== null) anchor = selected();
  });
  document.addEventListener("pointermove", (event) => {
    if (anchor === null || !(event.buttons & 1)) return;
    const token = document.elementFromPoint(event.clientX, event.clientY)?.closest?.("#strip .tok");
    if (!token || Number(token.dataset.i) === anchor) return;
    dragging = true;
    close();
    const i = Number(token.dataset.i);
    range = [Math.min(anchor, i), Math.max(anchor, i)];
    mark();
  });
  document.addEventListener("pointerup", () => {
    if (dragging && range) {
      choose(range[0], range[1]);
      window.getSelection()?.removeAllRanges();
      setTimeout(() => { dragging = false; }, 0);
    }
    anchor = null;
  });

  document.addEventListener("click", (event) => {
    const token = event.target.closest?.("#strip .tok");
    if (!token) {
      if (locked !== null && !event.target.closest("#tip")) close();
      return;
    }
    event.preventDefault();  // the button would submit the whole form, which is what happens without JavaScript
    if (dragging) return;
    const i = Number(token.dataset.i);
    if (event.shiftKey && selected() !== null) { choose(selected(), i); return; }
    clearTimeout(timer);  // leaving the token before the click (a finger lifted) must not close what the click opens
    choose(i);
    open(token);
    locked = i;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      if (!$("tip")?.hidden) close();
      else if (range) { range = null; document.querySelector('#run input[name="to"]').value = ""; mark(); }
      return;
    }
    const token = event.target.closest?.("#strip .tok");
    if (!token || event.ctrlKey || event.metaKey || event.altKey) return;
    const i = Number(token.dataset.i);
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: data.tokens.length - 1 }[event.key];
    if (to === undefined || to < 0 || to >= data.tokens.length) return;
    event.preventDefault();
    if (event.shiftKey) {
      const start = range ? (i === range[1] ? range[0] : range[1]) : i;
      choose(start, to);
    } else {
      choose(to);
    }
    tokens()[to].focus();
    open(tokens()[to]);
    window.page.announce(`${visible(data.tokens[to])}, entropy ${fmt(data.clean.entropy[to])}`);
  });
  document.addEventListener("focusout", (event) => { if (event.target.closest?.("#strip .tok") && locked === null) close(); });

  const load = () => {
    const script = $("strip-data");
    if (!script || script._read) return;
    script._read = true;
    const first = data === null;
    data = JSON.parse(script.textContent);
    if (!first) {
      const kept = (run) => run.entropy.slice(data.skip).filter((v) => v !== null);
      const mean = (run) => fmt(kept(run).reduce((a, b) => a + b, 0) / kept(run).length);
      const after = data.intervened ? `, intervened ${mean(data.intervened)}` : "";
      window.page.announce(`${data.tokens.length} tokens, mean entropy ${mean(data.clean)}${after} nats`);
    }
    const end = document.querySelector('#run input[name="to"]').value;
    range = end === "" ? null : [selected(), Number(end)];
    close();
    colour();
    mark();
  };
  document.addEventListener("DOMContentLoaded", load);
  document.addEventListener("htmx:after:process", load);
  document.addEventListener("change", (event) => { if (event.target.matches?.("[data-strip-control]")) colour(); });
  document.addEventListener("theme", colour);
  window.strip = { choose };
})();
