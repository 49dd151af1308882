// Two more browser engines without an installer of their own: Firefox speaks WebDriver BiDi by itself, WebKit has
// Debian's WebKitWebDriver. Both drivers below know only what the tests need: go, evaluate, end.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { until } from "./shop.mjs";

const FIREFOX = ["/usr/bin/firefox-esr", "/usr/bin/firefox"].find(existsSync);
const WEBKIT = ["/usr/bin/WebKitWebDriver"].find(existsSync);
const XVFB = ["/usr/bin/Xvfb"].find(existsSync);
const MINI_BROWSER = ["4.1", "4.0", "6.0"].map((v) => `/usr/lib/x86_64-linux-gnu/webkit${v === "6.0" ? "gtk" : "2gtk"}-${v}/MiniBrowser`).find(existsSync);
const START_TIMEOUT_MS = 60_000;

/** The engines by name: a function that starts one, or why not. */
export const engines = {
  Firefox: FIREFOX ? { start: startFirefox } : { skip: "not installed: firefox-esr" },
  WebKit: WEBKIT && XVFB && MINI_BROWSER ? { start: startWebKit } : { skip: "not installed: webkit2gtk-driver and xvfb" },
};

/** Starts a program and waits until it has said something like `pattern`; returns the child and the match. */
async function saying(command, args, pattern, env = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env }, detached: true });
  // The whole group, because browsers have children.
  const kill = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  };
  process.once("exit", kill);
  let said = "";
  for (const pipe of [child.stdout, child.stderr]) pipe.setEncoding("utf8").on("data", (text) => (said += text));
  const stop = async () => {
    process.off("exit", kill);
    if (child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    kill();
    await ended;
  };
  try {
    const match = await until(`${command} to start`, () => said.match(pattern), START_TIMEOUT_MS, 100);
    return { match, stop };
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${said}`);
  }
}

async function startFirefox(lang = "en") {
  const profile = await mkdtemp(join(tmpdir(), "floodgate-firefox-"));
  // Quiet: no updates, no first page, nothing outside.
  const quiet = { "intl.accept_languages": lang, "app.update.enabled": false, "datareporting.policy.dataSubmissionEnabled": false, "browser.shell.checkDefaultBrowser": false, "network.captive-portal-service.enabled": false, "network.connectivity-service.enabled": false, "browser.safebrowsing.update.enabled": false, "services.settings.server": "data:,", "toolkit.telemetry.enabled": false };
  await writeFile(join(profile, "user.js"), Object.entries(quiet).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(""));
  const firefox = await saying(FIREFOX, ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "about:blank"], /WebDriver BiDi listening on (ws:\/\/\S+)/, { HOME: profile });
  const socket = new WebSocket(`${firefox.match[1]}/session`);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  const waiting = new Map();
  socket.on("message", (text) => {
    const { id, type, result, message } = JSON.parse(text);
    const [resolve, reject] = waiting.get(id) ?? [];
    waiting.delete(id);
    if (type === "success") resolve?.(result);
    else reject?.(new Error(message));
  });
  let last = 0;
  const send = (method, params) => new Promise((resolve, reject) => {
    last += 1;
    waiting.set(last, [resolve, reject]);
    socket.send(JSON.stringify({ id: last, method, params }));
  });
  const { capabilities } = await send("session.new", { capabilities: {} });
  const { contexts } = await send("browsingContext.getTree", {});
  const { context } = contexts[0];
  return {
    version: `${capabilities.browserName} ${capabilities.browserVersion}`,
    go: (url) => send("browsingContext.navigate", { context, url, wait: "complete" }),
    async evaluate(expression) {
      const answer = await send("script.evaluate", { expression: `JSON.stringify(${expression})`, target: { context }, awaitPromise: true });
      if (answer.type !== "success") throw new Error(answer.exceptionDetails.text);
      return answer.result.type === "string" ? JSON.parse(answer.result.value) : undefined;
    },
    async stop() {
      socket.close();
      await firefox.stop();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

async function startWebKit() {
  const display = await saying("sh", ["-c", `exec ${XVFB} -displayfd 1 -screen 0 1280x800x24 -nolisten tcp`], /^(\d+)\s/m);
  const port = 20_000 + (process.pid % 20_000);
  const home = await mkdtemp(join(tmpdir(), "floodgate-webkit-"));
  // The driver says nothing when it is ready; asking tells.
  const driver = await saying("sh", ["-c", `echo started; exec ${WEBKIT} --port=${port}`], /started/, {
    DISPLAY: `:${display.match[1]}`, HOME: home, XDG_RUNTIME_DIR: home, WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1", WEBKIT_DISABLE_COMPOSITING_MODE: "1", NO_AT_BRIDGE: "1",
  });
  const stop = async () => {
    await driver.stop();
    await display.stop();
    await rm(home, { recursive: true, force: true });
  };
  const send = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  try {
    await until("WebKitWebDriver", () => send("GET", "/status").then(() => true, () => false), START_TIMEOUT_MS);
    const options = { binary: MINI_BROWSER, args: ["--automation"] };
    const { sessionId, capabilities } = await send("POST", "/session", { capabilities: { alwaysMatch: { "webkitgtk:browserOptions": options } } });
    const session = `/session/${sessionId}`;
    return {
      version: `${capabilities.browserName} ${capabilities.browserVersion}`,
      go: (url) => send("POST", `${session}/url`, { url }),
      evaluate: (expression) => send("POST", `${session}/execute/sync`, { script: `return (${expression})`, args: [] }),
      async stop() {
        await send("DELETE", session).catch(() => {});
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
