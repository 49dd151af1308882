// The waiting page in Firefox and WebKit: it loads, it follows the line, and it goes in (pages.md A11).
// Chromium is in every other test.
import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { engines } from "../lib/engines.mjs";
import { startHall } from "../lib/hall.mjs";
import { until } from "../lib/shop.mjs";

let hall;

before(async () => {
  hall = await startHall(Object.keys(engines).map((name) => ({ room: name.toLowerCase(), rate_per_s: 50 })));
});

after(() => hall?.stop());

for (const [name, engine] of Object.entries(engines)) {
  describe(name, { skip: engine.skip ?? false }, () => {
    it("loads the page, follows the line, and goes in at the turn", async () => {
      const room = name.toLowerCase();
      const first = await hall.enter(room);
      const ahead = [first.ticket, await hall.join(room), await hall.join(room)];
      const browser = await engine.start();
      try {
        console.log(browser.version);
        const text = (selector) => browser.evaluate(`document.querySelector(${JSON.stringify(selector)})?.innerText`);
        await browser.go(`${hall.gate}/r/${room}`);
        assert.match(await text("h1"), /You are in line|대기 중입니다/);
        assert.equal(await text("#ahead"), "2");
        const number = await text("#number");
        assert.equal(await browser.evaluate("getComputedStyle(document.querySelector('.button')).minHeight"), "48px", "the style is let through by the policy");

        await hall.crowd(room, 3);
        await until("the newcomers behind", async () => (await text("#behind")) === "3", 20_000);
        assert.match(await browser.evaluate("document.title"), /^2 · /, "the script runs");
        await browser.go(`${hall.gate}/r/${room}`);
        assert.equal(await text("#number"), number, "a refresh keeps the place");

        // Those in front go, and then it is this page's turn.
        for (const ticket of ahead.reverse()) await hall.leave(room, ticket);
        await until("the turn", async () => (await text("h1")) === "Inside the shop", 60_000, 500);
      } finally {
        await browser.stop();
      }
    });
  });
}
