// One Chromium for a test file, contexts that notice everything that must not happen, and axe.
import { chromium } from "playwright-core";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const axeFile = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Debian's Chromium, quiet: it must not look for updates or for anything outside. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/**
 * A fresh visitor. `origins` are the only ones that may be asked for anything; `problems()` lists what
 * went wrong: console errors, reports of the content security policy, page errors, foreign requests.
 */
export async function visitor(browser, origins, { lang = "en", width = 1280, motion = "no-preference", js = true, bypassCSP = false } = {}) {
  const context = await browser.newContext({
    locale: { ko: "ko-KR", ja: "ja-JP" }[lang] ?? "en-US",
    timezoneId: "Asia/Seoul",
    viewport: { width, height: 800 },
    reducedMotion: motion,
    javaScriptEnabled: js,
    bypassCSP,
  });
  const found = [];
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && !origins.includes(url.origin)) found.push(`foreign request: ${url.href}`);
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) found.push(`console ${message.type()}: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => found.push(`page error: ${error.message}`));
  return { context, page, problems: () => found, close: () => context.close() };
}

/** Nothing that must not happen has happened. */
export function assertQuiet(visit) {
  assert.deepEqual(visit.problems(), []);
}

/**
 * Runs axe on the page; the context needs `bypassCSP`. Returns readable findings. `rules` names single
 * rules to run instead of all.
 */
export async function axe(page, rules) {
  if (!(await page.evaluate(() => "axe" in window))) await page.addScriptTag({ path: axeFile });
  const runOnly = rules ? { type: "rule", values: rules } : { type: "tag", values: TAGS };
  const result = await page.evaluate((runOnly) => window.axe.run(document, { runOnly, resultTypes: ["violations"] }), runOnly);
  return result.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`);
}

/** Layout rules that axe does not know: no sideways scrolling, no control too small to hit. */
export function layoutFindings(page) {
  return page.evaluate(() => {
    const findings = [];
    const wide = document.documentElement.scrollWidth;
    if (wide > window.innerWidth) findings.push(`scrolls sideways: ${wide} > ${window.innerWidth} px`);
    for (const control of document.querySelectorAll("button, input:not([type=hidden]), select, summary")) {
      const { width, height } = control.getBoundingClientRect();
      if (width > 0 && (width < 24 || height < 24)) findings.push(`${control.tagName} ${control.textContent.trim()}: ${width} x ${height} px`);
    }
    for (const tag of ["h1", "main"]) {
      const n = document.querySelectorAll(tag).length;
      if (n !== 1) findings.push(`${n} ${tag} elements`);
    }
    if (!document.title.trim()) findings.push("no title");
    for (const primary of document.querySelectorAll(".button")) {
      const { width, height } = primary.getBoundingClientRect();
      if (width > 0 && height < 44) findings.push(`${primary.textContent.trim()}: ${height} px high`);
    }
    for (const box of document.querySelectorAll("button, a, dd, dt, summary, label")) {
      if (box.clientWidth > 0 && box.scrollWidth > box.clientWidth + 1) findings.push(`text is cut: ${box.textContent.trim()}`);
    }
    return findings;
  });
}
