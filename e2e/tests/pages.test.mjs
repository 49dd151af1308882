// Every page in every state that a shopper can reach: axe, layout, languages, colours, content security.
import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { join } from "node:path";
import { assertQuiet, axe, launch, layoutFindings, visitor } from "../lib/browser.mjs";
import { startHouse } from "../lib/house.mjs";
import { call, createDeal, crowd, holdUnits, joinLine, order, payOrder, signUp, status, until } from "../lib/shop.mjs";
import { randomUUID } from "node:crypto";

const PICTURES = process.env.FLOODGATE_SCREENSHOTS;
const fast = { admission: { rate_per_s: 50, inside_max: 50 } };

let house;
let browser;
let merchant;
/** `{ name, path, cookies, status }`: what to open, as whom. Filled by `before`. */
const pages = [];

const cookie = (name, value) => ({ name, value, url: house.gate });
const bearer = (shopper) => ({ authorization: `Bearer ${shopper.token}`, "idempotency-key": randomUUID() });

function page(name, path, { cookies = [], expect = 200 } = {}) {
  pages.push({ name, url: path.startsWith("http") ? path : house.gate + path, cookies, expect });
}

/** A visitor with a ticket for the deal, and its cookie. */
async function ticketOf(deal) {
  const { ticket } = await joinLine(house, deal);
  return { ticket, cookies: [cookie(`fg_t_${deal.room}`, ticket)] };
}

async function passOf(deal) {
  const { ticket } = await ticketOf(deal);
  await until("the call", async () => (await status(house, deal, ticket)).state === "called");
  const claim = await call("POST", `${house.gate}/_floodgate/rooms/${deal.room}/pass`, { headers: { "floodgate-ticket": ticket } });
  assert.equal(claim.status, 200);
  return [cookie(`fg_t_${deal.room}`, ticket), cookie(`fg_p_${deal.room}`, claim.body.pass)];
}

async function waitingRoomPages(shopper) {
  // One place inside, and somebody has it for the rest of this test: the others wait.
  const full = await createDeal(house, merchant, { title: "도자기 주전자", admission: { rate_per_s: 5, inside_max: 1 } });
  await passOf(full);
  await crowd(house, full, 127);
  const { cookies } = await ticketOf(full);
  await crowd(house, full, 41);
  page("waiting", `/deals/${full.id}/buy`, { cookies });
  page("waiting, no automatic refresh", `/deals/${full.id}/buy?refresh=off`, { cookies });

  const later = await createDeal(house, merchant, { title: "Starts soon", starts_at_ms: Date.now() + 600_000 });
  page("deal before its start", `/deals/${later.id}`);
  page("lobby", `/deals/${later.id}/buy`, { cookies: (await ticketOf(later)).cookies });

  const last = await createDeal(house, merchant, { title: "The last one", stock: 1, per_user_limit: 1, ...fast });
  const held = await holdUnits(house, last, shopper);
  const waiter = await ticketOf(last);
  await until("the standby", async () => (await status(house, last, waiter.ticket)).state === "standby");
  page("standby", `/deals/${last.id}/buy`, { cookies: waiter.cookies });
  page("deal with all units in checkout", `/deals/${last.id}`);
  page("order held", `/orders/${held.id}`, { cookies: [cookie("fg_session", shopper.token)] });

  const gone = await createDeal(house, merchant, { title: "Sold out", stock: 1, per_user_limit: 1, ...fast });
  const bought = await holdUnits(house, gone, shopper);
  await payOrder(house, shopper, bought.id);
  const late = await call("POST", `${house.gate}/_floodgate/rooms/${gone.room}/tickets`);
  const lateCookies = late.body.ticket ? [cookie(`fg_t_${gone.room}`, late.body.ticket)] : [];
  await until("the room to know", async () => (await call("GET", `${house.gate}/_floodgate/rooms/${gone.room}/board`)).body.state === "sold_out");
  page("sold out", `/deals/${gone.id}/buy`, { cookies: lateCookies });
  page("deal sold out", `/deals/${gone.id}`);
  page("order paid", `/orders/${bought.id}`, { cookies: [cookie("fg_session", shopper.token)] });
}

async function shopPages(shopper) {
  const session = [cookie("fg_session", shopper.token)];
  const deal = await createDeal(house, merchant, { title: "Ceramic teapot", ...fast });
  page("deals", "/deals");
  page("deal", `/deals/${deal.id}`);
  page("sign in", "/login");
  page("sign up", "/signup");
  const pass = await passOf(deal);
  page("checkout, signed out", `/deals/${deal.id}/buy`, { cookies: pass });
  page("checkout", `/deals/${deal.id}/buy`, { cookies: [...pass, ...session] });

  const cancelled = await holdUnits(house, deal, shopper);
  await call("POST", `${house.gate}/api/v1/orders/${cancelled.id}/cancel`, { headers: bearer(shopper) });
  page("order cancelled", `/orders/${cancelled.id}`, { cookies: session });

  const refunded = await holdUnits(house, deal, shopper);
  await payOrder(house, shopper, refunded.id);
  await call("POST", `${house.gate}/api/v1/orders/${refunded.id}/refunds`, { headers: bearer(shopper), json: {} });
  await until("the refund", async () => (await order(house, shopper, refunded.id)).state === "refunded");
  page("order refunded", `/orders/${refunded.id}`, { cookies: session });

  // A payment that is not finished, of somebody who has not reached the limit of the deal.
  const other = await signUp(house);
  const paying = await holdUnits(house, deal, other);
  await call("POST", `${house.gate}/api/v1/orders/${paying.id}/payments`, { headers: bearer(other), json: { provider: "kakaopay" } });
  const ready = await until("the provider's address", async () => {
    const now = await order(house, other, paying.id);
    return now.payment?.redirect_pc ? now : null;
  });
  page("order at the provider", `/orders/${paying.id}`, { cookies: [cookie("fg_session", other.token)] });
  page("the provider's page", ready.payment.redirect_pc);

  page("orders", "/orders", { cookies: session });
  page("no orders yet", "/orders", { cookies: [cookie("fg_session", (await signUp(house)).token)] });
  page("a problem explained", "/problems/sold-out");
  page("no such deal", `/deals/${randomUUID()}`, { expect: 404 });
}

