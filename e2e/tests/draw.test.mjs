// The draw on the page: what was promised is visible in the lobby, and afterwards the browser recomputes the place.
import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { createHash, createHmac, randomUUID } from "node:crypto";
import { assertQuiet, axe, launch, layoutFindings, visitor } from "../lib/browser.mjs";
import { startHall } from "../lib/hall.mjs";
import { htmlFindings } from "../lib/html.mjs";
import { call, until } from "../lib/shop.mjs";

let hall;
let browser;

before(async () => {
  const now = Date.now();
  hall = await startHall([
    { room: "lobby", mode: "draw", lobby_opens_at_ms: now, starts_at_ms: now + 3_600_000 },
    { room: "thrown", mode: "draw", beacon: "entrants", lobby_opens_at_ms: now, starts_at_ms: now + 3_600_000 },
    { room: "fifo" },
  ]);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await hall?.stop();
});

/** The permutation of waiting-rooms.md 2.7 in other words than the page's. */
function prp(seed, i, n) {
  if (n <= 1) return i;
  const b = Math.ceil(BigInt(n - 1).toString(2).length / 2);
  const mask = (1 << b) - 1;
  let value = i;
  do {
    let [l, r] = [Math.floor(value / 2 ** b), value & mask];
    for (let round = 0; round < 4; round += 1) {
      const input = Buffer.alloc(5);
      input[0] = round;
      input.writeUInt32BE(r, 1);
      [l, r] = [r, l ^ (createHmac("sha256", seed).update(input).digest().readUInt32BE(0) & mask)];
    }
    value = l * 2 ** b + r;
  } while (value >= n);
  return value;
}

/** A published document of `count` entrants. */
function record(count, kind = "off", change = {}) {
  const secret = createHash("sha256").update(`secret ${count}`).digest();
  const root = createHash("sha256").update(`root ${count}`).digest();
  const value = createHash("sha256").update("beacon").digest("hex");
  const beacon = { off: Buffer.alloc(0), entrants: root, file: Buffer.from(value, "hex") }[kind];
  const seed = createHmac("sha256", secret).update(Buffer.concat([root, beacon])).digest();
  const document = {
    rule: "floodgate-draw-1", room: "lobby", phase: "drawn", count, root: root.toString("hex"), secret: secret.toString("hex"), seed: seed.toString("hex"),
    commitment: createHash("sha256").update(secret).digest("hex"), beacon: { kind, ...(kind === "file" ? { signed: { value } } : {}) }, ...change,
  };
  return { seed, document };
}

async function checking(document, number, look, options = {}) {
  const visit = await visitor(browser, [hall.gate], options);
  await visit.page.route("**/draw", (route) => (document ? route.fulfill({ json: document }) : route.fulfill({ status: 404 })));
  await visit.page.goto(`${hall.gate}/_floodgate/rooms/lobby/draw/check`);
  await visit.page.getByLabel("Your number").fill(String(number));
  await visit.page.getByRole("button", { name: "Recompute" }).click();
  await visit.page.locator("#result").waitFor();
  await look(visit.page, visit);
  await visit.close();
}

