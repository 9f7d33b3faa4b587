// Calls both clients of Customer.io's library for Node, as it is published, for tests/it/real_kafka/clients.rs. The
// library speaks HTTPS alone, so a front with a certificate of its own stands before the inlet, as in any real set-up.
//
//   node customerio.js HOST:PORT PATH KEY
//
// One line a call: what it was, and what the library says of it.
"use strict";
const { execFileSync } = require("node:child_process");
const { mkdtempSync, readFileSync, rmSync } = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { APIClient, SendEmailRequest, TrackClient } = require("customerio-node");

const [inlets, path, key] = process.argv.slice(2);
const dir = mkdtempSync(join(tmpdir(), "leadlane-front-"));
const file = (name) => join(dir, name);
execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
  "subjectAltName=DNS:localhost", "-keyout", file("key"), "-out", file("cert")], { stdio: "ignore" });
const [host, port] = inlets.split(":");
const certificate = readFileSync(file("cert"));
const front = https.createServer({ key: readFileSync(file("key")), cert: certificate }, (request, answer) => {
  const { method, url, headers } = request;
  const on = http.request({ host, port, method, path: url, headers }, (answered) => {
    answer.writeHead(answered.statusCode, answered.headers);
    answered.pipe(answer);
  });
  request.pipe(on);
});

front.listen(0, "127.0.0.1", async () => {
  const at = { port: front.address().port, ca: certificate, family: 4 };
  const track = new TrackClient("site-7", key, { ...at, url: `https://localhost${path}/api/v1` });
  const api = new APIClient(key, { ...at, url: `https://localhost${path}/v1` });
  const email = new SendEmailRequest({ to: "ana@example.com", transactional_message_id: "1", identifiers: { id: "7" } });
  for (const [what, call] of [
    ["identify", () => track.identify("ana/7@example.com", { email: "ana@example.com", plan: "enterprise" })],
    ["identify", () => track.identify("ana/7@example.com", { email: "ana@example.com", plan: "enterprise" })],
    ["track", () => track.track("ana/7@example.com", { name: "NPS Submitted", data: { score: 9.5, name: "Ana Díaz" } })],
    ["track", () => track.track("ana/7@example.com", { name: "Old", id: "01HB4", timestamp: 1772723760 })],
    ["page", () => track.trackPageView("ana/7@example.com", "https://example.com/pricing")],
    ["anonymous", () => track.trackAnonymous("visitor-7", { name: "Looked", data: { n: 1 } })],
    ["destroy", () => track.destroy("ana/7@example.com")],
    ["email", () => api.sendEmail(email)],
  ]) {
    const said = await call().then((answer) => ({ what, answer }), (error) => ({ what, failed: error.statusCode || String(error) }));
    console.log(JSON.stringify(said));
  }
  front.close();
  front.closeAllConnections();
  rmSync(dir, { recursive: true });
});
