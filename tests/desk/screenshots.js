// Makes the pictures of tests/desk/screenshots: node screenshots.js PLACE KAFKA FOLDER.
'use strict';
const { execFileSync, spawn } = require('node:child_process');
const { mkdirSync, openSync, writeFileSync } = require('node:fs');
const { createServer } = require('node:net');
const { join, resolve } = require('node:path');
const { open, person } = require('./browser');
const { PEOPLE, RULES, leads } = require('./world');

const [place, kafka, folder] = process.argv.slice(2);
const root = resolve(__dirname, '../..');
const binary = join(root, 'target/debug/leadlane');
const HOUR = 3600;
const LOOKS = { light: [1280, 'light'], dark: [1280, 'dark'], phone: [390, 'light'], zoom: [640, 'light'] };

const pause = (millis) => new Promise((done) => setTimeout(done, millis));
async function until(what, asked, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await asked();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}; the logs are in ${place}`);
    await pause(150);
  }
}

const freePort = () => new Promise((done) => {
  const server = createServer().listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => done(port)); });
});

const children = new Set();
/** The environment of a program whose clock is behind. */
const behind = (hoursAgo) => ({ ...process.env, ...(hoursAgo && { LD_PRELOAD: join(place, 'clock.so'), CLOCK_BACK: String(Math.round(hoursAgo * HOUR)) }) });
function start(name, words, hoursAgo = 0) {
  const log = openSync(join(place, `${name}.log`), 'a');
  const child = spawn(binary, words, { stdio: ['ignore', log, log], env: behind(hoursAgo) });
  children.add(child);
  child.ended = new Promise((done) => child.on('exit', () => { children.delete(child); done(); }));
  return child;
}
const stop = (child) => { child.kill('SIGTERM'); return child.ended; };
const ready = (url) => until(`${url} to be ready`, async () => (await fetch(`${url}/readyz`).catch(() => ({}))).ok);

/** A Leadlane of its own topics: its file, its addresses, and what can be done with it. */
async function leadlane(name, sandbox, tokens) {
  const [admin, inlets] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const secrets = join(place, name, 'secrets');
  mkdirSync(secrets, { recursive: true });
  const keep = (secret, value) => writeFileSync(join(secrets, secret), value);
  keep('sales-bot', 'xoxb-1-sales');
  keep('calls-bot', 'xoxb-1-calls');
  keep('alerts-webhook', `http://${sandbox}/services/T0ACME/B0ACME/alerts`);
  keep('acme-passcode', 'sandbox');
  keep('survey-token', 'the-survey-shows-this');
  keep('sheet-token', 'the-sheet-shows-this');
  PEOPLE.forEach((one) => keep(one.secret, `token-of-${one.secret}`));
  const keys = join(place, name, 'keys');
  const { public_key } = JSON.parse(execFileSync(binary, ['--json', 'secrets', 'keygen', '--out', keys]));
  const topic = (of) => `${name}-${of}`;
  const config = {
    kafka: { brokers: kafka, group: name },
    topics: { events: topic('events'), rules: topic('rules'), jobs: topic('jobs'), outcomes: topic('outcomes'), dead_letters: topic('dead-letters'), audit: topic('audit') },
    processor: { instance: name },
    admin: { listen: admin, tokens: tokens ? PEOPLE.map(({ name: of, role, secret, levels }) => ({ name: of, role, secret, levels })) : [] },
    secrets: { dir: secrets, public_key, key_file: keys },
    slack: {
      api_url: `http://${sandbox}/api`, webhook_hosts: [sandbox], channel_rate: '100/s', workspace_rate: '100/s', webhook_rate: '100/s',
      limits: [{ credential: 'slack:sales-bot', channel: 'C0CAMPS', rate: '40/m' }],
    },
    clevertap: { accounts: { acme: { region: 'sandbox', account_id: 'ACME', passcode: { secret: 'acme-passcode' }, api_url: `http://${sandbox}` } } },
    inlet: { listen: inlets },
    inlets: [
      { name: 'survey', preset: 'json', kind: 'http', secrets: [{ bearer: { secret: 'survey-token' } }], event: { event_id: '{{$.id}}', trigger: 'survey.answered', lead_id: '{{$.email}}' } },
      { name: 'signups', preset: 'sheet', kind: 'http', secrets: [{ secret: 'sheet-token' }] },
    ],
  };
  const file = join(place, name, 'leadlane.yaml');
  writeFileSync(file, JSON.stringify(config));
  const url = `http://${admin}`;
  const command = (...words) => execFileSync(binary, ['--config', file, ...words], { encoding: 'utf8' });
  command('topics', 'create', '--partitions', '2');
  return {
    url, command,
    async run(hoursAgo) {
      const child = start(name, ['--config', file, 'run'], hoursAgo);
      await ready(url);
      return child;
    },
    /** Writes events, each an object or the text of a record, at that time by Kafka's clock too. */
    write(events, hoursAgo = 0) {
      const lines = join(place, name, 'events.jsonl');
      writeFileSync(lines, events.map((event) => JSON.stringify(event)).join('\n'));
      execFileSync(binary, ['--config', file, 'events', 'send', lines], { env: behind(hoursAgo) });
    },
    async call(who, method, path, body, headers = {}) {
      const { secret } = PEOPLE.find((one) => one.name.startsWith(who));
      const response = await fetch(`${url}/api/v1${path}`, {
        method, body: body && JSON.stringify(body), headers: { authorization: `Bearer token-of-${secret}`, 'content-type': 'application/json', ...headers },
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${who} ${method} ${path}: ${response.status} ${text}`);
      return text ? JSON.parse(text) : {};
    },
    post: (inlet, body, token) => fetch(`http://${inlets}/inlets/${inlet}`, {
      method: 'POST', body: JSON.stringify(body), headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    }),
  };
}