describe("checking a drawn place", () => {
  it("the reference here agrees with an independent one", () => {
    const rising = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
    const vectors = [[2, 0, 0], [3, 1, 2], [7, 0, 2], [16, 15, 7], [17, 16, 6], [1_000, 999, 629], [1_000_000, 12_345, 541_088]];
    for (const [n, i, place] of vectors) assert.equal(prp(rising, i, n), place, `${i} of ${n}`);
    assert.equal(prp(Buffer.alloc(32, 0xab), 999_999, 1_000_000), 450_580);
  });

  it("the page computes the same, for any size and every beacon", async () => {
    const cases = [[1, 1], [2, 2], [3, 1], [7, 7], [16, 4], [17, 17], [1_000, 999], [1_000_000, 1], [1_000_000, 1_000_000], [4_294_967, 70_000]];
    for (const [i, [count, number]] of cases.entries()) {
      const { seed, document } = record(count, ["off", "entrants", "file"][i % 3]);
      await checking(document, number, async (page) => {
        assert.equal(await page.locator("#result").getAttribute("data-place"), String(prp(seed, number - 1, count) + 1), `${number} of ${count}`);
        assert.match(await page.locator("#result").innerText(), /It is right/);
      });
    }
  });

  it("a record that does not fit is called wrong", async () => {
    const zero = "00".repeat(32);
    for (const change of [{ secret: zero }, { commitment: zero }, { seed: zero }, { root: zero }, { secret: "nonsense" }]) {
      await checking(record(10, "off", change).document, 3, async (page) => {
        assert.match(await page.locator("#result").innerText(), /does not agree/, JSON.stringify(change));
      });
    }
    await checking(record(10).document, 11, async (page) => assert.match(await page.locator("#result").innerText(), /was not in the draw/));
    await checking({ phase: "committed" }, 3, async (page) => assert.match(await page.locator("#result").innerText(), /Nothing is drawn yet/));
  });

  it("is accessible in three languages, valid, and explains itself without a script", async () => {
    for (const lang of ["ko", "en", "ja"]) {
      const visit = await visitor(browser, [hall.gate], { lang, bypassCSP: true });
      const answer = await visit.page.goto(`${hall.gate}/_floodgate/rooms/lobby/draw/check`);
      assert.deepEqual(await htmlFindings(await answer.text()), []);
      for (const width of [1280, 320]) {
        await visit.page.setViewportSize({ width, height: 800 });
        assert.deepEqual([...(await axe(visit.page)), ...(await layoutFindings(visit.page))], [], `${lang}, ${width}`);
      }
      await visit.close();
    }
    const visit = await visitor(browser, [hall.gate], { js: false });
    await visit.page.goto(`${hall.gate}/_floodgate/rooms/lobby/draw/check`);
    assert.match(await visit.page.locator("code").innerText(), /floodgate verify-draw .*\/_floodgate\/rooms\/lobby\/draw/);
    assertQuiet(visit);
    await visit.close();
    assert.equal((await call("GET", `${hall.gate}/_floodgate/rooms/fifo/draw/check`)).status, 404);
  });
});

describe("a real draw", () => {
  it("promises before, draws at the start, and the page proves the place", async () => {
    const visit = await visitor(browser, [hall.gate]);
    const { page } = visit;
    const [id, now] = [randomUUID(), Date.now()];
    const room = `deal-${id}`;
    await hall.publish({ room, mode: "draw", lobby_opens_at_ms: now, starts_at_ms: now + 8_000 });
    await until("the lobby", async () => (await hall.board(room)).state === "lobby");
    await hall.crowd(room, 4);
    const ticket = await hall.join(room);
    const { number } = await hall.status(room, ticket);
    await hall.crowd(room, 4);
    await visit.context.addCookies([hall.cookie(room, ticket)]);
    const body = await until("the commitment", async () => {
      const answer = await call("GET", `${hall.gate}/_floodgate/rooms/${room}/draw`);
      return answer.status === 200 && answer.body;
    });
    await page.goto(`${hall.gate}/deals/${id}/buy`);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "Waiting for the draw");
    assert.match(await page.locator("main").innerText(), /People here so far\s*\d/);
    assert.match(body.commitment, /^[0-9a-f]{64}$/);
    assert.ok((await page.locator("main").innerText()).includes(body.commitment.slice(0, 12)), "the commitment is on the page");
    const drawn = await until("the draw", async () => {
      const now = (await call("GET", `${hall.gate}/_floodgate/rooms/${room}/draw`)).body;
      return now.phase === "drawn" && now;
    }, 20_000);
    assert.equal(drawn.commitment, body.commitment);
    const place = prp(Buffer.from(drawn.seed, "hex"), number - 1, drawn.count) + 1;
    const proof = await visit.context.newPage();
    await proof.goto(`${hall.gate}/_floodgate/rooms/${room}/draw/check`);
    await proof.locator("#result[data-place]").waitFor();
    assert.equal(await proof.locator("#result").getAttribute("data-place"), String(place));
    assertQuiet(visit);
    await visit.close();
  });
});

