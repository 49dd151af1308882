// The stand-ins for the providers' browser scripts, on a shop's page of another origin with a policy of its own.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { assertQuiet, axe, launch, visitor } from "../lib/browser.mjs";
import { startSimulator } from "../lib/simulator.mjs";

const ORDER = "order-0001";
let simulator;
let shop;
let origin;
let browser;

const toss = () => `
  const payment = TossPayments("${simulator.toss.client_key}").payment({ customerKey: TossPayments.ANONYMOUS });
  document.querySelector("button").onclick = () => payment.requestPayment({
    method: "CARD", amount: { currency: "KRW", value: 12900 }, orderId: "${ORDER}", orderName: "귤 5kg",
    successUrl: "${origin}/done", failUrl: "${origin}/failed",
  }).catch((error) => { document.querySelector("output").textContent = error.code; });`;

const stripe = (secret) => `
  const stripe = Stripe("${simulator.stripe.publishable_key}");
  const elements = stripe.elements({ clientSecret: "${secret}" });
  elements.create("payment").mount("output");
  document.querySelector("button").onclick = () =>
    stripe.confirmPayment({ elements, confirmParams: { return_url: "${origin}/done" } });`;

/** A shop with one page per provider; everything else is an empty page to come back to. */
async function serve(request, response) {
  const path = new URL(request.url, origin).pathname;
  const page = (body) => `<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,">${body}</html>`;
  if (path === "/toss.js" || path.startsWith("/stripe.js/")) {
    response.setHeader("content-type", "text/javascript; charset=utf-8");
    return response.end(path === "/toss.js" ? toss() : stripe(path.split("/")[2]));
  }
  const sim = simulator.base_url;
  response.setHeader("content-security-policy", `default-src 'none'; img-src data:; script-src 'self' ${sim}; connect-src ${sim}`);
  response.setHeader("content-type", "text/html; charset=utf-8");
  const [, provider, secret] = path.split("/");
  const sdk = { toss: simulator.toss.sdk_url, stripe: simulator.stripe.sdk_url }[provider];
  const script = secret ? `/stripe.js/${secret}` : "/toss.js";
  response.end(page(sdk ? `<button>Buy</button><output></output><script src="${sdk}"></script><script src="${script}"></script>` : ""));
}

before(async () => {
  simulator = await startSimulator();
  shop = createServer(serve);
  await new Promise((listening) => shop.listen(0, "127.0.0.1", listening));
  origin = `http://127.0.0.1:${shop.address().port}`;
  browser = await launch();
});

after(async () => {
  await browser?.close();
  shop?.closeAllConnections();
  await new Promise((closed) => shop.close(closed));
  await simulator?.stop();
});

/** Presses "buy" on the shop's page and `button` on the provider's, and tells where the browser ends. */
async function walk(path, button, check = async () => {}) {
  const visit = await visitor(browser, [origin, simulator.base_url], { bypassCSP: false });
  try {
    await visit.page.goto(`${origin}${path}`);
    await visit.page.getByRole("button", { name: "Buy" }).click();
    const pressed = visit.page.getByRole("button", { name: button, exact: true });
    await pressed.waitFor();
    await check(visit.page);
    await Promise.all([visit.page.waitForURL(`${origin}/**`), pressed.click()]);
    assertQuiet(visit);
    return new URL(visit.page.url());
  } finally {
    await visit.close();
  }
}

async function toss_api(path, body) {
  const authorization = `Basic ${Buffer.from(`${simulator.toss.secret_key}:`).toString("base64")}`;
  const post = { method: "POST", body: JSON.stringify(body) };
  const headers = { authorization, "content-type": "application/json" };
  return (await fetch(`${simulator.base_url}/v1/${path}`, { headers, ...(body && post) })).json();
}

async function stripe_api(path, form) {
  const headers = { authorization: `Bearer ${simulator.stripe.secret_key}` };
  const post = form && { method: "POST", body: new URLSearchParams(form) };
  return (await fetch(`${simulator.base_url}/v1/${path}`, { headers, ...post })).json();
}

test("Toss: the script opens the window, and the buttons lead back", async () => {
  const back = await walk("/toss", "Pay");
  assert.equal(back.pathname, "/done");
  const query = Object.fromEntries(back.searchParams);
  assert.deepEqual([query.orderId, query.amount], [ORDER, "12900"]);
  const done = await toss_api("payments/confirm", { paymentKey: query.paymentKey, orderId: ORDER, amount: 12_900 });
  assert.equal(done.status, "DONE");
  for (const [button, code] of [["Decline (refused)", "REJECT_CARD_COMPANY"], ["Cancel the payment", "PAY_PROCESS_CANCELED"]]) {
    const failed = await walk("/toss", button);
    assert.deepEqual([failed.pathname, failed.searchParams.get("code")], ["/failed", code]);
  }
});

test("Stripe: Elements mount, confirmPayment leads to the page and back", async () => {
  for (const [button, outcome, status] of [["Pay", "succeeded", "succeeded"], ["Decline (refused)", "failed", "requires_payment_method"]]) {
    const { id, client_secret: secret } = await stripe_api("payment_intents", { amount: 12_900, currency: "krw" });
    const back = await walk(`/stripe/${secret}`, button);
    assert.deepEqual([back.pathname, back.searchParams.get("redirect_status"), back.searchParams.get("payment_intent")], ["/done", outcome, id]);
    assert.equal((await stripe_api(`payment_intents/${id}`)).status, status);
  }
});

test("both pay pages can be used by everybody, in both languages", async () => {
  const { id, client_secret: secret } = await stripe_api("payment_intents", { amount: 12_900, currency: "krw" });
  const form = { client_key: "test_ck_1", method: "CARD", amount: "12900", order_id: ORDER, order_name: "귤" };
  const urls = { success_url: `${origin}/done`, fail_url: `${origin}/failed` };
  const opened = await fetch(simulator.toss.sdk_url.replace("/v2", "/payments"), {
    method: "POST",
    headers: { accept: "application/json" },
    body: new URLSearchParams({ ...form, ...urls }),
  });
  const { pay_url: window } = await opened.json();
  const intent = `${simulator.base_url}/stripe/pay/${id}?${new URLSearchParams({ client_secret: secret, return_url: `${origin}/done` })}`;
  for (const lang of ["ko", "en"]) {
    for (const url of [window, intent]) {
      const visit = await visitor(browser, [simulator.base_url], { lang, bypassCSP: true });
      await visit.page.goto(url);
      assert.equal(await visit.page.getAttribute("html", "lang"), lang);
      assert.deepEqual(await axe(visit.page), []);
      await visit.close();
    }
  }
});
