// What a test does through the API: deals, a crowd in line, purchases.
import { randomUUID } from "node:crypto";

/** Calls `url` and returns `{ status, body, headers }`; `body` is JSON if the answer is. */
export async function call(method, url, { headers = {}, json, form } = {}) {
  const options = { method, redirect: "manual", headers: { accept: "application/json", ...headers } };
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers["content-type"] = "application/json";
  }
  if (form !== undefined) options.body = new URLSearchParams(form);
  const answer = await fetch(url, options);
  const text = await answer.text();
  const isJson = /json/.test(answer.headers.get("content-type") ?? "");
  return { status: answer.status, body: isJson ? JSON.parse(text) : text, headers: answer.headers };
}

async function expect(status, method, url, options) {
  const answer = await call(method, url, options);
  if (answer.status !== status) throw new Error(`${method} ${url}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/**
 * A merchant's deal, once the gate knows its room. `overrides` goes over a deal that is open now and calls
 * one person per second.
 */
export async function createDeal(house, merchant, overrides = {}) {
  const now = Date.now();
  const deal = {
    title: "Ceramic teapot",
    description: "Hand-thrown, 600 ml. One per kiln firing.",
    price: { minor: 12_900, currency: "KRW" },
    stock: 20,
    per_user_limit: 2,
    starts_at_ms: now - 1_000,
    ends_at_ms: now + 3_600_000,
    admission: { rate_per_s: 1, inside_max: 50 },
    ...overrides,
  };
  const headers = { authorization: `Bearer ${merchant.api_key}`, "idempotency-key": randomUUID() };
  const made = await expect(201, "POST", `${house.gate}/api/v1/deals`, { headers, json: deal });
  await until("the gate to know the room", async () => (await call("GET", `${house.gate}/_floodgate/rooms/${made.room}/board`)).status === 200);
  return made;
}

/** Somebody else in line: takes a ticket and does nothing more. */
export function joinLine(house, deal) {
  return expect(201, "POST", `${house.gate}/_floodgate/rooms/${deal.room}/tickets`);
}

/** `n` people in line, one after the other. */
export async function crowd(house, deal, n) {
  const tickets = [];
  for (let i = 0; i < n; i += 1) tickets.push(await joinLine(house, deal));
  return tickets;
}

/** What the line says about a ticket. */
export function status(house, deal, ticket) {
  return expect(200, "GET", `${house.gate}/_floodgate/rooms/${deal.room}/status`, { headers: { "floodgate-ticket": ticket } });
}

/** Waits until `probe` returns something truthy, asking every `step_ms`. */
export async function until(what, probe, timeout_ms = 20_000, step_ms = 200) {
  const end = Date.now() + timeout_ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${timeout_ms} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, step_ms));
  }
}

/** A new shopper with a session. */
export async function signUp(house) {
  const email = `${randomUUID()}@example.com`;
  const password = `pw ${randomUUID()}`;
  const account = await expect(201, "POST", `${house.gate}/api/v1/accounts`, { json: { email, password, name: "Test shopper" } });
  const session = await expect(201, "POST", `${house.gate}/api/v1/sessions`, { json: { email, password } });
  return { ...account, email, password, token: session.token };
}

/** Joins, waits for the call, claims the pass and holds `quantity` units. Returns the order. */
export async function holdUnits(house, deal, shopper, quantity = 1) {
  const { ticket } = await joinLine(house, deal);
  await until("the call", async () => (await status(house, deal, ticket)).state === "called");
  const claim = await expect(200, "POST", `${house.gate}/_floodgate/rooms/${deal.room}/pass`, { headers: { "floodgate-ticket": ticket } });
  const headers = { authorization: `Bearer ${shopper.token}`, "floodgate-pass": claim.pass, "idempotency-key": randomUUID() };
  return expect(201, "POST", `${house.gate}/api/v1/deals/${deal.id}/holds`, { headers, json: { quantity } });
}

/** The order as its owner sees it. */
export function order(house, shopper, id) {
  return expect(200, "GET", `${house.gate}/api/v1/orders/${id}`, { headers: { authorization: `Bearer ${shopper.token}` } });
}

/** Pays a held order at the simulated provider and waits until it is paid. */
export async function payOrder(house, shopper, id) {
  const headers = { authorization: `Bearer ${shopper.token}`, "idempotency-key": randomUUID() };
  await expect(202, "POST", `${house.gate}/api/v1/orders/${id}/payments`, { headers, json: { provider: "kakaopay" } });
  const ready = await until("the provider's address", async () => {
    const now = await order(house, shopper, id);
    return now.payment?.redirect_pc ? now : null;
  });
  await fetch(ready.payment.redirect_pc);
  const pressed = await expect(200, "POST", ready.payment.redirect_pc, { form: { action: "pay" } });
  await fetch(pressed.redirect_url, { redirect: "manual" });
  return until("the order to be paid", async () => {
    const now = await order(house, shopper, id);
    return now.state === "paid" ? now : null;
  });
}
