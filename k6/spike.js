// A spike of shoppers against a gate, as an open model: they arrive at a rate, whatever the gate does.
// Each one joins, keeps the place by polling when the gate says so, claims the pass when called, and
// goes. Settings come from the environment, see README.md.
import { check, sleep } from "k6";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";

const setting = (name, fallback) => Number(__ENV[name] || fallback);
const GATE = (__ENV.GATE_URL || "http://127.0.0.1:8080").replace(/\/$/, "");
const ROOM = __ENV.ROOM;
const RATE = setting("RATE", 100); // shoppers per second
const DURATION_S = setting("DURATION", 20); // how long they arrive
const PATIENCE_S = setting("PATIENCE", 15); // how long each one stays
const JOIN_P99_MS = setting("JOIN_P99_MS", 250);
const STATUS_P99_MS = setting("STATUS_P99_MS", 250);

const joined = new Counter("shoppers_joined");
const called = new Counter("shoppers_called");
const claimed = new Counter("shoppers_claimed");
// Each must stay 0: a place that got worse, a call out of order, a claim that was refused.
const placesLost = new Counter("places_lost");
const calledEarly = new Counter("called_beyond_frontier");
const claimsRefused = new Counter("claims_refused");
const untilCalled = new Trend("time_until_called", true);

export const options = {
  discardResponseBodies: false,
  summaryTrendStats: ["avg", "med", "p(95)", "p(99)", "max"],
  setupTimeout: "30s",
  scenarios: {
    spike: {
      executor: "constant-arrival-rate",
      rate: RATE,
      timeUnit: "1s",
      duration: `${DURATION_S}s`,
      // Everybody who can be there at once; too few would turn the open model into a closed one.
      preAllocatedVUs: Math.ceil(RATE * Math.min(PATIENCE_S + 2, DURATION_S + 2)),
      gracefulStop: `${PATIENCE_S + 5}s`,
    },
  },
  thresholds: {
    http_req_failed: ["rate==0"],
    checks: ["rate==1"],
    // The generator could not keep up: the run says nothing then.
    dropped_iterations: ["count==0"],
    "http_req_duration{name:join}": [`p(99)<${JOIN_P99_MS}`],
    "http_req_duration{name:status}": [`p(99)<${STATUS_P99_MS}`],
    "http_req_duration{name:claim}": ["p(99)<1000"],
    places_lost: ["count==0"],
    called_beyond_frontier: ["count==0"],
    claims_refused: ["count==0"],
    shoppers_claimed: ["count>0"],
  },
};

const room = (path) => `${GATE}/_floodgate/rooms/${ROOM}/${path}`;

export function setup() {
  if (!ROOM) exec.test.abort("ROOM is missing: the id of the room, e.g. that of a deal");
  const board = http.get(room("board"), { tags: { name: "board" } });
  if (board.status !== 200) exec.test.abort(`the board of room ${ROOM} answers ${board.status}`);
}

// Its own address for each shopper. A gate that trusts no proxy ignores it and then limits all of us as one.
function address(n) {
  return `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
}

const frontier = (headers) => http.get(room("board"), { headers, tags: { name: "board" } }).json("frontier");

export default function shopper() {
  const from = { "X-Forwarded-For": address(exec.scenario.iterationInTest + 1), Accept: "application/json" };
  http.cookieJar().clear(GATE); // a VU is used again by the next shopper
  const joinedAt = Date.now();
  const join = http.post(room("tickets"), null, { headers: from, tags: { name: "join" } });
  if (!check(join, { "join gives a ticket": (r) => r.status === 201 })) return;
  joined.add(1);
  let { ticket, status } = join.json();
  const headers = { ...from, "Floodgate-Ticket": ticket };

  while (status.state === "waiting" || status.state === "lobby") {
    const pause_s = Math.max(status.next_poll_ms, 100) / 1000;
    if ((Date.now() - joinedAt) / 1000 + pause_s > PATIENCE_S) return;
    sleep(pause_s);
    const answer = http.get(room("status"), { headers, tags: { name: "status" } });
    if (!check(answer, { "status answers": (r) => r.status === 200 })) return;
    const next = answer.json();
    if (status.ahead !== null && next.ahead !== null && next.ahead > status.ahead) placesLost.add(1);
    status = next;
  }
  if (status.state !== "called") return;
  called.add(1);
  untilCalled.add(Date.now() - joinedAt);
  const place = status.place;
  if (place !== null && place > frontier(from)) {
    sleep(2); // the board is a snapshot, at most a tick or two old: look again
    if (place > frontier(from)) calledEarly.add(1);
  }
  const pass = http.post(room("pass"), null, { headers, tags: { name: "claim" } });
  if (pass.status === 200 && pass.json("pass")) claimed.add(1);
  else claimsRefused.add(1);
}

const figure = (metric, name) => {
  const value = metric && metric.values[name];
  return value === undefined ? "–" : Math.round(value * 100) / 100;
};

export function handleSummary(data) {
  const m = data.metrics;
  const lines = [`${RATE} shoppers/s for ${DURATION_S} s, each stays up to ${PATIENCE_S} s`];
  for (const name of ["shoppers_joined", "shoppers_called", "shoppers_claimed", "places_lost", "called_beyond_frontier", "claims_refused", "dropped_iterations"]) {
    lines.push(`  ${name.padEnd(24)} ${m[name] ? m[name].values.count : 0}`);
  }
  lines.push(`  ${"http requests".padEnd(24)} ${m.http_reqs.values.count} (${figure(m.http_reqs, "rate")}/s), failed ${(m.http_req_failed.values.rate * 100).toFixed(3)} %`);
  for (const name of ["join", "status", "claim"]) {
    const trend = m[`http_req_duration{name:${name}}`];
    lines.push(`  ${`${name} ms`.padEnd(24)} med ${figure(trend, "med")}  p95 ${figure(trend, "p(95)")}  p99 ${figure(trend, "p(99)")}  max ${figure(trend, "max")}`);
  }
  let failed = 0;
  for (const [name, metric] of Object.entries(m)) {
    for (const [rule, result] of Object.entries(metric.thresholds || {})) {
      if (!result.ok) {
        failed += 1;
        lines.push(`  FAILED ${name} ${rule}`);
      }
    }
  }
  lines.push(failed ? `  ${failed} thresholds failed` : "  all thresholds hold");
  const out = { stdout: `${lines.join("\n")}\n` };
  if (__ENV.SUMMARY) out[__ENV.SUMMARY] = JSON.stringify(data, null, 2);
  return out;
}
