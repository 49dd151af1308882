// Makes the pages live. Everything here is a comfort: without it the same pages work by forms and links.
// The time always comes from the server (`data-now`); the device's clock only measures what has passed since.
"use strict";
(() => {
  const $ = (selector, from = document) => from.querySelector(selector);
  const all = (selector) => document.querySelectorAll(selector);
  const spread = (ms) => ms * (0.85 + Math.random() * 0.3);
  const REFRESH_AFTER_HIDDEN_MS = 60_000, POLL_MS = 5_000, POLL_MS_MAX = 60_000, CONNECT_MS = 8_000, READY_AGAIN_MS = 10_000;

  let base = 0, anchored = 0;
  const anchor = (ms) => { base = Number(ms) || 0; anchored = Date.now(); };
  const now = () => base + Date.now() - anchored;
  const say = (text, shown = false) => {
    const el = $("#say");
    if (!el || text === undefined || (el.textContent === text && el.classList.contains("sr") !== shown)) return;
    el.textContent = text;
    el.classList.toggle("sr", !shown);
  };

  // Countdown, spoken marks, and what changes by itself when a moment is reached.
  const two = (n) => String(n).padStart(2, "0");
  const words = (ms, day) => {
    const s = Math.max(0, Math.ceil(ms / 1000)), d = Math.floor(s / 86400);
    const h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
    return (d ? d + day + " " : "") + (d || h ? two(h) + ":" : "") + two(m) + ":" + two(s % 60);
  };
  const spoken = new Set();
  const tick = () => {
    const t = now();
    for (const el of all("[data-until]")) {
      const until = Number(el.dataset.until), left = until - t;
      const text = words(left, el.dataset.day);
      if (el.textContent !== text) el.textContent = text;
      for (const mark of ["60", "30"]) {
        const sentence = el.getAttribute("data-say-" + mark);
        const key = mark + "@" + until;
        if (!sentence || spoken.has(key) || left > mark * 1000) continue;
        spoken.add(key);
        if (left > (mark - 10) * 1000) say(sentence);
      }
      if (left <= 0 && el.hasAttribute("data-then-refresh") && !spoken.has("end@" + until)) {
        spoken.add("end@" + until);
        setTimeout(refresh, 1000 + Math.random() * 2000);
      }
    }
    // A deal opens and ends by the server's time without asking the server: a million pages do it at once.
    const deal = $("[data-starts]");
    if (!deal) return;
    const phase = t < Number(deal.dataset.starts) ? "before" : t < Number(deal.dataset.ends) ? "open" : "ended";
    const next = $(`[data-phase="${phase}"]`, deal);
    if (!next || !next.hidden) return;
    for (const el of deal.querySelectorAll("[data-phase]")) el.hidden = el !== next;
    say(next.dataset.say);
  };

  // Replaces the live part of the page by what the server says now. XHR parses without running scripts.
  let loading = false;
  function refresh(done) {
    const here = $("#live")?.dataset.here;
    if (loading || !here) return typeof done === "function" && done(true);
    loading = true;
    const request = new XMLHttpRequest();
    request.open("GET", here);
    request.responseType = "document";
    request.timeout = 10_000;
    request.onloadend = () => {
      loading = false;
      const old = $("#live"), page = request.response, fresh = request.status === 200 && page && $("#live", page);
      if (old && fresh) {
        const changed = old.dataset.key !== fresh.dataset.key, focused = old.contains(document.activeElement);
        old.replaceWith(document.importNode(fresh, true));
        anchor(page.body.dataset.now);
        document.title = page.title;
        if (!$("#say").classList.contains("sr")) say("");
        if (changed) {
          say(fresh.dataset.say);
          if (focused) $("#live h2")?.focus();
        }
        follow();
        tick();
      }
      if (typeof done === "function") done(Boolean(fresh));
    };
    request.send();
  }

  // Right after the shopper pressed pay (and only then) the provider's page opens by itself, once.
  let mayFollow = location.hash === "#pay";
  if (mayFollow) history.replaceState(null, "", location.pathname + location.search);
  function follow() {
    const link = $("a[data-provider]");
    if (!mayFollow || !link) return;
    mayFollow = false;
    location.assign(link.href);
  }

  // Order events; polling while they do not arrive.
  let events = null, pollTimer = 0, wait = POLL_MS;
  const ended = () => !$("#live")?.dataset.events;
  const stopPolling = () => { clearTimeout(pollTimer); pollTimer = 0; wait = POLL_MS; };
  const poll = () => {
    if (pollTimer || ended()) return;
    pollTimer = setTimeout(() => refresh((ok) => {
      pollTimer = 0;
      wait = ok ? POLL_MS : Math.min(POLL_MS_MAX, wait * 2);
      if (!ok) say($("#live")?.dataset.offline, true);
      if (ended()) return close();
      if (!events || events.readyState !== 1) poll();
    }), spread(wait));
  };
  function close() { stopPolling(); events?.close(); events = null; }
  function connect() {
    close();
    if (ended()) return;
    if (!window.EventSource) return poll();
    events = new EventSource($("#live").dataset.events);
    events.onopen = stopPolling;
    events.onerror = poll;
    events.addEventListener("order", (message) => {
      stopPolling();
      let order;
      try { order = JSON.parse(message.data); } catch { return poll(); }
      const key = order.state + ":" + (order.payment ? order.payment.state : "");
      if (key !== $("#live")?.dataset.key) refresh(() => { if (ended()) close(); });
    });
    setTimeout(() => { if (events && events.readyState === 0) poll(); }, CONNECT_MS);
  }

  const ready = () => {
    for (const form of all("form[data-sent]")) delete form.dataset.sent;
    for (const button of all("[aria-disabled]")) button.removeAttribute("aria-disabled");
  };
  // One press, one request; the server would make one order of two as well.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "1";
    event.submitter?.setAttribute("aria-disabled", "true");
    setTimeout(ready, READY_AGAIN_MS); // the request may have been stopped: the form must not stay dead
  });
  document.addEventListener("change", (event) => {
    const total = event.target.selectedOptions?.[0]?.dataset.total, out = $("#total");
    if (total && out) out.textContent = total;
  });
  let hiddenAt = 0;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenAt = Date.now();
    else if (hiddenAt && Date.now() - hiddenAt > REFRESH_AFTER_HIDDEN_MS) refresh(connect);
  });
  addEventListener("online", () => refresh(connect));
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    ready();
    refresh(connect);
  });
  addEventListener("pagehide", close);

  anchor(document.body.dataset.now);
  const total = $("#total");
  if (total) { total.closest("[hidden]")?.removeAttribute("hidden"); $("select")?.dispatchEvent(new Event("change", { bubbles: true })); }
  ($("[aria-invalid=true]") || $("[data-focus]"))?.focus();
  follow();
  connect();
  tick();
  setInterval(tick, 500);
})();
