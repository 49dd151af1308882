// The Stripe simulator driven by the provider's own SDK: if it believes the simulator, a shop's code does, too.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import Stripe from "stripe";
import { startSimulator } from "../lib/simulator.mjs";

let simulator;
let hook;
let base;
let stripe;
let secret;
/** Webhooks that came and nobody asked for yet, and who waits for one: `{ wanted, found }`. */
const waiting = [];
const came = [];

function receive(request, response) {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    response.end("ok");
    came.push({ body: Buffer.concat(parts).toString(), signature: request.headers["stripe-signature"] });
    for (const one of [...waiting]) one();
  });
}

const connect = (key) => new Stripe(key, { host: base.hostname, port: base.port, protocol: "http", maxNetworkRetries: 0 });

/** The next webhook of this type, with its raw body and signature. */
function webhook(type) {
  return new Promise((found) => {
    const look = () => {
      const at = came.findIndex(({ body }) => JSON.parse(body).type === type);
      if (at < 0) return;
      waiting.splice(waiting.indexOf(look), 1);
      found(came.splice(at, 1)[0]);
    };
    waiting.push(look);
    look();
  });
}

before(async () => {
  hook = createServer(receive);
  await new Promise((listening) => hook.listen(0, "127.0.0.1", listening));
  const hookUrl = `http://127.0.0.1:${hook.address().port}/hook`;
  simulator = await startSimulator(["--stripe-webhook-url", hookUrl]);
  base = new URL(simulator.base_url);
  secret = simulator.stripe.webhook_secret;
  stripe = connect(simulator.stripe.secret_key);
});

after(async () => {
  await simulator?.stop();
  hook?.closeAllConnections();
  await new Promise((closed) => hook.close(closed));
});

const order = (more = {}) => ({ amount: 12_900, currency: "krw", metadata: { order_id: "order-1" }, ...more });

test("create, confirm, capture, refund in parts", async () => {
  const created = await stripe.paymentIntents.create(order({ capture_method: "manual" }));
  assert.equal(created.status, "requires_payment_method");
  const confirmed = await stripe.paymentIntents.confirm(created.id, { payment_method: "pm_card_visa" });
  assert.equal(confirmed.status, "requires_capture");
  assert.equal(confirmed.amount_capturable, 12_900);
  const captured = await stripe.paymentIntents.capture(created.id);
  assert.equal(captured.status, "succeeded");
  assert.equal(captured.amount_received, 12_900);

  const part = await stripe.refunds.create({ payment_intent: created.id, amount: 900, reason: "requested_by_customer" });
  assert.equal(part.status, "succeeded");
  await assert.rejects(stripe.refunds.create({ payment_intent: created.id, amount: 12_001 }), Stripe.errors.StripeInvalidRequestError);
  const rest = await stripe.refunds.create({ payment_intent: created.id });
  assert.equal(rest.amount, 12_000);
  const all = await stripe.refunds.list({ payment_intent: created.id });
  assert.deepEqual(all.data.map((refund) => refund.id), [rest.id, part.id]);
  const whole = await stripe.paymentIntents.retrieve(created.id, { expand: ["latest_charge"] });
  assert.equal(whole.latest_charge.refunded, true);
});

test("a key is replayed, and other parameters are an idempotency error", async () => {
  const first = await stripe.paymentIntents.create(order(), { idempotencyKey: "attempt-1" });
  const again = await stripe.paymentIntents.create(order(), { idempotencyKey: "attempt-1" });
  assert.equal(again.id, first.id);
  assert.equal(again.lastResponse.idempotencyKey ?? again.lastResponse.headers["idempotency-key"], "attempt-1");
  assert.match(again.lastResponse.requestId, /^req_/);
  await assert.rejects(stripe.paymentIntents.create(order({ amount: 1 }), { idempotencyKey: "attempt-1" }), (error) => {
    assert.ok(error instanceof Stripe.errors.StripeIdempotencyError, error.constructor.name);
    return error.rawType === "idempotency_error";
  });
});

test("errors are the SDK's own kinds", async () => {
  const card = stripe.paymentIntents.create(order({ confirm: true, payment_method: "pm_card_chargeDeclinedInsufficientFunds" }));
  await assert.rejects(card, (error) => {
    assert.ok(error instanceof Stripe.errors.StripeCardError, error.constructor.name);
    assert.equal(error.decline_code, "insufficient_funds");
    return error.payment_intent.status === "requires_payment_method";
  });
  await assert.rejects(stripe.paymentIntents.retrieve("pi_nothing"), { code: "resource_missing", statusCode: 404 });
  await assert.rejects(stripe.paymentIntents.create({ currency: "krw" }), { param: "amount" });
  const stranger = connect("pk_test_simulated");
  await assert.rejects(stranger.paymentIntents.retrieve("pi_nothing"), Stripe.errors.StripePermissionError);
});

test("a lost answer is repeated by the SDK with its own key, and nothing is charged twice", async () => {
  const lost = { provider: "stripe", endpoint: "confirm", fault: "drop-after-effect", times: 1 };
  await simulator.control("faults", lost);
  const { id } = await stripe.paymentIntents.create(order({ payment_method: "pm_card_visa" }));
  const paid = await stripe.paymentIntents.confirm(id, {}, { maxNetworkRetries: 2 });
  assert.equal(paid.status, "succeeded");
  const ledger = await simulator.control("ledger");
  assert.equal(ledger.payments.find((payment) => payment.tid === id).approvals, 1);
});

test("lists page by themselves", async () => {
  const made = [];
  for (let n = 0; n < 5; n++) made.push((await stripe.paymentIntents.create(order({ customer: "cus_pages" }))).id);
  const seen = [];
  for await (const intent of stripe.paymentIntents.list({ customer: "cus_pages", limit: 2, created: { gte: 1 } })) seen.push(intent.id);
  assert.deepEqual(seen, made.reverse());
});

test("a webhook's signature is the one that the SDK checks", async () => {
  const { id } = await stripe.paymentIntents.create(order({ confirm: true, payment_method: "pm_card_visa" }));
  let message;
  let event;
  do {
    message = await webhook("payment_intent.succeeded");
    event = stripe.webhooks.constructEvent(message.body, message.signature, secret);
  } while (event.data.object.id !== id);
  assert.equal(event.data.object.amount_received, 12_900);
  const kept = await stripe.events.retrieve(event.id);
  assert.equal(kept.type, "payment_intent.succeeded");
  const tampered = message.body.replace("12900", "1");
  assert.throws(() => stripe.webhooks.constructEvent(tampered, message.signature, secret), Stripe.errors.StripeSignatureVerificationError);

  const { id: open } = await stripe.paymentIntents.create(order());
  await simulator.control("webhooks/send", { provider: "stripe", payment: open, forge: true });
  do {
    message = await webhook("payment_intent.succeeded");
  } while (JSON.parse(message.body).data.object.id !== open);
  assert.throws(() => stripe.webhooks.constructEvent(message.body, message.signature, secret), Stripe.errors.StripeSignatureVerificationError);
});
