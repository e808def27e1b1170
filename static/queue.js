// A request that takes longer than a second says where it stands: its place in the device's queue, or that it is being computed.
(() => {
  const AFTER = 1000, EVERY = 1000;
  const pending = new Set();
  const chip = Object.assign(document.createElement("p"), { className: "queue-chip", hidden: true });
  chip.setAttribute("role", "status");
  document.addEventListener("DOMContentLoaded", () => document.body.append(chip));
  const address = new URL("../api/v1/queue", document.currentScript.src);
  let timer = null;

  const say = (rows) => {
    const waiting = rows.filter((row) => row.state === "waiting" && row.lane === "interactive");
    const ahead = Math.min(...waiting.map((row) => row.ahead));
    chip.textContent = waiting.length ? `Waiting for the device: ${ahead} ${ahead === 1 ? "request goes" : "requests go"} first` : "Being computed";
    chip.hidden = false;
  };

  const look = async () => {
    timer = null;
    if (!pending.size) return;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      const rows = answer.ok ? (await answer.json()).rows : null; // read even when it comes too late: a body left unread stays open
      if (rows && pending.size) say(rows);
    } catch { /* the request itself will say that the server is gone */ }
    if (pending.size) timer = setTimeout(look, EVERY);
  };

  document.addEventListener("htmx:before:request", (event) => {
    pending.add(event.detail.ctx);
    timer ??= setTimeout(look, AFTER);
  });
  document.addEventListener("htmx:finally:request", (event) => {
    pending.delete(event.detail.ctx);
    if (pending.size) return;
    clearTimeout(timer);
    timer = null;
    chip.hidden = true;
  });
})();
