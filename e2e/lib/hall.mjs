// One gate in front of a shop that is not ours, with a private Redis: waiting rooms of every kind, all real, without
// the rest of the house. Rooms of the configuration are at /r/{room}; rooms that a test publishes are at /deals/{uuid}/buy.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { FLOODGATE } from "./house.mjs";
import { call, until } from "./shop.mjs";

const run = promisify(execFile);
const START_TIMEOUT_MS = 30_000;

/** A port that is free now. */
function freePort() {
  return new Promise((resolve, reject) => {
    const socket = createSocket().once("error", reject);
    socket.listen(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}

/** A value in TOML; objects become inline tables. */
function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (value && typeof value === "object") return `{ ${Object.entries(value).map(([k, v]) => `${k} = ${toml(v)}`).join(", ")} }`;
  return JSON.stringify(value);
}

/** The shop behind the gate: says that somebody is inside, and remembers every request. */
async function startShop() {
  const seen = [];
  const server = createServer((request, answer) => {
    seen.push(`${request.method} ${request.url}`);
    answer.writeHead(200, { "content-type": "text/html; charset=utf-8" });
    answer.end("<!doctype html><html lang=en><meta charset=utf-8><title>Shop</title><main><h1>Inside the shop</h1></main></html>");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: server.address().port, seen, stop: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))) };
}

/**
 * Starts everything. `rooms` are settings as in the configuration, without `title`, `rate_per_s`, `inside_max` where a
 * usual value does. Returns `{ gate, shop, redis(...), publish(room), freeze(), thaw(), stop() }`.
 */
export async function startHall(rooms, more = "") {
  const dir = await mkdtemp(join(tmpdir(), "floodgate-hall-"));
  const [port, adminPort] = [await freePort(), await freePort()];
  const shop = await startShop();
  const socket = join(dir, "redis.sock");
  const store = spawn("redis-server", ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--dir", dir], { stdio: "ignore" });
  const redis = async (...words) => (await run("redis-cli", ["-s", socket, ...words.map(String)])).stdout.trim();
  const { stdout: key } = await run(FLOODGATE, ["key", "create", "--id", "k1"]);
  const config = join(dir, "floodgate.toml");
  const full = rooms.map(withDefaults);
  const routes = [
    ...full.map(({ room }) => ({ path: `/r/${room}`, upstream: "shop", room })),
    { path: "/deals/{deal}/buy", upstream: "shop", room: "deal" },
    { path: "/*", upstream: "shop" },
  ];
  await writeFile(config, `
[keys]
ring = [${toml(key.trim())}]
[redis]
url = "redis+unix://${socket}"
command_timeout_ms = 500
[gate]
listen = "127.0.0.1:${port}"
admin_listen = "127.0.0.1:${adminPort}"
public_url = "http://127.0.0.1:${port}"
cookie_secure = false
upstreams = [{ name = "shop", address = "127.0.0.1:${shop.port}", foreign = true }]
routes = ${toml(routes)}
rooms = ${toml(full)}
${more}`);
  const said = [];
  const proxy = spawn(FLOODGATE, ["proxy", "--config", config], { stdio: ["ignore", "pipe", "pipe"] });
  for (const pipe of [proxy.stdout, proxy.stderr]) pipe.setEncoding("utf8").on("data", (text) => said.push(text));
  // Whatever ends this process must not leave servers behind.
  const kill = () => [proxy, store].forEach((child) => child.kill("SIGKILL"));
  process.once("exit", kill);

  const gate = `http://127.0.0.1:${port}`;
  const stop = async () => {
    kill();
    process.off("exit", kill);
    await shop.stop();
    await rm(dir, { recursive: true, force: true });
  };
  const hall = {
    gate,
    shop,
    redis,
    stop,
    log: () => said.join(""),
    /** Publishes a room as the deal service does; again: changes it. */
    async publish(settings) {
      const room = withDefaults(settings);
      await redis("HSET", "fg:{rooms}:settings", room.room, JSON.stringify(room));
      await redis("INCR", "fg:{rooms}:version");
      return room;
    },
    /** The store stops answering, and goes on. */
    freeze: () => store.kill("SIGSTOP"),
    thaw: () => store.kill("SIGCONT"),
    board: async (room) => (await call("GET", `${gate}/_floodgate/rooms/${room}/board`)).body,
    status: async (room, ticket) => (await call("GET", `${gate}/_floodgate/rooms/${room}/status`, { headers: { "floodgate-ticket": ticket } })).body,
    /** Somebody in line. */
    async join(room) {
      const answer = await call("POST", `${gate}/_floodgate/rooms/${room}/tickets`);
      if (answer.status !== 201) throw new Error(`join ${room}: ${answer.status} ${JSON.stringify(answer.body)}`);
      return answer.body.ticket;
    },
    /** Gives a place up, in line or inside. */
    leave: (room, ticket) => call("DELETE", `${gate}/_floodgate/rooms/${room}/ticket`, { headers: { "floodgate-ticket": ticket } }),
    async crowd(room, n) {
      for (let i = 0; i < n; i += 1) await hall.join(room);
    },
    /** Somebody inside. */
    async enter(room) {
      const ticket = await hall.join(room);
      await until(`a call in ${room}`, async () => ["called", "inside"].includes((await hall.status(room, ticket)).state));
      const answer = await call("POST", `${gate}/_floodgate/rooms/${room}/pass`, { headers: { "floodgate-ticket": ticket } });
      if (answer.status !== 200) throw new Error(`claim ${room}: ${answer.status} ${JSON.stringify(answer.body)}`);
      return { ticket, pass: answer.body.pass };
    },
    cookie: (room, ticket) => ({ name: `fg_t_${room}`, value: ticket, url: gate }),
  };
  try {
    const first = full[0].room;
    await until("the gate", async () => {
      if (proxy.exitCode !== null) throw new Error("the gate ended");
      return (await call("GET", `${gate}/_floodgate/rooms/${first}/board`).catch(() => ({}))).status === 200;
    }, START_TIMEOUT_MS);
    return hall;
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${said.join("")}`);
  }
}

function withDefaults(room) {
  return { title: "Ceramic teapot", rate_per_s: 5, inside_max: 1, lease_ms: 3_600_000, lease_max_ms: 3_600_000, enter_path: room.room.startsWith("deal-") ? `/deals/${room.room.slice(5)}/buy` : `/r/${room.room}`, ...room };
}