/** Writes a rule over the version that is in force. */
async function change(desk, who, id, rule) {
  const now = (await desk.call(who, 'GET', `/rules/${id}`)).version;
  return desk.call(who, 'PUT', `/rules/${id}`, rule, { 'if-match': `"${now}"` });
}

/** A week in the company's life, up to now. Gives the running process. */
async function live(desk, order) {
  const next = leads();
  const rules = Object.entries(RULES);
  // Each leg is a run of Leadlane at another hour: how long ago, how many events, and what people do then.
  const legs = [[8.1 * 24, 0], [5 * 24, 40], [3 * 24, 60], [2 * 24, 50], [30, 30]];
  for (let hour = 23; hour >= 1; hour -= 1) legs.push([hour, 10 + Math.round(28 * Math.sin((Math.PI * (24 - hour)) / 24))]);
  legs.push([0.75, 14], [0.5, 18], [0.25, 11]);
  const acts = {
    [8.1 * 24]: async () => {
      for (const [id, [who, rule]] of rules) await desk.call(who.split(' ')[0], 'PUT', `/rules/${id}`, rule, { 'if-none-match': '*' });
    },
    30: () => change(desk, 'Marcus', 'big-auto-sales', { ...RULES['big-auto-sales'][1], filters: { ...RULES['big-auto-sales'][1].filters, price: { gte: 30 } } }),
    9: () => change(desk, 'Ana', 'rejected-leads', { ...RULES['rejected-leads'][1], action: { ...RULES['rejected-leads'][1].action, text: 'Lead {{$.lead_id}}: {{$.reason | default: "no reason given"}}' } }),
    5: () => change(desk, 'Ana', 'big-auto-sales', RULES['big-auto-sales'][1]),
    4: () => order('channels', { channel: 'C0WARRANTY', archived: true }),
    2: () => change(desk, 'Priya', 'payout-over-40', { ...RULES['payout-over-40'][1], filters: { price: { gt: 30 } } }),
  };
  // More than the lane takes.
  const floods = { 0.25: () => Array.from({ length: 250 }, (_, index) => next.of('lms.campaign_rejected', {}, new Date(Date.now() - 0.25 * HOUR * 1000 + index).toISOString())) };
  for (const [hoursAgo, count] of legs) {
    process.stdout.write(`\r${hoursAgo.toFixed(1)} hours ago   `);
    const at = (index) => new Date(Date.now() - hoursAgo * HOUR * 1000 + index * 40).toISOString();
    const process_ = await desk.run(hoursAgo);
    if (acts[hoursAgo]) await acts[hoursAgo]();
    if (count) desk.write([...Array.from({ length: count }, (_, index) => next(at(index))), ...(floods[hoursAgo]?.() || [])], hoursAgo);
    if (hoursAgo === 7) await desk.post('survey', { id: 'a-1', email: 'noor@example.com', score: 3, comment: 'Nobody called me back.' }, 'the-survey-shows-this');
    if (hoursAgo === 3) await desk.post('survey', { id: 'a-2', email: 'sam@example.com', score: 9, comment: 'Quick and friendly.' }, 'the-survey-shows-this');
    await settled(desk);
    await stop(process_);
  }
  process.stdout.write('\rnow             \n');
  const process_ = await desk.run();
  await order('faults', { target: 'ACME', kind: 'error', error: 515, identity: 'eve.obrien@example.com', for: '10m' });
  await order('credentials', { token: 'xoxb-1-calls', refused: true, error: 'token_revoked' });
  await order('faults', { target: 'C0TEXAS', kind: 'rate_limit', for: '10m', retry_after: 540 });
  await desk.post('survey', { id: 'a-3', score: 2 }, 'the-survey-shows-this');
  await desk.post('survey', { id: 'a-4', email: 'x@example.com' }, 'a-wrong-token');
  await desk.post('signups', { Email: 'noor@example.com', 'First name': 'Noor', Plan: 'Enterprise' }, 'the-sheet-shows-this');
  const now = () => new Date().toISOString();
  desk.write([
    ...Array.from({ length: 12 }, () => next(now())),
    next.of('lms.lead_sold', { lead_id: '84599001', product: { id: '12', name: 'Auto Insurance' }, publisher: { id: '3401', name: 'Bright & Co <Traffic>' }, price: '42.50', fields: { vehicle_year: 2019 }, consumer: { first_name: 'Ana', last_name: 'Diaz', city: 'Austin', state: 'TX', phone: '+15125550188', email: 'ana.diaz@example.com' } }, now()),
    next.of('lms.lead_sold', { lead_id: '84599002', product: { id: '12', name: 'Auto Insurance' }, publisher: { id: '3409', name: 'LeadLoop' }, price: '18.00', consumer: { first_name: 'Grace', last_name: 'Liu', city: 'Seattle', state: 'WA', phone: '+15125550189', email: 'grace.liu@example.com' } }, now()),
    ...Array.from({ length: 4 }, () => next.of('call_logic.buyer_response', { call: { caller_number: '+15125550123', answered: true, billable_seconds: 95 } }, now())),
    ...Array.from({ length: 7 }, () => next.of('lms.lead_sold', { consumer: { first_name: 'Hugo', city: 'Dallas', state: 'TX', email: 'hugo.meyer@example.com' } }, now())),
  ]);
  await desk.call('Priya', 'POST', '/lanes/slack%3Asales-bot%2FC0BRIGHT/pause');
  await settled(desk);
  return process_;
}

