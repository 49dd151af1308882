// The waiting page in every state, language, colour and width: what pages.md calls A1 to A10, B10 and B14.
import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { assertQuiet, axe, launch, layoutFindings, visitor } from "../lib/browser.mjs";
import { startHall } from "../lib/hall.mjs";
import { htmlFindings } from "../lib/html.mjs";
import { pages, settings } from "../lib/rooms.mjs";
import { until } from "../lib/shop.mjs";
import { tabTo } from "../lib/walk.mjs";

const PICTURES = process.env.FLOODGATE_SCREENSHOTS;
const LANGS = ["ko", "en", "ja"];

let hall;
let browser;
let found;

before(async () => {
  hall = await startHall(settings());
  browser = await launch();
  found = await pages(hall);
  if (PICTURES) await mkdir(PICTURES, { recursive: true });
});

after(async () => {
  await browser?.close();
  await hall?.stop();
});

/** Opens `list`, each page as its own visitor, two at a time. */
async function each(list, options, look) {
  const findings = [];
  const open = [...list];
  const work = async () => {
    for (let next = open.shift(); next; next = open.shift()) {
      const visit = await visitor(browser, [hall.gate], options);
      try {
        await visit.context.addCookies(next.cookies);
        const answer = await visit.page.goto(hall.gate + next.path);
        for (const finding of await look(visit, next, answer)) findings.push(`${next.name}: ${finding}`);
      } finally {
        await visit.close();
      }
    }
  };
  await Promise.all([work(), work()]);
  return findings;
}

/** axe and layout at three widths, in the light and in the dark. */
async function everywhere({ page }, lang) {
  const spoken = await page.locator("html").getAttribute("lang");
  const findings = spoken === lang ? [] : [`is in ${spoken}`];
  for (const width of [1280, 390, 320]) {
    await page.setViewportSize({ width, height: 800 });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      findings.push(...(await axe(page)).map((finding) => `${width}, ${colorScheme}: ${finding}`));
    }
    findings.push(...(await layoutFindings(page)).map((finding) => `${width}: ${finding}`));
  }
  return findings;
}

async function wire(page, lang, encoding = "identity") {
  const cookie = page.cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
  return fetch(hall.gate + page.path, { headers: { cookie, accept: "text/html", "accept-language": lang, "accept-encoding": encoding } });
}

/** A picture for docs/waiting-room.md, as wide as a phone. */
async function picture(page, room) {
  await page.setViewportSize({ width: 390, height: 640 });
  await page.screenshot({ path: join(PICTURES, `room-${room}.png`) });
}

