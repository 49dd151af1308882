// The waiting page over time: what pages.md calls B1 to B3, B5 to B9 and B13, and the frame with a merchant's own HTML.
import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { assertQuiet, launch, visitor } from "../lib/browser.mjs";
import { startHall } from "../lib/hall.mjs";
import { hide, listen, script, statusOf } from "../lib/script.mjs";
import { until } from "../lib/shop.mjs";
import { standing } from "../lib/walk.mjs";

const HOUR_MS = 3_600_000;
let hall;
let browser;
let elsewhere;

/** A stranger's server, which nothing on our pages may ever talk to. */
async function startElsewhere() {
  const hits = [];
  const server = createServer((request, answer) => (hits.push(request.url), answer.end("x")));
  server.on("connection", (socket) => hits.push(`connection from ${socket.remotePort}`));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, hits, stop: () => server.close() };
}

/** All that the settings let through; frames and links are refused there. */
const hostile = (url) => `
<script>top.location = "${url}/script"; fetch("${url}/fetch")</script>
<meta http-equiv="refresh" content="0;url=${url}/refresh">
<img src="${url}/img" onerror="top.location='${url}/onerror'"><img srcset="${url}/srcset 1x">
<style>@import "${url}/import"; body { background: url(${url}/background) } @font-face { font-family: x; src: url(${url}/font) } h2 { font-family: x }</style>
<form action="${url}/form" id="f"><button autofocus style="position:fixed;inset:0">Send</button></form>
<video src="${url}/video" poster="${url}/poster" autoplay></video><audio src="${url}/audio" autoplay></audio>
<svg><image src="${url}/svg"/><a><set attributeName="hre&#102;" to="${url}/set"/><text y="20">Click</text></a></svg>
<h2>Our teapots</h2>`;

before(async () => {
  elsewhere = await startElsewhere();
  hall = await startHall([
    { room: "waiting" },
    { room: "hostile", theme: { html: hostile(elsewhere.url) } },
  ]);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await hall?.stop();
  elsewhere?.stop();
});

/** A room of its own behind `/deals/{uuid}/buy`, published as the shop would, with `n` people in line and one inside. */
async function room(n, change = {}) {
  const id = randomUUID();
  const settings = await hall.publish({ room: `deal-${id}`, rate_per_s: 50, ...change });
  await until("the room", async () => (await hall.board(settings.room)).state === "open");
  const first = await hall.enter(settings.room);
  await hall.crowd(settings.room, n);
  return { settings, room: settings.room, url: `${hall.gate}/deals/${id}/buy`, first };
}

async function visiting(options, walk) {
  const visit = await visitor(browser, [hall.gate], options);
  try {
    await walk(visit.page, visit);
  } finally {
    await visit.close();
  }
}

const h1 = (page) => page.getByRole("heading", { level: 1 }).innerText();
const says = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor({ timeout: 10_000 });

describe("a place in line", () => {
  it("survives twenty refreshes, going back and forth, and a closed page", async () => {
    const made = await room(5);
    await visiting({}, async (page, visit) => {
      await page.goto(made.url);
      let before = await standing(page);
      for (let i = 0; i < 20; i += 1) {
        await page.reload();
        const now = await standing(page);
        assert.equal(now.number, before.number);
        assert.ok(now.ahead <= before.ahead);
        before = now;
      }
      await page.goto("about:blank");
      await page.goBack();
      await page.goto(`${made.url}?colour=red`);
      assert.equal((await standing(page)).number, before.number);
      await page.close();
      const again = await visit.context.newPage();
      await again.goto(made.url);
      assert.equal((await standing(again)).number, before.number);
      assertQuiet(visit);
    });
  });

  it("is one for two tabs: one ticket, one entry, and both go in", async () => {
    const made = await room(0);
    await visiting({}, async (page, visit) => {
      await page.goto(made.url);
      const second = await visit.context.newPage();
      await second.goto(made.url);
      assert.equal((await standing(page)).number, (await standing(second)).number);
      await hall.leave(made.room, made.first.ticket);
      await Promise.all([says(page, "Inside the shop"), says(second, "Inside the shop")]);
      assert.equal((await hall.board(made.room)).inside, 1);
      assertQuiet(visit);
    });
  });

  it("is followed by the event stream, and by asking where there is none", async () => {
    const made = await room(3);
    for (const streams of [true, false]) {
      await visiting({}, async (page) => {
        const polls = [];
        page.on("request", (request) => request.url().endsWith("/status") && polls.push(request.url()));
        if (!streams) await page.route("**/events", (route) => route.fulfill({ status: 404 }));
        const stream = page.waitForRequest("**/events");
        await page.goto(made.url);
        await stream;
        const before = await standing(page);
        await hall.crowd(made.room, 2);
        await until("the newcomers behind", async () => (await standing(page)).behind >= before.behind + 2, 15_000);
        assert.equal(polls.length === 0, streams, `${polls.length} polls`);
      });
    }
  });
});