/** Waits until what was written is read, and what can go has gone. */
async function settled(desk) {
  let [before, calm] = ['', 0];
  await until('everything to be settled', async () => {
    const text = await (await fetch(`${desk.url}/metrics`)).text();
    const now = text.split('\n').filter((line) => /^leadlane_(rule_matches|outcomes|deliveries|consumer_lag|events)/.test(line)).join();
    calm = now === before ? calm + 1 : 0;
    before = now;
    return calm > 8;
  });
}

/** Takes pictures, and finds faults on the way. */
class Camera {
  constructor(page) { Object.assign(this, { page, faults: [] }); }

  async shot(name, page = this.page) {
    for (const [look, [width, colorScheme]] of Object.entries(LOOKS)) {
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ colorScheme });
      // As high as the page, so that what sticks to an edge of the window is where it belongs.
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      await page.setViewportSize({ width, height: Math.min(Math.max(height, 800), 8000) });
      await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
      // No button is half way from one colour to the next.
      await page.evaluate(() => Promise.all(document.getAnimations().map((moves) => moves.finished.catch(() => {}))));
      const over = await page.evaluate(() => {
        const wide = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= wide) return '';
        const out = [...document.querySelectorAll('main *')].find((found) => found.getBoundingClientRect().right > wide + 1);
        return `scrolls sideways${out ? `, at ${out.outerHTML.slice(0, 160)}` : ''}`;
      });
      if (over) this.faults.push(`${name}, ${look}: ${over}`);
      await page.screenshot({ path: join(folder, `${name}-${look}.png`), fullPage: true, caret: 'initial' });
    }
    await page.emulateMedia({ colorScheme: null });
    await page.setViewportSize({ width: 1280, height: 800 });
    process.stdout.write(`${name} `);
  }

  async at(name, path, page = this.page) {
    await page.goto(path);
    await this.shot(name, page);
  }
}

