// Starts a private Floodgate with an open deal, runs spike.js against it, and stops everything.
import { spawn } from "node:child_process";
import { createDeal } from "../e2e/lib/shop.mjs";
import { startHouse } from "../e2e/lib/house.mjs";

const [k6] = process.argv.slice(2);
const rate = Number(process.env.RATE || 100);
const duration = Number(process.env.DURATION || 20);

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
  const env = { ...process.env, GATE_URL: house.gate, ROOM: deal.room, RATE: String(rate), DURATION: String(duration) };
  const child = spawn(k6, ["run", "--no-usage-report", "--quiet", new URL("spike.js", import.meta.url).pathname], { stdio: "inherit", env });
  code = await new Promise((resolve) => child.once("exit", (status) => resolve(status ?? 1)));
} finally {
  await house.stop();
}
process.exitCode = code;