describe("what changes in the room", () => {
  it("is seen by an open page without a new one: pause, notice, resume, and the end", async () => {
    const made = await room(3, { stock_aware: false });
    await visiting({}, async (page, visit) => {
      const change = (settings) => hall.publish({ ...made.settings, ...settings });
      await page.goto(made.url);
      await standing(page);
      await change({ paused: true, notice: { ko: "잠시만요", en: "Back <b>soon</b>", ja: "少々お待ちください" } });
      await says(page, "Entry is paused");
      assert.equal(await page.locator("#words").innerText(), "Back <b>soon</b>");
      await change({ paused: false });
      await says(page, "You are in line");
      await page.locator("#notice").waitFor({ state: "hidden" });
      await change({ closed: true });
      await says(page, "The waiting room is closed");
      assertQuiet(visit);
    });
  });

  it("sold out reaches the page within a second, and then it asks nothing more", async () => {
    const id = randomUUID();
    const settings = await hall.publish({ room: `deal-${id}`, rate_per_s: 50, stock_aware: true });
    const stock = (available, sold) => hall.redis("HSET", `fg:{${settings.room}}:stock`, "available", available, "held", 0, "sold", sold, "total", 9, "epoch", 1);
    await stock(9, 0);
    await until("the room", async () => (await hall.board(settings.room)).state === "open");
    await hall.enter(settings.room);
    await visiting({}, async (page, visit) => {
      const asked = [];
      await page.goto(`${hall.gate}/deals/${id}/buy`);
      await standing(page);
      assert.match(await page.locator("#chance").innerText(), /plenty left/);
      await page.waitForTimeout(1_000);
      page.on("request", (request) => asked.push(request.url()));
      const sold = Date.now();
      await stock(0, 9);
      await says(page, "Sold out");
      const took = Date.now() - sold;
      console.log(`sold out was on the page after ${took} ms`);
      assert.equal(await page.locator("#turn").innerText(), "Sold out", "it is said aloud");
      assert.equal(await page.locator("#live").isVisible(), false);
      await page.clock.install();
      asked.length = 0;
      await page.clock.runFor(60_000);
      assert.deepEqual(asked, [], "a final state asks nothing");
      assertQuiet(visit);
    });
  });
});

