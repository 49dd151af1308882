// The steps of a purchase as a person takes them, by what is written on the pages. Every step works
// with JavaScript and without: where a page would go on by itself, `js: false` asks for it again.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { until } from "./shop.mjs";

const heading = (page, name) => page.getByRole("heading", { level: 1, name });
const badge = (page, name) => page.getByRole("heading", { level: 2, name, exact: true });

/** From the deal's page to whatever the gate answers. */
export async function pressBuy(page, house, deal) {
  await page.goto(`${house.gate}/deals/${deal.id}`);
  await page.getByRole("link", { name: "Buy", exact: true }).click();
  await page.waitForURL(`**/deals/${deal.id}/buy`);
}

/** What the waiting page shows. */
export async function standing(page) {
  const text = (selector) => page.locator(selector).innerText();
  const count = async (selector) => Number((await text(selector)).replace(/\D/g, ""));
  return { ahead: await count("#ahead"), behind: await count("#behind"), eta: await text("#eta"), number: await text("#number"), title: await page.title() };
}

/** Waits in line until the checkout is there. */
export async function waitForTurn(page, { js = true, timeout_ms = 60_000 } = {}) {
  const checkout = heading(page, "Checkout");
  if (js) return checkout.waitFor({ timeout: timeout_ms });
  return until("the turn", async () => {
    if (await checkout.isVisible()) return true;
    await page.getByRole("link", { name: "Refresh now" }).click();
    return checkout.isVisible();
  }, timeout_ms, 1_000);
}

/** Signs up in the checkout; the place inside is kept. Returns the account. */
export async function signUpAtCheckout(page) {
  const form = page.locator("form[action='/signup']");
  const email = `${randomUUID()}@example.com`;
  const password = `pw-${randomUUID()}`;
  await form.getByLabel("E-mail").fill(email);
  await form.getByLabel("Name").fill("Test shopper");
  await form.getByLabel("Password").fill(password);
  await form.getByRole("button").click();
  await page.getByRole("button", { name: "Order and hold the units" }).waitFor();
  return { email, password };
}

/** Holds `quantity` units. Returns the order's id. */
export async function placeOrder(page, quantity = 1) {
  await page.getByLabel("Quantity").selectOption(String(quantity));
  await page.getByRole("button", { name: "Order and hold the units" }).click();
  await page.waitForURL("**/orders/*");
  await badge(page, "Waiting for payment").waitFor();
  assert.match(await page.getByRole("timer").innerText(), /^\d/, "the time left is shown");
  return new URL(page.url()).pathname.split("/")[2];
}

/** From the order's page to the provider's. */
export async function goToProvider(page, house, { js = true } = {}) {
  await page.getByRole("button", { name: "Pay with KakaoPay" }).click();
  if (!js) {
    const link = page.getByRole("link", { name: "Continue at KakaoPay" });
    await until("the provider's address", async () => (await link.isVisible()) || (await page.reload(), false), 15_000, 500);
    await link.click();
  }
  await page.waitForURL(`${house.simulator}/pay/**`, { timeout: 15_000 });
}

/** Presses a button at the provider and waits for what the order says then. */
export async function finishAtProvider(page, button, outcome, { js = true } = {}) {
  await page.getByRole("button", { name: button, exact: true }).click();
  await page.waitForURL("**/orders/*");
  await orderSays(page, outcome, { js });
}

/** Waits until the order's page shows `outcome` as its state. */
export async function orderSays(page, outcome, { js = true, timeout_ms = 20_000 } = {}) {
  const state = badge(page, outcome);
  if (js) return state.waitFor({ timeout: timeout_ms });
  return until(`the order to be ${outcome}`, async () => (await state.isVisible()) || (await page.reload(), false), timeout_ms, 500);
}

/**
 * Moves the focus with Tab until it is on the control called `name`, as somebody without a mouse does.
 * Every stop on the way must show where it is.
 */
export async function tabTo(page, name, stops_max = 40) {
  for (let i = 0; i < stops_max; i += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const e = document.activeElement;
      const style = getComputedStyle(e);
      const label = e.labels?.[0]?.innerText ?? e.innerText ?? "";
      return { label: label.trim(), outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth), body: e === document.body };
    });
    if (stop.body) continue;
    assert.ok(stop.outline >= 2, `the focus on "${stop.label}" is not visible (${stop.outline} px)`);
    if (stop.label === name) return;
  }
  throw new Error(`Tab does not reach "${name}"`);
}
