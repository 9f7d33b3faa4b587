// Sends the calls of tests/it/real_kafka/clients.rs with a client library for Node as it is published.
//
//   node calls.js LIBRARY URL WRITE_KEY ROUNDS CLOCK
//
// CLOCK is how many seconds this machine's clock seems to be ahead. One line a call when all are done with: the call as
// the library sent it, or why it could not.
"use strict";

const [library, host, writeKey, rounds, clock] = process.argv.slice(2);
const ahead = Number(clock) * 1000;
const TrueDate = Date;
globalThis.Date = class extends TrueDate {
  constructor(...given) {
    super(...(given.length > 0 ? given : [TrueDate.now() + ahead]));
  }
  static now() {
    return TrueDate.now() + ahead;
  }
};

// Only the host and the key are given: everything else is as the library has it.
const { Analytics } = require(library);
const analytics = new Analytics({ writeKey, host });

const calls = (n) => [
  ["identify", { userId: `user-${n}`, traits: { plan: "enterprise", seats: n, renewed: null } }],
  ["track", { userId: `user-${n}`, event: "NPS Submitted", properties: { name: "Ana Díaz", score: 9.5, tags: ["a", "b"] } }],
  ["page", { anonymousId: `visitor-${n}`, category: "Docs", name: "Pricing", properties: { url: "https://example.com/?q=1" } }],
  ["screen", { userId: `user-${n}`, name: "Inbox", properties: { unread: n } }],
  ["group", { userId: `user-${n}`, groupId: `group-${n}`, traits: { name: "Acme & Söhne" } }],
  ["alias", { userId: `user-${n}`, previousId: `visitor-${n}` }],
];

(async () => {
  const done = [];
  for (let n = 0; n < Number(rounds); n++) {
    for (const [type, call] of calls(n)) {
      done.push(
        new Promise((resolve) =>
          analytics[type](call, (failed, sent) => resolve(failed ? { failed: String(failed) } : { sent: sent.event })),
        ),
      );
    }
  }
  await analytics.closeAndFlush();
  for (const line of await Promise.all(done)) console.log(JSON.stringify(line));
})();
