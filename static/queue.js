// A request that takes longer than a second says where it stands, at the head of the panel that waits (over nothing that is
// there): its place in the device's queue, or that it is being computed, and for how long.
(() => {
  const AFTER = 1000, EVERY = 1000;
  const pending = new Map(); // request -> { since, sign }
  const address = new URL("../api/v1/queue", document.currentScript.src);
  let timer = null;

  // In the shape of what will come where there is one, else under the panel's title.
  const place = (target, sign) => {
    const waiting = target.matches(".waiting") ? target : target.querySelector(".waiting");
    const title = target.querySelector(":scope > h2, :scope > h3, :scope > h2:first-of-type");
    if (waiting) waiting.prepend(sign);
    else if (title) title.after(sign);
    else target.prepend(sign);
  };

  const say = (rows) => {
    const waiting = rows.filter((row) => row.state === "waiting" && row.lane === "interactive");
    const ahead = Math.min(...waiting.map((row) => row.ahead));
    for (const [{ target }, wait] of pending) {
      const seconds = Math.round((performance.now() - wait.since) / 1000);
      if (!target?.isConnected || target.matches("output") || performance.now() - wait.since < AFTER) continue;
      if (!wait.sign) {
        wait.sign = Object.assign(document.createElement("p"), { className: "stage" });
        wait.sign.setAttribute("role", "status");
        place(target, wait.sign);
      }
      wait.sign.textContent = waiting.length ? `Waiting for the device: ${ahead} ${ahead === 1 ? "request goes" : "requests go"} first` : `Being computed, ${seconds} s`;
    }
  };

  const look = async () => {
    timer = null;
    if (!pending.size) return;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      const rows = answer.ok ? (await answer.json()).rows : null; // read even when it comes too late: a body left unread stays open
      if (rows) say(rows);
    } catch { /* the request itself will say that the server is gone */ }
    if (pending.size) timer = setTimeout(look, EVERY);
  };

  document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
    pending.set(ctx, { since: performance.now(), sign: null });
    timer ??= setTimeout(look, AFTER);
  });
  document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
    pending.get(ctx)?.sign?.remove();
    pending.delete(ctx);
    if (pending.size) return;
    clearTimeout(timer);
    timer = null;
  });
})();