describe("the waiting page in every state", () => {
  for (const lang of LANGS) {
    it(`is accessible at 320, 390 and 1280 px, in the light and in the dark: ${lang}`, async () => {
      assert.deepEqual(await each(found.all, { lang, bypassCSP: true }, (visit) => everywhere(visit, lang)), []);
    });
  }

  it("says what is the case, and nothing that must not happen happens", async () => {
    const findings = await each(found.all, {}, async (visit, next, answer) => {
      const said = await visit.page.getByRole("heading", { level: 1 }).innerText();
      const problems = said === next.heading ? [] : [`says "${said}"`];
      if (answer.status() !== 200) problems.push(`status ${answer.status()}`);
      await visit.page.waitForTimeout(200);
      const policy = answer.headers()["content-security-policy"] ?? "";
      if (!policy.includes("default-src 'none'") || /unsafe-(inline|eval)/.test(policy)) problems.push(`loose policy: ${policy}`);
      return [...problems, ...visit.problems()];
    });
    assert.deepEqual(findings, []);
  });

  it("is valid HTML in every language, with or without a query of the shop's", async () => {
    const findings = [];
    for (const page of found.all) {
      for (const lang of LANGS) {
        const path = page.path.includes("?") ? `${page.path}&a=1` : `${page.path}?a=1`;
        for (const variant of [page, { ...page, path }]) {
          const answer = await wire(variant, lang);
          for (const finding of await htmlFindings(await answer.text())) findings.push(`${variant.path}, ${lang}: ${finding}`);
        }
      }
    }
    assert.deepEqual(findings, []);
  });

  it("is at most 12 KB, 5 KB in gzip, and unpacks to the same page", async () => {
    // Figures and times differ between two requests.
    const still = (html) => html.replace(/data-now="\d+"|data-next="\d+"|>\d\d:\d\d:\d\d</g, "");
    for (const page of found.all) {
      for (const lang of LANGS) {
        const [plain, zipped] = [await wire(page, lang), await wire(page, lang, "gzip")];
        assert.equal(plain.headers.get("content-encoding"), null);
        assert.equal(zipped.headers.get("content-encoding"), "gzip");
        assert.match(zipped.headers.get("vary"), /Accept-Encoding/);
        const [raw, gzip] = [plain, zipped].map((answer) => Number(answer.headers.get("content-length")));
        assert.equal(still(await zipped.text()), still(await plain.text()), page.name);
        // A merchant's logo and an operator's notice come on top; with them it still fits into the first packets.
        const own = ["warm", "paused"].includes(page.name);
        assert.ok(raw <= 12 * 1024 && gzip <= (own ? 8 : 5) * 1024, `${page.name}, ${lang}: ${raw} bytes, ${gzip} in gzip`);
      }
    }
    const visit = await visitor(browser, [hall.gate]);
    await visit.page.goto(`${hall.gate}/r/closed`);
    const size = await visit.page.evaluate(() => performance.getEntriesByType("navigation")[0].toJSON());
    assert.ok(size.encodedBodySize < size.decodedBodySize, "Chromium asked for gzip and unpacked it");
    assert.equal(await visit.page.evaluate(() => performance.getEntriesByType("resource").filter((r) => !r.name.includes("/_floodgate/")).length), 0);
    await visit.close();
  });

  it("can be read with text twice as large, and with words 40 % longer", async () => {
    const findings = await each(found.all, { width: 320, bypassCSP: true }, async ({ page }) => {
      const wide = await layoutFindings(page);
      await page.addStyleTag({ content: "html { font-size: 200% !important; }" });
      wide.push(...(await layoutFindings(page)).map((finding) => `200 %: ${finding}`));
      await page.evaluate(() => {
        const walker = document.createTreeWalker(document.querySelector("body"), NodeFilter.SHOW_TEXT);
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
          const text = node.textContent;
          if (text.trim() && node.parentNode.tagName !== "SCRIPT") node.textContent = `${text} ${"ō".repeat(Math.ceil(text.length * 0.4))}`;
        }
      });
      return [...wide, ...(await layoutFindings(page)).map((finding) => `longer words: ${finding}`)];
    });
    assert.deepEqual(findings, []);
  });

  it("stands still where less motion is wanted, and keeps its figures where colours are forced", async () => {
    const findings = await each(found.all, { motion: "reduce" }, async ({ page }) => {
      await page.emulateMedia({ forcedColors: "active" });
      return page.evaluate(() => {
        const said = [];
        if (document.getAnimations().length) said.push("moves");
        const bar = document.querySelector("progress");
        if (bar.checkVisibility() && (!bar.getAttribute("aria-label") || !document.querySelector("#ahead").textContent)) said.push("the bar says nothing in words");
        return said;
      });
    });
    assert.deepEqual(findings, []);
  });

  it("can be used by keyboard alone, in the order that is seen", async () => {
    const visit = await visitor(browser, [hall.gate]);
    const waiting = found.by("waiting");
    await visit.context.addCookies(waiting.cookies);
    await visit.page.goto(hall.gate + waiting.path);
    const { page } = visit;
    for (const stop of ["한국어", "日本語", "Tell me with a sound and vibration", "Refresh now", "Why do I wait?", "Leave the line"]) {
      await tabTo(page, stop, 1);
    }
    await page.keyboard.press("Enter");
    await tabTo(page, "Give up my number and leave", 1);
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    assert.equal(await page.getByRole("button", { name: /Give up/ }).isVisible(), false, "nothing is given up by accident");
    assertQuiet(visit);
    await visit.close();
  });

  it("without JavaScript: refreshes by itself, can be stopped, and every way is a link or a form", async () => {
    const visit = await visitor(browser, [hall.gate], { js: false });
    const { page, context } = visit;
    const waiting = found.by("waiting");
    await context.addCookies(waiting.cookies);
    await page.goto(`${hall.gate}${waiting.path}?colour=red`);
    const number = await page.locator("#number").innerText();
    assert.equal(await page.locator("meta[http-equiv=refresh]").getAttribute("content"), "20");
    await page.getByRole("link", { name: "Stop automatic refresh" }).click();
    assert.equal(await page.locator("meta[http-equiv=refresh]").count(), 0);
    assert.match(page.url(), /colour=red/, "the shop's own query stays");
    await page.getByRole("link", { name: "日本語" }).click();
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "順番待ちです");
    assert.match(page.url(), /colour=red/);
    await page.getByRole("link", { name: "今すぐ更新" }).click();
    assert.equal(await page.locator("#number").innerText(), number, "a refresh keeps the number");
    assert.match(await page.locator("#ahead").innerText(), /\d/, "figures are in the page itself");
    await context.clearCookies();
    await context.addCookies([hall.cookie("waiting", await hall.join("waiting"))]);
    await page.goto(hall.gate + waiting.path);
    await page.getByText("Leave the line").click();
    await page.getByRole("button", { name: "Give up my number and leave" }).click();
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "You left the line");
    await page.getByRole("button", { name: "Join the line again" }).click();
    assert.notEqual(await page.locator("#number").innerText(), number);
    assertQuiet(visit);
    await visit.close();
  });

  it("shows the merchant's name, logo and colour, and only those of the room", async () => {
    const visit = await visitor(browser, [hall.gate]);
    const { page } = visit;
    const colour = () => page.evaluate(() => getComputedStyle(document.querySelector(".button.plain")).color);
    const open = async (room) => {
      await visit.context.addCookies(found.by(room).cookies);
      await page.goto(hall.gate + found.by(room).path);
    };
    await open("warm");
    assert.equal(await colour(), "rgb(122, 46, 14)");
    assert.match(await page.locator("header").innerText(), /가온 도예 · Ceramic teapot/);
    assert.ok(await page.locator("header img").evaluate((image) => image.naturalWidth > 0), "the logo is decoded");
    await open("night");
    assert.equal(await colour(), "rgb(255, 204, 0)");
    assert.equal(await page.locator("header img").count(), 0);
    assert.equal(await page.frameLocator("iframe").locator("h2").innerText(), "Our teapots");
    await open("waiting");
    assert.equal(await colour(), "rgb(11, 87, 208)");
    assertQuiet(visit);
    await visit.close();
  });
});

