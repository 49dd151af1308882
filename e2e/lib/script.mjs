// The page's own script under a made-up status, in a browser whose time the test moves: for what takes minutes in life.

/** A status as the gate sends it. */
export function statusOf(change = {}) {
  return {
    room: "waiting", state: "waiting", number: 5, place: 40, lane: 0, chance: null, ahead: 100, behind: 10, eta_seconds: { low: 60, high: 240 },
    next_poll_ms: 5_000, now_ms: Date.now(), starts_at_ms: 0, claim_by_ms: null, degraded: false, notice: null, enter_path: "/", ...change,
  };
}

/**
 * Answers the page's questions from `answer(n)`, which returns a status, a number (an HTTP status) or
 * `{ status, headers }`; streams are refused. `asked` holds the time of each question by the page's own clock;
 * `asked.pending` counts those that are not answered yet.
 */
export async function script(page, answer) {
  const asked = Object.assign([], { pending: 0 });
  // The page knows of its questions before anybody else does: they take a while to come here, and its time moves on.
  await page.addInitScript(() => {
    const ask = window.fetch;
    window.asking = 0;
    window.fetch = (...what) => {
      window.asking += 1;
      window.askedAt = performance.now();
      return ask(...what).finally(() => (window.asking -= 1));
    };
  });
  await page.route("**/events", (route) => route.fulfill({ status: 404 }));
  await page.route("**/status", async (route) => {
    asked.pending += 1;
    try {
      asked.push(await page.evaluate(() => window.askedAt));
      const said = answer(asked.length - 1);
      if (typeof said === "number") await route.fulfill({ status: said });
      else if (said.headers) await route.fulfill(said);
      else await route.fulfill({ json: said });
    } catch (error) {
      // The page went away while it asked: nobody waits for this answer.
      if (!/destroyed|closed|navigation/i.test(String(error))) throw error;
    } finally {
      asked.pending -= 1;
    }
  });
  return asked;
}

/** Makes a page believe that its tab is behind another one (or in front again). */
export async function hide(page, hidden) {
  await page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
}

/** Keeps what the live regions say, with the time: `window.said`. */
export const listen = () => {
  window.said = [];
  document.addEventListener("DOMContentLoaded", () => {
    for (const id of ["say", "turn"]) {
      const region = document.getElementById(id);
      if (region) new MutationObserver(() => region.textContent && window.said.push({ id, text: region.textContent, at: performance.now() })).observe(region, { childList: true, characterData: true, subtree: true });
    }
  });
};
