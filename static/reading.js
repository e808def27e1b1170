// Numbers, tokens and colours as the server prints them (app/core/format.py, app/core/escape.py); a browser test compares the two.
(() => {
  const MISSING = "–";
  // toFixed rounds what the double holds, as Python does, but a tie upwards where Python takes the even digit.
  const fixed = (v, digits) => {
    const tail = v.toFixed(digits + 25).slice(-25);
    const tie = tail[0] === "5" && !/[^0]/.test(tail.slice(1));
    const rounded = v.toFixed(digits);
    if (!tie || Number(rounded.at(-1)) % 2 === 0) return rounded;
    return v.toFixed(digits + 1).slice(0, digits ? -1 : -2);
  };
  const minus = (text) => text.replace(/^-/, "−");

  const num = (v, digits = 3) => {
    if (v === null || v === undefined || Number.isNaN(v)) return MISSING;
    if (v === 0) return "0";
    if (Math.abs(v) < 1e5 && Math.abs(v) >= 10 ** -digits) return minus(fixed(v, digits));
    const [mantissa, exponent] = v.toExponential(2).split("e");
    return minus(`${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`);
  };
  const percent = (v, digits = 1) => (v === null || v === undefined || Number.isNaN(v) ? MISSING : minus(`${fixed(100 * v, digits)} %`));

  const NAMED = { " ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u0000": "␀" };
  const HIDDEN = /[\p{C}\p{Z}]/u;
  const visible = (text, named = NAMED) =>
    [...text].map((c) => named[c] ?? (HIDDEN.test(c) ? `⟨${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩` : c)).join("");
  // A text that goes on over lines: spaces stay spaces but where a token consists of them alone, a line end also breaks the line.
  const flowing = (text) => (text.trim() ? visible(text, { ...NAMED, " ": " ", "\n": "⏎\n" }) : visible(text, { ...NAMED, "\n": "⏎\n" }));

  // cividis, ten stops: magnitude is carried by luminance, also for colour-blind readers.
  const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
  const mix = (a, b, t) => a.map((v, i) => Math.round(v + (b[i] - v) * t));
  const sequential = (t) => {
    const x = Math.min(Math.max(t, 0), 1) * (CIVIDIS.length - 1);
    const i = Math.min(Math.floor(x), CIVIDIS.length - 2);
    return mix(CIVIDIS[i], CIVIDIS[i + 1], x - i);
  };

  window.reading = { num, percent, visible, flowing, mix, sequential, stops: CIVIDIS };
})();
