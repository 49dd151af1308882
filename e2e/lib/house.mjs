// A whole Floodgate of its own for a test run: `floodgate up` in a temporary folder.
import { execFile, spawn } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 30_000;

/** The binary under test; `make` names it. */
export const FLOODGATE =
  process.env.FLOODGATE_BIN ||
  join(process.env.CARGO_TARGET_DIR || join(homedir(), ".cache/floodgate-target"), "debug/floodgate");

/**
 * Starts private stores and every role. Returns `{ gate, simulator, config, merchant(name), stop() }`;
 * `environment` overrides configuration, e.g. `{ FLOODGATE__GATE__TRUSTED_PROXIES: "1" }`.
 */
export async function startHouse(environment = {}) {
  const dir = await mkdtemp(join(tmpdir(), "floodgate-e2e-"));
  // As root the database server runs as another user, who must be able to pass through.
  await chmod(dir, 0o711);
  const child = spawn(FLOODGATE, ["up", "--dir", dir, "--json"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment },
  });
  // Whatever ends this process must not leave servers behind.
  const killed = () => child.kill("SIGKILL");
  process.once("exit", killed);
  const said = [];
  child.stderr.setEncoding("utf8").on("data", (text) => said.push(text));
  const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)));

  const stop = async () => {
    child.kill("SIGTERM");
    const timer = setTimeout(killed, STOP_TIMEOUT_MS);
    const how = await ended;
    clearTimeout(timer);
    process.off("exit", killed);
    await rm(dir, { recursive: true, force: true });
    return how;
  };

  try {
    const state = await firstLine(child, ended, said);
    const url = (name) => state.roles.find((role) => role.name === name).url;
    return {
      dir,
      gate: state.gate_url,
      simulator: url("payment-simulator"),
      config: state.config,
      roles: state.roles,
      merchant: (name) => createMerchant(state.config, name),
      stop,
    };
  } catch (error) {
    const logs = await tails(join(dir, "logs"));
    await stop();
    throw new Error(`${error.message}\n${said.join("")}${logs}`);
  }
}

function firstLine(child, ended, said) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`floodgate up is not ready after ${START_TIMEOUT_MS} ms`)), START_TIMEOUT_MS);
    createInterface({ input: child.stdout }).once("line", (line) => {
      clearTimeout(timer);
      try {
        resolve(JSON.parse(line));
      } catch {
        reject(new Error(`floodgate up printed: ${line}`));
      }
    });
    child.once("error", reject);
    ended.then((how) => {
      clearTimeout(timer);
      reject(new Error(`floodgate up ended (${how})\n${said.join("")}`));
    });
  });
}

async function createMerchant(config, name) {
  const { stdout } = await promisify(execFile)(FLOODGATE, ["merchant", "create", "--name", name, "--json", "--config", config]);
  return JSON.parse(stdout);
}

/** The last lines of every log, for a failed start. */
async function tails(folder) {
  const names = await readdir(folder).catch(() => []);
  const parts = names.map(async (name) => {
    const text = await readFile(join(folder, name), "utf8");
    return `--- ${name}\n${text.split("\n").slice(-12).join("\n")}\n`;
  });
  return (await Promise.all(parts)).join("");
}
