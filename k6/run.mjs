// Starts a private Floodgate with an open deal, runs spike.js against it, and stops everything.
import { spawn } from "node:child_process";
import { createDeal } from "../e2e/lib/shop.mjs";
import { startHouse } from "../e2e/lib/house.mjs";

const [k6] = process.argv.slice(2);
const rate = Number(process.env.RATE || 100);
const duration = Number(process.env.DURATION || 20);

/** What the gate itself measured, without the generator's share: the first bucket that holds 99 of 100. */
async function ownFigures() {
  const { admin } = house.roles.find(({ name }) => name === "proxy");
  const text = await (await fetch(`http://${admin}/metrics`)).text();
  for (const [name, route] of [["join", "tickets"], ["claim", "pass"]]) {
    const line = new RegExp(`^floodgate_gate_request_duration_seconds_bucket\\{route="${route}",outcome="ok",le="([^"]+)"\\} (\\d+)`, "gm");
    const buckets = [...text.matchAll(line)].map(([, le, count]) => ({ le: Number(le.replace("+Inf", "Infinity")), count: Number(count) }));
    const all = buckets.at(-1)?.count ?? 0;
    const holds = buckets.find(({ count }) => count >= 0.99 * all);
    if (all > 0) console.log(`  ${`${name}, by the gate`.padEnd(24)} p99 within ${holds.le * 1000} ms (${all})`);
  }
}

// The gate believes the script's X-Forwarded-For, so that every shopper has an address of its own.
const house = await startHouse({ FLOODGATE__GATE__TRUSTED_PROXIES: "1" });
let code = 1;
try {
  const merchant = await house.merchant("Load test");
  // Half of the arrivals are called, so that a line grows and moves.
  const deal = await createDeal(house, merchant, {
    stock: rate * duration * 2,
    admission: { rate_per_s: Math.max(1, Math.floor(Number(process.env.CALLS || rate / 2))), inside_max: 1_000_000 },
  });
  // Thousands of shoppers are much garbage: collect it less often than k6 would, it shares our cores.
  const env = { GOGC: "400", ...process.env, GATE_URL: house.gate, ROOM: deal.room, RATE: String(rate), DURATION: String(duration) };
  const child = spawn(k6, ["run", "--no-usage-report", "--quiet", new URL("spike.js", import.meta.url).pathname], { stdio: "inherit", env });
  code = await new Promise((resolve) => child.once("exit", (status) => resolve(status ?? 1)));
  await ownFigures();
} finally {
  await house.stop();
}
process.exitCode = code;