before(async () => {
  house = await startHouse();
  browser = await launch();
  merchant = await house.merchant("Corner shop");
  const shopper = await signUp(house);
  await waitingRoomPages(shopper);
  await shopPages(shopper);
});

after(async () => {
  await browser?.close();
  await house?.stop();
});

/** Opens every page as its own visitor, two at a time, and collects what `look` finds. */
async function everyPage(options, look) {
  const findings = [];
  const open = [...pages];
  const work = async () => {
    for (let next = open.shift(); next; next = open.shift()) {
      const visit = await visitor(browser, [house.gate, house.simulator], options);
      try {
        await visit.context.addCookies(next.cookies);
        const answer = await visit.page.goto(next.url);
        if (answer.status() !== next.expect) findings.push(`${next.name}: status ${answer.status()}`);
        for (const finding of await look(visit, answer)) findings.push(`${next.name}: ${finding}`);
      } finally {
        await visit.close();
      }
    }
  };
  await Promise.all([work(), work()]);
  return findings;
}

describe("every page in every state", () => {
  for (const lang of ["ko", "en"]) {
    it(`is accessible and fits at 320 and 1280 px, in the light and in the dark: ${lang}`, async () => {
      const findings = await everyPage({ lang, bypassCSP: true }, async ({ page }) => {
        const spoken = await page.locator("html").getAttribute("lang");
        const found = spoken === lang ? [] : [`is in ${spoken}`];
        const note = (where, list) => found.push(...list.map((finding) => `${where}: ${finding}`));
        for (const width of [1280, 320]) {
          await page.setViewportSize({ width, height: 800 });
          note(width, await axe(page));
          note(width, await layoutFindings(page));
          // Only colours change in the dark.
          await page.emulateMedia({ colorScheme: "dark" });
          note(`${width}, dark`, await axe(page, ["color-contrast", "link-in-text-block"]));
          await page.emulateMedia({ colorScheme: "light" });
        }
        return found;
      });
      assert.deepEqual(findings, []);
    });
  }

  it("asks nothing of strangers and breaks no rule of its own content security policy", async () => {
    const findings = await everyPage({}, async (visit, answer) => {
      await visit.page.waitForTimeout(300);
      // Chromium reports the page itself as a failed resource when its status is an error, and that is meant.
      const failed = answer.status() >= 400;
      const problems = visit.problems().filter((problem) => !failed || !problem.includes("Failed to load resource"));
      const policy = answer.headers()["content-security-policy"] ?? "";
      if (!policy.includes("default-src 'none'") || /unsafe-(inline|eval)/.test(policy)) problems.push(`loose policy: ${policy}`);
      return problems;
    });
    assert.deepEqual(findings, []);
  });

  it("can be read with text twice as large", async () => {
    const findings = await everyPage({ width: 640, bypassCSP: true }, async ({ page }) => {
      await page.addStyleTag({ content: "html { font-size: 200% !important; }" });
      return layoutFindings(page);
    });
    assert.deepEqual(findings, []);
  });

  it("stands still for people who asked for less motion", async () => {
    const findings = await everyPage({ motion: "reduce" }, async ({ page }) => {
      const moving = await page.evaluate(() => document.getAnimations().length);
      return moving > 0 ? [`${moving} animations`] : [];
    });
    assert.deepEqual(findings, []);
  });

  it("the waiting page fits into the first packets and speaks Korean", async () => {
    const waiting = pages.find(({ name }) => name === "waiting");
    const header = waiting.cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
    const answer = await fetch(waiting.url, { headers: { cookie: header, accept: "text/html", "accept-language": "ko" } });
    const body = await answer.text();
    assert.ok(Buffer.byteLength(body) <= 14_600, `${Buffer.byteLength(body)} bytes`);
    assert.match(body, /순번은 유지됩니다/);
    assert.equal(answer.headers.get("cache-control"), "no-store");

    if (PICTURES) {
      const visit = await visitor(browser, [house.gate, house.simulator], { lang: "ko" });
      await visit.context.addCookies(waiting.cookies);
      await visit.page.goto(waiting.url);
      await visit.page.screenshot({ path: join(PICTURES, "waiting-page-ko.png") });
      await visit.close();
    }
  });
});

it("the check notices planted faults", async () => {
  const visit = await visitor(browser, [house.gate], { bypassCSP: true });
  await visit.page.goto(`${house.gate}/deals`);
  await visit.page.evaluate(() => {
    document.body.insertAdjacentHTML("beforeend", "<img src='data:,' width=2000 height=9><button style='width:9px;height:9px;padding:0'></button>");
    console.error("planted");
  });
  assert.ok((await axe(visit.page)).some((finding) => finding.startsWith("image-alt")));
  assert.ok((await layoutFindings(visit.page)).length >= 2);
  assert.throws(() => assertQuiet(visit));
  await visit.close();
});