describe("when the store does not answer", () => {
  before(async () => {
    hall.freeze();
    await until("the boards to be old", async () => (await hall.status("called", found.called.ticket)).degraded === true);
  });
  after(() => hall.thaw());

  for (const lang of LANGS) {
    it(`every state is still shown, and is accessible: ${lang}`, async () => {
      const list = [found.called, found.by("waiting"), found.by("sold-out")];
      const findings = await each(list, { lang, bypassCSP: true }, async (visit, next) => {
        const notes = await visit.page.locator("#off").isVisible();
        return [...(notes ? [] : [`${next.name} does not say that the connection is lost`]), ...(await everywhere(visit, lang))];
      });
      assert.deepEqual(findings, []);
    });
  }

  it("whoever was called sees until when", async () => {
    const visit = await visitor(browser, [hall.gate], { js: false });
    await visit.context.addCookies(found.called.cookies);
    await visit.page.goto(hall.gate + found.called.path);
    assert.equal(await visit.page.getByRole("heading", { level: 1 }).innerText(), "It's your turn");
    assert.match(await visit.page.locator("#timer").innerText(), /Enter within 0[01]:\d\d:\d\d/);
    await visit.close();
  });
});

describe("pictures", { skip: PICTURES ? false : "only for `make screenshots`" }, () => {
  it("are taken of the states that the guide shows", async () => {
    const shots = [
      ["waiting", "ko"], ["draw", "en"], ["paused", "en"], ["standby", "en"], ["sold-out", "en"], ["warm", "ja"], ["night", "en"], ["missed", "en"],
    ];
    for (const [room, lang] of shots) {
      const visit = await visitor(browser, [hall.gate], { lang, width: 390 });
      await visit.context.addCookies(found.by(room).cookies);
      await visit.page.goto(hall.gate + found.by(room).path);
      await visit.page.waitForTimeout(300);
      await picture(visit.page, room);
      await visit.close();
    }
  });
});

describe("after the store lost everything", () => {
  it("a room that waits for its operator says that places are kept", async () => {
    await hall.redis("FLUSHALL");
    const page = found.by("hold");
    await until("the hold", async () => (await hall.status("hold", page.ticket)).state === "hold");
    const findings = await each([{ ...page, heading: "Checking the line" }], { bypassCSP: true }, async (visit, next) => {
      const said = await visit.page.getByRole("heading", { level: 1 }).innerText();
      if (PICTURES) await picture(visit.page, next.room);
      return [...(said === next.heading ? [] : [`says "${said}"`]), ...(await everywhere(visit, "en"))];
    });
    assert.deepEqual(findings, []);
  });
});