describe("what a browser throws into the draw", () => {
  it("is made before the number, kept here, and found again in the record", async () => {
    const visit = await visitor(browser, [hall.gate]);
    const { page } = visit;
    const [id, now] = [randomUUID(), Date.now()];
    const room = `deal-${id}`;
    await hall.publish({ room, mode: "draw", beacon: "entrants", lobby_opens_at_ms: now, starts_at_ms: now + 12_000 });
    await until("the lobby", async () => (await hall.board(room)).state === "lobby");
    await hall.crowd(room, 2);
    await page.goto(`${hall.gate}/deals/${id}/buy?colour=blue`);
    await page.getByRole("heading", { name: "Waiting for the draw" }).waitFor();
    assert.equal(page.url(), `${hall.gate}/deals/${id}/buy?colour=blue`, "nothing of it stays in the address");
    const kept = await page.evaluate((room) => localStorage[`fg_nonce:${room}`], room);
    assert.match(kept, /^[0-9a-f]{32}$/);
    const cookies = await visit.context.cookies();
    const ticket = cookies.find((cookie) => cookie.name === `fg_t_${room}`).value;
    assert.equal(ticket.split(".")[8], kept, "the receipt");
    await page.reload();
    assert.equal((await visit.context.cookies()).find((cookie) => cookie.name === `fg_t_${room}`).value, ticket, "a reload asks for nothing");
    await until("the draw", async () => (await call("GET", `${hall.gate}/_floodgate/rooms/${room}/draw`)).body.phase === "drawn", 30_000);
    const check = async (visit) => {
      const proof = await visit.context.newPage();
      await proof.goto(`${hall.gate}/_floodgate/rooms/${room}/draw/check`);
      await proof.locator("#result:not([hidden])").waitFor();
      return `${await proof.locator("#facts").innerText()}\n${await proof.locator("#result").innerText()}`;
    };
    const good = await check(visit);
    assert.match(good, new RegExp(`threw in\\s+✓ ${kept}`));
    assert.match(good, /in the list of entrants\s+✓ [0-9a-f]{64}/);
    assert.match(good, /It is right/);
    assertQuiet(visit);
    // Another browser with this ticket can see the value, but not say that it made it; one that made another is warned.
    const other = await visitor(browser, [hall.gate]);
    await other.context.addCookies([hall.cookie(room, ticket)]);
    assert.match(await check(other), new RegExp(`threw in\\s+${kept}[^]*It is right`));
    await other.context.addInitScript((room) => { localStorage[`fg_nonce:${room}`] = "0123456789abcdef0123456789abcdef"; }, room);
    assert.match(await check(other), new RegExp(`✗ ${kept}[^]*does not agree`));
    await other.close();
    await visit.close();
  });

  it("may be written by hand or left out where there is no script", async () => {
    for (const [value, found] of [["my-own-words-and-numbers_42", "my-own-words-and-numbers_42"], [null, undefined]]) {
      const visit = await visitor(browser, [hall.gate], { js: false });
      const { page } = visit;
      await page.goto(`${hall.gate}/r/thrown?colour=blue`);
      if (value) {
        await page.getByLabel("A value that nobody can guess").fill(value);
        await page.getByRole("button", { name: "Go on" }).click();
      } else {
        await page.getByRole("link", { name: "Go on without a value" }).click();
      }
      await page.getByRole("heading", { name: "Waiting for the draw" }).waitFor();
      assert.equal(page.url(), `${hall.gate}/r/thrown?colour=blue`);
      const ticket = (await visit.context.cookies()).find((cookie) => cookie.name === "fg_t_thrown").value;
      assert.equal(ticket.split(".").length, value ? 11 : 10);
      if (value) assert.equal(ticket.split(".")[8], found);
      assertQuiet(visit);
      await visit.close();
    }
  });

  it("is asked for on a page that is accessible in three languages and valid", async () => {
    for (const lang of ["ko", "en", "ja"]) {
      const visit = await visitor(browser, [hall.gate], { lang, bypassCSP: true });
      // Somebody else's link: the page stays, and says why.
      const answer = await visit.page.goto(`${hall.gate}/r/thrown?fg_nonce=somebody-elses-nonce`);
      assert.deepEqual(await htmlFindings(await answer.text()), []);
      for (const width of [1280, 320]) {
        await visit.page.setViewportSize({ width, height: 800 });
        assert.deepEqual([...(await axe(visit.page)), ...(await layoutFindings(visit.page))], [], `${lang}, ${width}`);
      }
      await visit.close();
    }
  });
});