describe("the page's script", () => {
  /** The waiting page with a made-up status and time. */
  async function scripted(answer, walk, options = {}) {
    const ticket = await hall.join("waiting");
    await visiting(options, async (page, visit) => {
      await visit.context.addCookies([hall.cookie("waiting", ticket)]);
      const now = Date.now();
      await page.clock.install({ time: now });
      await page.clock.pauseAt(now + 1_000);
      await page.addInitScript(listen);
      const asked = await script(page, answer);
      questions = asked;
      await page.goto(`${hall.gate}/r/waiting`);
      await walk(page, asked, visit);
    });
  }
  let questions;
  /** Moves the page's time on in steps; each question is answered before the next step, so that none takes page time. */
  async function live(page, ms, step = 500) {
    for (let t = 0; t < ms; t += step) {
      await page.clock.runFor(step);
      // Quiet twice: an answer that has just come is still being read.
      for (let quiet = 0; quiet < 2; ) {
        await page.waitForTimeout(5);
        quiet = questions?.pending > 0 || (await page.evaluate(() => window.asking)) > 0 ? 0 : quiet + 1;
      }
    }
  }

  before(async () => {
    await hall.enter("waiting");
    await hall.crowd("waiting", 3);
  });

  it("says aloud at most every 15 s how long it takes, shows the place in the title, and tells the turn once", async () => {
    let turn = false;
    const answer = (n) => statusOf(turn ? { state: "called", claim_by_ms: Date.now() + 60_000, next_poll_ms: 1_000 } : { ahead: 1_000 - 100 * n, behind: 10 * n, eta_seconds: { low: 600 - 60 * n, high: 900 - 60 * n }, next_poll_ms: 2_000 });
    await scripted(answer, async (page, asked) => {
      await page.route("**/pass", (route) => route.fulfill({ status: 503 }));
      await until("ten updates", async () => (await live(page, 1_000), asked.length >= 10));
      assert.match(await page.title(), /^\d+ · Ceramic teapot/);
      const spoken = (await page.evaluate(() => window.said)).filter(({ id }) => id === "say");
      assert.ok(spoken.length >= 1 && spoken.length <= 3, `${spoken.length} times in 20 s`);
      for (let i = 1; i < spoken.length; i += 1) assert.ok(spoken[i].at - spoken[i - 1].at >= 15_000);
      turn = true;
      await live(page, 6_000);
      assert.match(await page.title(), /^● It's your turn/);
      assert.equal(await page.evaluate(() => document.activeElement.id), "enter");
      assert.equal((await page.evaluate(() => window.said)).filter(({ id }) => id === "turn").length, 1);
      assert.match(await page.locator("#timer").innerText(), /Enter within 00:0[01]:/);
    });
  });

  it("never lets the bar go back", async () => {
    const behind = [50, 80, 20, 5, 90, 1];
    await scripted((n) => statusOf({ behind: behind[n % 6], next_poll_ms: 2_000 }), async (page, asked) => {
      const seen = [];
      while (asked.length < 7) {
        await live(page, 1_000);
        seen.push(await page.locator("#bar").evaluate((bar) => bar.value));
      }
      assert.ok(seen.every((value, i) => i === 0 || value >= seen[i - 1]), seen.join(" "));
      assert.ok(seen.at(-1) > 0);
    });
  });

  it("asks later and later when it gets no answer, with jitter, and never before it is told to", async () => {
    await scripted((n) => (n < 3 ? 503 : n === 3 ? { status: 429, headers: { "retry-after": "90" }, body: "" } : 503), async (page, asked) => {
      await live(page, 260_000, 1_000);
      assert.ok(await page.locator("#off").isVisible());
      const gaps = asked.slice(1).map((at, i) => (at - asked[i]) / 1_000);
      const wanted = [2, 4, 8, 90 / 0.85, 32];
      // An answer waits for the end of its step, which is a second.
      wanted.forEach((seconds, i) => assert.ok(gaps[i] >= seconds * 0.84 && gaps[i] <= seconds * 1.16 + 1, `gap ${i}: ${gaps[i]} s instead of ${seconds} s`));
      assert.ok(gaps[3] >= 90, "Retry-After is obeyed");
      assert.ok(Math.max(...gaps.slice(4)) <= 70, "never later than a minute and its jitter");
    });
    const spread = [];
    for (let i = 0; i < 6; i += 1) await scripted(() => statusOf({ next_poll_ms: 20_000 }), async (page, asked) => {
      await until("two questions", async () => (await live(page, 5_000, 1_000), asked.length > 1));
      spread.push(asked[1] - asked[0]);
    });
    // The step of a second comes on top of 20 s and its 15 %.
    assert.ok(spread.every((ms) => ms >= 17_000 && ms <= 24_000), spread.join(" "));
    assert.ok(new Set(spread.map(Math.round)).size > 3, "pages do not ask in step");
  });

  it("asks at once when a tab comes back to the front after ten minutes", async () => {
    await scripted(() => statusOf({ next_poll_ms: 600_000 }), async (page, asked) => {
      await live(page, 6_000);
      await hide(page, true);
      await page.clock.fastForward(600_000);
      const before = asked.length;
      await hide(page, false);
      await until("the question", () => asked.length > before, 2_000);
      assert.match(await page.locator("#number").innerText(), /\d/, "the place is kept");
    });
  });

  it("says that the connection is lost, and is back within two seconds", async () => {
    const ticket = await hall.join("waiting");
    await visiting({}, async (page, visit) => {
      await visit.context.addCookies([hall.cookie("waiting", ticket)]);
      // An outage that is played cuts no stream that is open, and whoever still hears something is not cut off.
      await page.route("**/events", (route) => route.abort());
      await page.goto(`${hall.gate}/r/waiting`);
      await page.locator("#since").waitFor();
      await visit.context.setOffline(true);
      await page.locator("#off").waitFor({ timeout: 20_000 });
      await visit.context.setOffline(false);
      await page.locator("#off").waitFor({ state: "hidden", timeout: 2_000 });
    });
  });

  it("rings and shakes only for who asked for it, and remembers that in the tab", async () => {
    let turn = false;
    const answer = () => statusOf(turn ? { state: "called", claim_by_ms: Date.now() + 60_000, next_poll_ms: 1_000 } : { next_poll_ms: 1_000 });
    for (const wanted of [false, true]) {
      turn = false;
      await scripted(answer, async (page) => {
        await page.addInitScript(() => {
          window.rang = 0;
          window.shook = 0;
          navigator.vibrate = () => (window.shook += 1);
          const node = { connect() {}, start() {}, stop() {} };
          window.AudioContext = class { currentTime = 0; createOscillator() { window.rang += 1; return node; } };
        });
        await page.route("**/pass", (route) => route.fulfill({ status: 503 }));
        await page.reload();
        if (wanted) await page.getByLabel("Tell me with a sound and vibration").check();
        await page.reload();
        assert.equal(await page.getByLabel("Tell me with a sound and vibration").isChecked(), wanted);
        turn = true;
        await until("the turn", async () => (await live(page, 1_000), (await page.title()).startsWith("●")));
        assert.deepEqual(await page.evaluate(() => [window.rang > 0, window.shook > 0]), [wanted, wanted]);
      });
    }
  });
});

describe("the turn", () => {
  for (const shift of [-HOUR_MS, HOUR_MS]) {
    it(`is safe in a tab behind others, with a device clock ${shift > 0 ? "ahead" : "behind"}`, async () => {
      const made = await room(0, { lease_ms: 34_000 });
      const ticket = await hall.join(made.room);
      await visiting({}, async (page, visit) => {
        await visit.context.addCookies([hall.cookie(made.room, ticket)]);
        await page.addInitScript(listen);
        await page.addInitScript((shift) => {
          const real = Date.now;
          Date.now = () => real() + shift;
        }, shift);
        await page.goto(made.url);
        await page.locator("#since").waitFor();
        await hide(page, true);
        await hall.leave(made.room, made.first.ticket);
        await page.locator("#go").waitFor({ timeout: 10_000 });
        assert.match(await page.title(), /^● It's your turn/);
        await until("the pass", async () => (await hall.status(made.room, ticket)).state === "inside");
        // First the time to claim, then that of the lease, as the next answer brings it: both are the server's.
        await until("the time left", async () => /Enter within 00:00:3\d/.test(await page.locator("#timer").innerText()));
        if (shift > 0) {
          await page.locator("#timer.warn").waitFor({ timeout: 10_000 });
          assert.ok(Number((await page.locator("#clock").innerText()).slice(-2)) >= 20, "the warning comes early enough");
          assert.ok((await page.evaluate(() => window.said)).some(({ id, text }) => id === "say" && text === "30 seconds left"));
        }
        assert.equal(await h1(page), "It's your turn", "nothing runs away behind somebody's back");
        await hide(page, false);
        await says(page, "Inside the shop");
        assertQuiet(visit);
      });
    });
  }
});

describe("a merchant's own HTML", () => {
  it("can show text, and neither run, send, load nor lead anywhere", async () => {
    await hall.enter("hostile");
    const ticket = await hall.join("hostile");
    const visit = await visitor(browser, [hall.gate], { width: 1_000 });
    await visit.context.addCookies([hall.cookie("hostile", ticket)]);
    const { page } = visit;
    await page.goto(`${hall.gate}/r/hostile`);
    const frame = page.frameLocator("iframe");
    await frame.locator("h2").waitFor();
    const box = await page.locator("iframe").boundingBox();
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.click(box.x + 30, box.y + 30);
    for (let i = 0; i < 12; i += 1) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForTimeout(1_500);
    assert.equal(page.url(), `${hall.gate}/r/hostile`);
    assert.equal(page.frames().find((f) => f !== page.mainFrame() && f.parentFrame() === page.mainFrame()).url(), `${hall.gate}/_floodgate/rooms/hostile/custom`);
    // Opened by itself it is as harmless.
    const alone = await visit.context.newPage();
    const answer = await alone.goto(`${hall.gate}/_floodgate/rooms/hostile/custom`);
    assert.match(answer.headers()["content-security-policy"], /^sandbox; default-src 'none'/);
    await alone.waitForTimeout(1_500);
    assert.equal(new URL(alone.url()).origin, hall.gate);
    assert.deepEqual(elsewhere.hits, [], "not one request, not even a connection");
    // The check is awake: the same server hears who really asks.
    await fetch(`${elsewhere.url}/awake`);
    assert.ok(elsewhere.hits.includes("/awake"));
    await visit.close();
  });
});
