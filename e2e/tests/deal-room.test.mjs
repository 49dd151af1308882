// What a merchant says about the waiting room of a deal, through the API alone: a draw that anybody can check, and a
// purchase that ends the pass.
import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { FLOODGATE, startHouse } from "../lib/house.mjs";
import { call, createDeal, crowd, joinLine, payOrder, signUp, status, until } from "../lib/shop.mjs";

let house;
let merchant;

before(async () => {
  house = await startHouse();
  merchant = await house.merchant("Corner shop");
});

after(() => house?.stop());

const room = (deal, endpoint, options) => call("GET", `${house.gate}/_floodgate/rooms/${deal.room}/${endpoint}`, options);

/** Takes a number, waits for the call and claims; the pass. */
async function enter(deal) {
  const { ticket } = await joinLine(house, deal);
  await until("the call", async () => (await status(house, deal, ticket)).state === "called");
  const headers = { "floodgate-ticket": ticket };
  return (await call("POST", `${house.gate}/_floodgate/rooms/${deal.room}/pass`, { headers })).body.pass;
}

describe("the room of a deal", () => {
  it("is a draw that `floodgate verify-draw` can check, when the merchant says so", async () => {
    const starts_at_ms = Date.now() + 8_000;
    const deal = await createDeal(house, merchant, {
      starts_at_ms,
      admission: { rate_per_s: 50, inside_max: 50 },
      room: { mode: "draw", theme: { name: "Gaon Ceramics", look: "warm" }, notice: { en: "One each, please." } },
    });
    assert.equal(deal.mode, "draw");
    // The page wears the merchant's name; whoever opens it is the first entrant.
    const page = await call("GET", `${house.gate}/deals/${deal.id}/buy`, { headers: { accept: "text/html" } });
    assert.match(page.body, /Gaon Ceramics/);
    const tickets = await crowd(house, deal, 11);
    assert.ok(Date.now() < starts_at_ms, "everybody came in time");
    const lobby = (await status(house, deal, tickets[0].ticket));
    assert.deepEqual([lobby.state, lobby.notice], ["lobby", "One each, please."]);
    const committed = await until("the commitment", async () => {
      const { body } = await room(deal, "draw");
      return body.phase === "committed" ? body : null;
    });

    const drawn = await until("the draw", async () => {
      const { body } = await room(deal, "draw");
      return body.phase === "drawn" ? body : null;
    });
    assert.deepEqual([drawn.count, drawn.commitment], [12, committed.commitment]);
    const url = `${house.gate}/_floodgate/rooms/${deal.room}/draw`;
    const checked = await promisify(execFile)(FLOODGATE, ["verify-draw", url, "--number", "12"]);
    assert.match(checked.stdout, /12/);
    const proof = await until("the proof", async () => {
      const { status, body } = await room(deal, "draw/proof", { headers: { "floodgate-ticket": tickets[10].ticket } });
      return status === 200 ? body : null;
    });
    assert.equal(proof.number, 12);
  });

  it("refuses what no room can be, and names it", async () => {
    const headers = { authorization: `Bearer ${merchant.api_key}`, "idempotency-key": randomUUID() };
    const json = {
      title: "Teapot", price: { minor: 1_000, currency: "KRW" }, stock: 1, per_user_limit: 1,
      starts_at_ms: Date.now(), ends_at_ms: Date.now() + 60_000, admission: { rate_per_s: 1, inside_max: 1 },
      room: { theme: { accent: "#ffffff" } },
    };
    const { status, body } = await call("POST", `${house.gate}/api/v1/deals`, { headers, json });
    assert.deepEqual([status, body.type, body.errors[0].field], [422, "/problems/invalid-field", "room.theme.accent"]);
  });

  for (const ends of [true, false]) {
    it(`a purchase ${ends ? "ends" : "does not end"} the pass`, async () => {
      const admission = { rate_per_s: 50, inside_max: 50 };
      const deal = await createDeal(house, merchant, { per_user_limit: 3, admission, room: { end_on_purchase: ends } });
      const [pass, other] = [await enter(deal), await enter(deal)];
      const buy = (of) => call("GET", `${house.gate}/deals/${deal.id}/buy`, { headers: { accept: "text/html", "floodgate-pass": of } });
      const hold = (shopper, of) => call("POST", `${house.gate}/api/v1/deals/${deal.id}/holds`, {
        headers: { authorization: `Bearer ${shopper.token}`, "floodgate-pass": of, "idempotency-key": randomUUID() }, json: { quantity: 1 },
      });
      const shopper = await signUp(house);
      const held = await hold(shopper, pass);
      assert.equal(held.status, 201, JSON.stringify(held.body));
      assert.equal((await hold(shopper, pass)).status, 201, "inside until something is paid");
      const stranger = await hold(await signUp(house), pass);
      assert.deepEqual([stranger.status, stranger.body.type], [403, "/problems/pass-of-another-account"]);
      await payOrder(house, shopper, held.body.id);
      const paid = Date.now();
      if (ends) {
        await until("the gate to refuse the pass", async () => (await hold(shopper, pass)).status === 429, 3_000, 50);
        assert.ok(Date.now() - paid < 2_000, "about a second: the ledger's word to the store, the next board");
        assert.doesNotMatch((await buy(pass)).body, /name="quantity"/, "the page is the line again");
      } else {
        await until("the units to be sold", async () => (await call("GET", `${house.gate}/api/v1/deals/${deal.id}`)).body.sold === 1);
        assert.equal((await hold(shopper, pass)).status, 201, "one turn, as many orders as the limit allows");
      }
      assert.equal((await hold(await signUp(house), other)).status, 201, "other people's passes are their own");
    });
  }
});
