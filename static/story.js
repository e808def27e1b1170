// The story: each slider runs over exact numbers that are already in the page, and moves what its step says. No request.
(() => {
  const { sequential } = window.reading;
  const num = (v, digits = 2) => window.reading.num(v, digits);
  const colour = (t) => `rgb(${sequential(t)})`;
  const percent = (p) => window.reading.percent(p, p < 0.1 ? 1 : 0);

  const start = (root) => {
    const data = JSON.parse(root.querySelector("#story-data").textContent);
    const say = (step, ...parts) => root.querySelector(`[data-reads="${step}"]`).replaceChildren(...parts.map((part) =>
      typeof part === "string" ? part : Object.assign(document.createElement("b"), { textContent: part[0] })));
    const bar = (item, name, share, text) => {
      const found = item.querySelector(`[data-bar="${name}"]`);
      found.style.width = `${Math.min(100, 100 * share)}%`;
      found.nextElementSibling.textContent = text;
    };
    const dot = (item, name, at, value) => {
      const found = item.querySelector(`[data-dot="${name}"]`), { low, high } = found.parentElement.dataset;
      found.style.left = `${100 * at}%`;
      found.style.top = `${100 - (100 * (value - low)) / (high - low || 1)}%`;
    };
    const show = {
      scaled: (item, i) => {
        const { factors, entropy, log_vocab: most } = data.scaled;
        const here = entropy.map((values) => values[i]);
        [...item.querySelectorAll(".tok")].forEach((token, t) => {
          token.style.setProperty("--c", colour(here[t] / most));
          token.style.setProperty("--h", `${2 + (20 * here[t]) / most}px`);
          token.title = `entropy ${num(here[t])} nats`;
        });
        say("scaled", "× ", [num(factors[i], 1)], " mean entropy ", [num(here.reduce((a, b) => a + b, 0) / here.length)], " nats");
      },
      held: (item, i) => {
        const { scales, probs, entropy } = data.held, most = Math.max(...probs.flat());
        probs[i].forEach((p, t) => bar(item, t, p / most, percent(p)));
        say("held", "s ", [num(scales[i])], " entropy ", [num(entropy[i])], " nats");
      },
      unread: (item, i) => {
        const { amounts, null: none, read } = data.unread, most = Math.max(...read.change, ...none.change), scale = Math.max(...none.ln_scale);
        bar(item, "s", none.ln_scale[i] / scale, num(none.ln_scale[i]));
        bar(item, "null", none.change[i] / most, num(none.change[i]));
        bar(item, "read", read.change[i] / most, num(read.change[i]));
        say("unread", "moved by ", [num(amounts[i], 1)], " · bars: change of ln P, s held");
      },
      entropy: (item, i) => {
        const dial = data.entropy, at = i / (dial.values.length - 1);
        dot(item, "entropy", at, dial.entropy[i]);
        dot(item, "ln_scale", at, dial.ln_scale[i]);
        say("entropy", "H ", [num(dial.entropy[i])], ", s ", [num(dial.ln_scale[i])], " kept ", [`${dial.kept[i]}`], ` (grey ${num(dial.random_kept[i], 0)})`);
      },
      frequency: (item, i) => {
        const dial = data.frequency, low = Math.min(...dial.frequency), high = Math.max(...dial.frequency), span = (v) => (100 * (v - low)) / (high - low);
        item.querySelector("[data-points]").setAttribute("d", dial.frequency.map((x, k) => `M${span(x).toFixed(1)} ${Math.min(100, Math.max(0, 100 - span(dial.probability[i][k]))).toFixed(1)}h.01`).join(""));
        say("frequency", "at ", [num(dial.values[i])], ": KL to word counts ", [num(dial.kl_unigram[i])], " nats");
      },
    };
    for (const input of root.querySelectorAll("[data-step]")) {
      const move = () => show[input.dataset.step](input.closest("li"), Number(input.value));
      input.addEventListener("input", move);
      move();
    }
    // Folded away once, it stays so in this browser.
    try {
      if (root.tagName === "DETAILS" && document.getElementById("run")) {
        root.open = localStorage.getItem("story") !== "folded";
        root.addEventListener("toggle", () => localStorage.setItem("story", root.open ? "open" : "folded"));
      }
    } catch { /* private window */ }
  };
  const find = () => {
    const root = document.getElementById("story");
    if (!root?.querySelector("#story-data") || root.dataset.started) return;
    root.dataset.started = "";
    start(root);
  };
  document.addEventListener("DOMContentLoaded", find);
  document.addEventListener("htmx:after:swap", find);
})();
