// The payment simulator on its own: `floodgate simulate-payments` on free ports.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { FLOODGATE } from "./house.mjs";

/** Starts it. Returns what it says about itself, plus `control(path, body?)`, which answers JSON, and `stop()`. */
export async function startSimulator(options = []) {
  const args = ["simulate-payments", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--json", ...options];
  const child = spawn(FLOODGATE, args, { stdio: ["ignore", "pipe", "inherit"] });
  const killed = () => child.kill("SIGKILL");
  process.once("exit", killed);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const line = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    ended.then((code) => reject(new Error(`simulate-payments ended (${code})`)));
  });
  const said = JSON.parse(line);
  return {
    ...said,
    control: async (path, body) => {
      const post = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
      const answer = await fetch(`${said.control_url}/${path}`, body && post);
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
      return answer.json();
    },
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
      process.off("exit", killed);
    },
  };
}
