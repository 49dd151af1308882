// One shopper's whole way through a sale in a real browser: line, checkout, payment, order.
import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { assertQuiet, launch, visitor } from "../lib/browser.mjs";
import { startHouse } from "../lib/house.mjs";
import { call, createDeal, crowd, until } from "../lib/shop.mjs";
import {
  finishAtProvider,
  goToProvider,
  orderSays,
  placeOrder,
  pressBuy,
  signUpAtCheckout,
  standing,
  tabTo,
  waitForTurn,
} from "../lib/walk.mjs";

// `make screenshots` names the folder; without it no picture is made.
const PICTURES = process.env.FLOODGATE_SCREENSHOTS;

let house;
let browser;
let merchant;
let origins;

before(async () => {
  house = await startHouse();
  browser = await launch();
  merchant = await house.merchant("Corner shop");
  origins = [house.gate, house.simulator];
  if (PICTURES) await mkdir(PICTURES, { recursive: true });
});

after(async () => {
  await browser?.close();
  await house?.stop();
});

async function picture(page, name) {
  if (PICTURES) await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}

/** A visitor whose page is closed whatever happens. */
async function visiting(options, walk) {
  const visit = await visitor(browser, origins, options);
  try {
    await walk(visit.page, visit);
    assertQuiet(visit);
  } finally {
    await visit.close();
  }
}

async function deal(id) {
  return (await call("GET", `${house.gate}/api/v1/deals/${id}`)).body;
}

/** In front of the shopper stand `n` people, and one is called per second. */
async function busyDeal(n, overrides) {
  const made = await createDeal(house, merchant, overrides);
  await crowd(house, made, n);
  return made;
}

describe("buying", () => {
  for (const js of [true, false]) {
    it(`from the deal to the paid order ${js ? "with" : "without"} JavaScript`, async () => {
      // Long enough for all that is looked at while waiting, on a slow machine as well.
      const made = await busyDeal(15);
      await visiting({ js }, async (page) => {
        await pressBuy(page, house, made);
        await page.getByRole("heading", { level: 1, name: /line/i }).waitFor();
        const first = await standing(page);
        assert.ok(first.ahead >= 1 && first.ahead <= 15, `${first.ahead} people ahead`);
        assert.ok(first.eta.length > 0, "the wait is estimated or said to be unknown");
        assert.match(await page.locator("main").innerText(), /place is kept/, "it says that a refresh is safe");

        await crowd(house, made, 3);
        const busy = await until("the people behind", async () => {
          if (!js) await page.reload();
          const now = await standing(page);
          return now.behind >= 3 ? now : null;
        }, 8_000);
        assert.equal(busy.number, first.number);
        if (js) {
          assert.match(busy.title, /^\d/, "the tab's title shows how many are ahead");
          await picture(page, "waiting-page-en");
        }

        await page.reload();
        const again = await standing(page);
        assert.equal(again.number, first.number, "a refresh keeps the ticket");
        assert.ok(again.ahead <= busy.ahead, "a refresh never costs a place");
        await page.goto(`${house.gate}/deals`);
        await page.goBack();

        await waitForTurn(page, { js });
        await signUpAtCheckout(page);
        if (js) await picture(page, "checkout");
        const id = await placeOrder(page, 2);
        await until("the units to be held", async () => (await deal(made.id)).held === 2);

        await goToProvider(page, house, { js });
        await finishAtProvider(page, "Pay", "Paid", { js });
        if (js) await picture(page, "order-paid");
        assert.match(page.url(), new RegExp(`/orders/${id}`));
        const { held, available, stock } = await until("the units to be sold", async () => {
          const now = await deal(made.id);
          return now.sold === 2 ? now : null;
        });
        assert.deepEqual({ held, available }, { held: 0, available: stock - 2 });

        await page.reload();
        await orderSays(page, "Paid", { js });
      });
    });

    it(`cancelling and refunding give the units back ${js ? "with" : "without"} JavaScript`, async () => {
      const made = await createDeal(house, merchant, { admission: { rate_per_s: 50, inside_max: 50 } });
      await visiting({ js }, async (page) => {
        await pressBuy(page, house, made);
        await waitForTurn(page, { js });
        await signUpAtCheckout(page);
        await placeOrder(page, 1);
        await page.getByRole("button", { name: "Cancel the order" }).click();
        await orderSays(page, "Cancelled", { js });
        await until("the unit to come back", async () => (await deal(made.id)).available === made.stock);

        await page.goto(`${house.gate}/deals/${made.id}/buy`);
        await waitForTurn(page, { js });
        await placeOrder(page, 1);
        await goToProvider(page, house, { js });
        await finishAtProvider(page, "Pay", "Paid", { js });
        await page.getByLabel("Reason (optional)").fill("Changed my mind");
        await page.getByRole("button", { name: "Ask for a refund" }).click();
        await orderSays(page, "Refunded", { js });
        await until("the unit to come back", async () => (await deal(made.id)).available === made.stock);
      });
    });
  }

  it("a payment that is declined or cancelled costs nothing and says so", async () => {
    const made = await createDeal(house, merchant, { admission: { rate_per_s: 50, inside_max: 50 } });
    await visiting({}, async (page) => {
      await pressBuy(page, house, made);
      await waitForTurn(page);
      await signUpAtCheckout(page);
      for (const [button, outcome] of [["Decline (wrong password)", "Payment declined"], ["Cancel the payment", "Cancelled"]]) {
        await page.goto(`${house.gate}/deals/${made.id}/buy`);
        await waitForTurn(page);
        await placeOrder(page, 1);
        await goToProvider(page, house);
        await finishAtProvider(page, button, outcome);
        assert.match(await page.locator("main").innerText(), /Nothing was charged/);
      }
      await until("the units to come back", async () => (await deal(made.id)).available === made.stock);
    });
  });

  it("two tabs are one shopper: one ticket, and both are let in", async () => {
    const made = await busyDeal(4);
    await visiting({}, async (page, visit) => {
      await pressBuy(page, house, made);
      const first = await standing(page);
      const second = await visit.context.newPage();
      await second.goto(`${house.gate}/deals/${made.id}/buy`);
      assert.equal((await standing(second)).number, first.number);
      await Promise.all([waitForTurn(page), waitForTurn(second)]);
    });
  });

  it("the whole way needs no mouse", async () => {
    const made = await busyDeal(3);
    await visiting({}, async (page) => {
      const { keyboard } = page;
      await page.goto(`${house.gate}/deals/${made.id}`);
      await tabTo(page, "Buy");
      await keyboard.press("Enter");
      await waitForTurn(page);
      await tabTo(page, "Name");
      await keyboard.press("Shift+Tab");
      await keyboard.type(`keys-${made.id}@example.com`);
      await keyboard.press("Tab");
      await keyboard.type("Test shopper");
      await tabTo(page, "Password");
      await keyboard.type("no mouse 1!");
      await keyboard.press("Enter");
      await page.getByRole("button", { name: "Order and hold the units" }).waitFor();
      await tabTo(page, "Order and hold the units");
      await keyboard.press("Enter");
      await page.waitForURL("**/orders/*");
      await tabTo(page, "Pay with KakaoPay");
      await keyboard.press("Enter");
      await page.waitForURL(`${house.simulator}/pay/**`, { timeout: 15_000 });
      await tabTo(page, "Pay");
      await keyboard.press("Enter");
      await page.waitForURL("**/orders/*");
      await orderSays(page, "Paid");
    });
  });
});
