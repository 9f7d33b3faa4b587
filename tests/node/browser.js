// Sends the calls of tests/it/real_kafka/clients.rs with Segment's library for browsers as it is published, in Chromium,
// from a page of another origin than the inlet's.
//
//   node browser.js PAGE_PORT URL WRITE_KEY ROUNDS STRATEGY
//
// STRATEGY is `standard`, a request a call, or `batching`. One line a call: the message's id, or why it could not be sent.
"use strict";
const { readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { join, dirname } = require("node:path");
const { chromium } = require("playwright-core");

const [port, url, writeKey, rounds, strategy] = process.argv.slice(2);
const library = dirname(require.resolve("@segment/analytics-next/package.json"));
const script = readFileSync(join(library, "dist/umd/index.js"));

const page = createServer((request, answer) => {
  const isScript = request.url === "/analytics.js";
  answer.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
  answer.end(isScript ? script : "<!doctype html><title>Shop</title><script src='/analytics.js'></script>");
});

/** In the page: only the host, the key and how calls are delivered are given. */
async function send({ url, writeKey, rounds, strategy }) {
  const [protocol, apiHost] = url.split("://");
  const settings = { apiHost, protocol, apiKey: writeKey };
  if (strategy === "batching") settings.deliveryStrategy = { strategy: "batching", config: { size: 5, timeout: 200 } };
  const [analytics] = await window.AnalyticsNext.AnalyticsBrowser.load(
    { writeKey, cdnSettings: { integrations: { "Segment.io": settings } } },
    { integrations: { "Segment.io": settings } },
  );
  const failed = new Map();
  analytics.on("error", (error) => error.ctx && failed.set(error.ctx.event.messageId, String(error.reason)));
  const sent = [];
  for (let n = 0; n < rounds; n++) {
    const user = `user-${n}`;
    for (const context of [
      await analytics.identify(user, { plan: "enterprise", seats: n }),
      await analytics.track("NPS Submitted", { name: "Ana Díaz", score: 9.5, tags: ["a", "b"] }),
      await analytics.page("Docs", "Pricing"),
      await analytics.screen("Docs", "Inbox", { unread: n }),
      await analytics.group(`group-${n}`, { name: "Acme & Söhne" }),
      await analytics.alias(`${user}-known`, user),
    ]) sent.push(context.event.messageId);
  }
  return sent.map((id) => ({ id, failed: failed.get(id) }));
}

(async () => {
  await new Promise((ready) => page.listen(Number(port), "127.0.0.1", ready));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"],
  });
  try {
    const shop = await browser.newPage();
    await shop.goto(`http://localhost:${port}/`);
    const answers = [];
    shop.on("requestfinished", (request) => request.url().startsWith(url) && answers.push(request));
    const calls = await shop.evaluate(send, { url, writeKey, rounds: Number(rounds), strategy });
    // The page goes, and what still waits goes out with it.
    await shop.goto("about:blank");
    for (const call of calls) console.log(JSON.stringify(call));
  } finally {
    await browser.close();
    page.close();
  }
})();
