// Waiting rooms in every state that a shopper can see, all real: settings, and how somebody gets there.
import { until } from "./shop.mjs";

const HOUR_MS = 3_600_000;
/** A brown square, 24 x 24. */
const LOGO =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABgAAAAYCAIAAABvFaqvAAAAH0lEQVR42mOo0uOjCmIYNWjUoFGDRg0aNWjUoIE3CACN/pmQneQ9jAAAAABJRU5ErkJggg==";
const NOTICE = { ko: "결제는 카카오페이만 됩니다.", en: "Only KakaoPay is taken today.", ja: "お支払いはKakaoPayのみです。" };
const OWN_HTML = "<style>body{font:1rem system-ui;margin:1rem;color:#f2f4f8;background:#171b23}</style><h2>Our teapots</h2><p>Hand-thrown, 600 ml.</p>";

/** The settings; times count from now. */
export function settings(now = Date.now()) {
  return [
    { room: "scheduled", lobby_opens_at_ms: now + HOUR_MS, starts_at_ms: now + 2 * HOUR_MS },
    { room: "lobby", starts_at_ms: now + HOUR_MS },
    { room: "draw", title: "도자기 주전자", mode: "draw", lobby_opens_at_ms: now - 1_000, starts_at_ms: now + HOUR_MS },
    { room: "waiting", title: "도자기 주전자", stock_aware: true, theme: { name: "가온 도예" } },
    { room: "called", inside_max: 50, claim_window_ms: HOUR_MS },
    { room: "missed", inside_max: 50, lease_ms: 1_000, lease_max_ms: 1_000 },
    { room: "paused", paused: true, notice: NOTICE },
    { room: "standby", stock_aware: true },
    { room: "sold-out", stock_aware: true },
    { room: "closed", closed: true },
    { room: "requeue", refresh: "requeue" },
    { room: "warm", theme: { look: "warm", name: "가온 도예", accent: "#7a2e0e", logo: LOGO } },
    { room: "night", theme: { look: "night", accent: "#ffcc00", html: OWN_HTML } },
    { room: "hold", after_store_loss: "operator" },
  ];
}

const heading = {
  scheduled: "The waiting room opens soon",
  lobby: "Waiting for the start",
  draw: "Waiting for the draw",
  waiting: "You are in line",
  called: "It's your turn",
  missed: "Your turn has passed",
  paused: "Entry is paused",
  standby: "All units are in checkout",
  "sold-out": "Sold out",
  closed: "The waiting room is closed",
  hold: "Checking the line",
};

/**
 * Brings somebody into every state. Returns `{ name, room, path, cookies, heading }` for each; `called` shows itself
 * only while the store does not answer, because whoever is called and looks goes in.
 */
export async function pages(hall) {
  const page = (room, ticket, extra = {}) => ({
    name: room,
    room,
    path: `/r/${room}`,
    ticket,
    cookies: ticket ? [hall.cookie(room, ticket)] : [],
    heading: heading[room] ?? heading.waiting,
    ...extra,
  });
  const stock = (room, units) => hall.redis("HSET", `fg:{${room}}:stock`, ...Object.entries({ epoch: 1, ...units }).flat());
  const found = [page("scheduled"), page("closed")];
  for (const room of ["lobby", "draw", "paused"]) {
    await hall.crowd(room, 4);
    found.push(page(room, await hall.join(room)));
  }
  await stock("waiting", { available: 5, held: 0, sold: 0, total: 5 });
  await until("the stock to be seen", async () => (await hall.board("waiting")).stock !== null, 5_000);
  for (const room of ["waiting", "requeue", "warm", "night", "hold"]) {
    await hall.enter(room);
    await hall.crowd(room, 3);
    const ticket = await hall.join(room);
    await hall.crowd(room, 2);
    const path = room === "requeue" ? `/r/${room}?fg_keep=1` : `/r/${room}`;
    found.push(page(room, ticket, { path, ...(room === "hold" ? { heading: heading.waiting } : {}) }));
  }
  const { ticket: late } = await hall.enter("missed");
  found.push(page("missed", late));
  for (const [room, units] of [["standby", { available: 0, held: 1, sold: 4, total: 5 }], ["sold-out", { available: 0, held: 0, sold: 5, total: 5 }]]) {
    await stock(room, { available: 1, held: 0, sold: 0, total: 1 });
    await hall.enter(room);
    const ticket = await hall.join(room);
    await stock(room, units);
    found.push(page(room, ticket));
  }
  const called = page("called", await hall.join("called"));
  const state = async (p, wanted) => (await hall.status(p.room, p.ticket)).state === wanted;
  const by = (room) => found.find((p) => p.room === room);
  await until("the missed turn", () => state(by("missed"), "missed"));
  await until("the standby", () => state(by("standby"), "standby"));
  await until("the end of the stock", () => state(by("sold-out"), "sold_out"));
  await until("the call", () => state(called, "called"));
  return { all: found, called, by };
}