/** A picture may take long on a machine that is busy. */
const patient = (page) => page.setDefaultTimeout(180_000);

const press = (page, name) => page.getByRole('button', { name, exact: true }).first().click();

async function take(browser, desk, empty) {
  const page = await person(browser, desk.url, { token: 'token-of-desk-priya' });
  const camera = new Camera(page);
  patient(page);
  for (const [name, path] of Object.entries({
    home: '/', rules: '/rules', 'rule-new': '/rules/new', 'rule-yaml': '/rules/big-auto-sales/yaml', 'rule-trial': '/rules/long-cheap-calls', 'rule-clevertap': '/rules/lead-profile', 'rule-webhook': '/rules/rejected-leads',
    'rule-versions': '/rules/big-auto-sales/versions', import: '/rules/import', deliveries: '/deliveries', why: '/why', 'why-matched': '/why?lead=84599001', 'why-unmatched': '/why?lead=84599002',
    'why-unknown': '/why?lead=99', lanes: '/lanes', 'lanes-pause-all': '/lanes/pause-all', 'dead-letters': '/dead-letters', audit: '/audit', inlets: '/inlets', status: '/status', search: '/search?q=sales',
    'rules-nothing-found': '/rules?text=nobody', 'not-found': '/rules/nobody-wrote-this', 'no-page': '/nowhere',
  })) await camera.at(name, path);

  // The editor: a preview, what it would have matched, a real test, an error.
  await page.goto('/rules/big-auto-sales');
  await camera.shot('rule');
  await press(page, 'Preview');
  await page.locator('#preview .slack').waitFor();
  await press(page, 'Try it');
  await page.getByText(/would have matched/).first().waitFor();
  await press(page, 'Send test');
  await page.locator('#test').getByText('It arrived').waitFor();
  await camera.shot('rule-tried');
  await page.locator('[name="filters.price.op"]').selectOption('between');
  await page.locator('[name="filters.price.b"]').waitFor();
  await page.locator('[name="filters.price.a"]').fill('25');
  await page.locator('[name="filters.price.b"]').fill('15');
  await press(page, 'Save rule');
  await page.locator('.errsum').first().waitFor();
  await camera.shot('rule-error');

  // Two people at one rule.
  await page.goto('/rules/texas-desk');
  await page.locator('[name="name"]').fill('Texas leads to the Dallas desk');
  await page.locator('[name="action.to.id"]').fill('C0DALLAS');
  await change(desk, 'Marcus', 'texas-desk', { ...RULES['texas-desk'][1], name: 'Texas and Oklahoma', filters: { where: [{ path: '$.consumer.state', in: ['TX', 'OK'] }] } });
  await press(page, 'Save rule');
  await page.getByText(/Marcus Oyelaran/).first().waitFor();
  await camera.shot('rule-conflict');

  await page.goto('/rules');
  for (const nth of [1, 2]) await page.locator('tbody input[type=checkbox]').nth(nth).check();
  await camera.shot('rules-bulk');
  await press(page, 'Delete…');
  await page.waitForURL(/bulk/);
  await camera.shot('rules-delete');
  await page.goto('/rules/import');
  await page.locator('#yaml').fill(desk.command('rules', 'get', 'payout-over-40').replace('"gt": 30', '"gt": 45'));
  await press(page, 'See what would change');
  await camera.shot('import-look');

  await page.goto('/deliveries');
  await page.locator('main a[href^="/deliveries/"]').first().click();
  await page.waitForURL(/deliveries\/./);
  await camera.shot('delivery');
  await press(page, 'Show in full');
  await page.getByText('You see personal data').waitFor();
  await camera.shot('reveal');

  await page.goto('/dead-letters');
  await page.locator('main a[href^="/dead-letters/"]').first().click();
  await page.waitForURL(/dead-letters\/./);
  await camera.shot('dead-letter');
  await page.goto('/dead-letters');
  for (const box of await page.locator('tbody input[type=checkbox]').all()) await box.check();
  await page.getByRole('button', { name: /replay/i }).first().click();
  await page.waitForURL(/replay/);
  await camera.shot('dry-run');

  await page.goto('/rules');
  await page.locator('body').press('/');
  await page.locator('#pal').fill('sales');
  await page.locator('#found').getByText('Big auto sales').waitFor();
  await camera.shot('palette');

  const ana = await person(browser, desk.url, { token: 'token-of-desk-ana' });
  patient(ana);
  await camera.at('rules-of-an-editor', '/rules', ana);
  await camera.at('rule-locked', '/rules/hw-over-60', ana);
  await camera.at('forbidden', '/lanes/pause-all', ana);
  const tom = await person(browser, desk.url, { token: 'token-of-desk-tom' });
  patient(tom);
  await camera.at('rules-of-a-viewer', '/rules', tom);

  const stranger = await person(browser, desk.url);
  patient(stranger);
  await camera.at('login', '/login', stranger);
  await stranger.getByLabel('Your token').fill('not-a-token');
  await press(stranger, 'Log in');
  await camera.shot('login-wrong', stranger);

  const beginner = await person(browser, empty.url);
  patient(beginner);
  for (const [name, path] of Object.entries({
    'empty-home': '/', 'empty-rules': '/rules', 'empty-rule': '/rules/new?trigger=lms.lead_sold&action=slack_message&level=product', 'empty-deliveries': '/deliveries', 'empty-lanes': '/lanes', 'empty-dead-letters': '/dead-letters', 'empty-audit': '/audit', 'empty-inlets': '/inlets',
  })) await camera.at(name, path, beginner);

  execFileSync('tests/kafka/kafka', ['stop', '--dir', join(place, 'kafka')], { cwd: root });
  await until('the page to say that the desk is cut off', async () => {
    await page.goto('/');
    return (await page.locator('main').innerText()).includes('lost touch');
  });
  await camera.shot('cut-off');
  await camera.at('cut-off-rule', '/rules/big-auto-sales');
  return [...camera.faults, ...[page, ana, tom, stranger, beginner].flatMap((one) => one.faults)];
}

async function main() {
  mkdirSync(folder, { recursive: true });
  const sandbox = `127.0.0.1:${await freePort()}`;
  const sandboxed = start('sandbox', ['sandbox', '--listen', sandbox]);
  const order = async (what, body) => {
    const response = await fetch(`http://${sandbox}/_sandbox/${what}`, { method: 'POST', body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${what}: ${await response.text()}`);
  };
  await until('the sandbox', () => order('limits', { channel: '*', rate: '0' }).then(() => true, () => false));
  await order('limits', { webhook: '*', rate: '0' });
  await order('limits', { workspace: '*', rate: '0' });
  const desk = await leadlane('acme', sandbox, true);
  const empty = await leadlane('empty', sandbox, false);
  const running = await live(desk, order);
  const idle = await empty.run();
  const browser = await open();
  try {
    const faults = await take(browser, desk, empty);
    console.log(`\nthe pictures are in ${folder}`);
    faults.forEach((fault) => console.error(fault));
    return faults.length ? 1 : 0;
  } finally {
    await browser.close();
    for (const child of [running, idle, sandboxed]) child.kill('SIGKILL');
  }
}

process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')));
main().then((code) => process.exit(code), (error) => {
  console.error(error);
  process.exit(1);
});
