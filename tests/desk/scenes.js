// The scenes that tests/it/real_kafka/pages.rs plays, each in a browser of its own against a Leadlane of its own.
'use strict';
const assert = require('node:assert/strict');
const { createServer } = require('node:http');
const { person, violations } = require('./browser');

const field = (page, name) => page.locator(`[name="${name}"]`).first();
const press = (page, name) => page.getByRole('button', { name, exact: true }).first().click();

/** Asks again and again, as a reader would look again. */
async function until(what, asked, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await asked();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((done) => setTimeout(done, 200));
  }
}

/** From /rules/new to a saved rule, by plain forms. */
async function makeRule(page, { name, text, product = '12', channel = 'C0SALES', token, secret = 'sales-bot' }) {
  await page.goto('/rules/new');
  await page.getByLabel('Lead sold', { exact: true }).check();
  await page.getByLabel('Post to Slack as an app').check();
  await press(page, 'Go on to the settings');
  await field(page, 'name').fill(name);
  await field(page, 'scope.id').fill(product);
  if (token) await field(page, 'action.token.typed').fill(token);
  else await field(page, 'action.token.secret').fill(secret);
  await field(page, 'action.to.id').fill(channel);
  await field(page, 'action.text').fill(text);
  await press(page, 'Save rule');
  await page.waitForURL(/saved=/);
  return new URL(page.url()).pathname.split('/')[2];
}

async function arrives(ask, text) {
  return until(`a message ${text}`, async () => (await ask('texts')).includes(text));
}

async function firstRule({ browser, world, ask }, options = {}) {
  const page = await person(browser, world.url, options);
  await page.goto('/rules');
  await page.getByRole('link', { name: /first rule|Add rule|New rule/i }).first().click();
  await page.waitForURL(/\/rules\/new/);
  await makeRule(page, { name: 'Sales of product 12', text: 'Lead {{$.lead_id}} sold to {{$.buyer.name}}' });
  await ask('sold', '7', '12', '42.50');
  await arrives(ask, 'Lead lead-7 sold to SafeDrive');
  await page.goto('/rules');
  await page.getByRole('link', { name: 'Sales of product 12', exact: true }).waitFor();
  assert.deepEqual(page.faults, []);
}

const firstRuleWithoutScripts = (scene) => firstRule(scene, { javaScriptEnabled: false });

async function sealedToken({ browser, world, ask }) {
  const typed = 'xoxb-9-hunter2-typed';
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'Sealed', text: 'Sealed {{$.lead_id}}', token: typed });
  await ask('sold', '8', '12', '30');
  await arrives(ask, 'Sealed lead-8');
  for (const path of [`/rules/${id}`, `/rules/${id}/yaml`, `/rules/${id}/versions`, '/rules', '/audit', '/deliveries']) {
    await page.goto(path);
    assert.ok(!(await page.content()).includes('hunter2'), path);
  }
  assert.ok(!(await ask('topics')).includes('hunter2'), 'a topic has it');
  assert.ok(!(await ask('log')).includes('hunter2'), 'the log has it');
}

async function preview({ browser, world, ask }) {
  const page = await person(browser, world.url);
  await ask('sold', '9', '12', '1234.5');
  const text = '*{{$.buyer.name}}* <https://crm.example.com/{{$.lead_id}}|{{$.lead_id}}> {{$.price | money}} {{$.consumer.email}} {{$.nope}}&amp;';
  const id = await makeRule(page, { name: 'Preview', text });
  await page.goto(`/rules/${id}`);
  // The last recent event is shown; what Slack would be given stands there to the letter, masked as everything is.
  await until('the event to be there', async () => {
    await page.goto(`/rules/${id}`);
    return (await page.locator('#preview').innerText()).includes('lead-9');
  });
  await ask('sold', '10', '12', '1234.5');
  const arrived = await until('the message', async () => (await ask('texts')).find((found) => found.includes('lead-10')));
  const shown = await page.locator('#preview').innerText();
  assert.match(shown, /SafeDrive/);
  assert.match(arrived, /^\*SafeDrive\* <https:\/\/crm\.example\.com\/lead-10\|lead-10> \$1,234\.50 ana10@example\.com/);
  assert.ok(!shown.includes('ana9@example.com'), 'an e-mail address is masked');
}

async function priceRange({ browser, world }) {
  const page = await person(browser, world.url);
  // A lead that nobody bought has no price, and so no range of one.
  await page.goto('/rules/new?trigger=lms.lead_rejected&action=slack_message&level=product');
  await page.locator('button[name=add][value=publisher]').first().waitFor();
  assert.equal(await page.locator('button[name=add][value=price]').count(), 0);
  // Where a price has no range, none is offered.
  await page.goto('/rules/new?trigger=lms.revenue_ping_back&action=slack_message&level=product');
  await page.locator('button[name=add][value=price]').first().click();
  const options = await field(page, 'filters.price.op').locator('option').evaluateAll((all) => all.map((option) => option.value));
  assert.ok(options.includes('gte') && !options.includes('between'), `${options}`);
  // A range whose ends are crossed is refused, and the field has the focus.
  await page.goto('/rules/new?trigger=lms.lead_sold&action=slack_message&level=product');
  await page.locator('button[name=add][value=price]').first().click();
  await field(page, 'filters.price.op').selectOption('between');
  await until('the upper end', async () => field(page, 'filters.price.b').isVisible());
  await field(page, 'name').fill('Crossed');
  await field(page, 'scope.id').fill('12');
  await field(page, 'filters.price.a').fill('25');
  await field(page, 'filters.price.b').fill('15');
  await field(page, 'action.token.secret').fill('sales-bot');
  await field(page, 'action.to.id').fill('C0SALES');
  await field(page, 'action.text').fill('x');
  await press(page, 'Save rule');
  await page.locator('.errsum').first().waitFor();
  assert.match(await page.title(), /^Error/);
  const focused = await page.evaluate(() => document.activeElement.name);
  assert.match(focused, /filters\.price/);
  assert.equal(await field(page, 'action.text').inputValue(), 'x', 'nothing typed is lost');
}

async function hostileNames({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const name = '"><img src=x onerror=alert(1)>';
  const id = await makeRule(page, { name, text: 'Hostile {{$.consumer.first_name}}' });
  const event = {
    event_id: 'e-hostile', trigger: 'lms.lead_sold', occurred_at: new Date().toISOString(), lead_id: '<script>alert(1)</script>',
    product: { id: '12', name: '<b>x</b>' }, consumer: { first_name: '<script>alert(1)</script>' },
  };
  await ask('event', JSON.stringify(event));
  await until('the message', async () => (await ask('texts')).some((text) => text.startsWith('Hostile')));
  const dialogs = [];
  page.on('dialog', (dialog) => { dialogs.push(dialog.message()); dialog.dismiss(); });
  const lead = encodeURIComponent(event.lead_id);
  for (const path of ['/', '/rules', `/rules/${id}`, `/rules/${id}/versions`, `/rules/${id}/yaml`, '/deliveries', `/why?lead=${lead}`, '/audit', '/lanes', `/search?q=${lead}`]) {
    await page.goto(path);
    assert.equal(await page.locator('main img, main script').count(), 0, path);
  }
  assert.deepEqual([dialogs, page.faults], [[], []]);
}

/** Something on every page. */
async function fill({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'Sales of product 12', text: 'Lead {{$.lead_id}} of {{$.consumer.email}}' });
  for (const number of ['1', '2', '3']) await ask('sold', number, '12', '30');
  await ask('event', '{"broken');
  await arrives(ask, 'Lead lead-1 of ana1@example.com');
  await until('the delivery', async () => {
    await page.goto('/deliveries');
    return (await page.locator('main').innerText()).includes('lead-1');
  });
  return { page, id };
}

async function everyPage(scene) {
  const { page, id } = await fill(scene);
  const paths = ['/', '/rules', '/rules/new', `/rules/${id}`, `/rules/${id}/yaml`, `/rules/${id}/versions`, '/deliveries', '/why', '/why?lead=lead-1', '/lanes', '/dead-letters', '/inlets', '/audit', '/status', '/search?q=lead-1'];
  const delivery = await page.locator('main a[href^="/deliveries/"]').first().getAttribute('href');
  const found = [];
  for (const path of [...paths, delivery]) {
    const response = await page.goto(path);
    assert.equal(response.status(), 200, path);
    assert.ok((await response.body()).length < 150_000, `${path} is larger than 150 KB`);
    for (const violation of await violations(page)) found.push(`${path}: ${violation}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    assert.ok(!wide, `${path} scrolls sideways`);
    await page.setViewportSize({ width: 390, height: 800 });
    const wideOnPhone = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    if (wideOnPhone) found.push(`${path}: scrolls sideways on a phone`);
    await page.setViewportSize({ width: 1280, height: 900 });
  }
  assert.deepEqual([found, page.faults], [[], []]);
}

async function roles({ browser, world, ask }) {
  const root = await person(browser, world.url, { token: world.tokens.root });
  const own = await makeRule(root, { name: 'Of product 12', text: 'x' });
  const other = await makeRule(root, { name: 'Of product 13', text: 'x', product: '13' });
  const ana = await person(browser, world.url, { token: world.tokens.ana });
  const vera = await person(browser, world.url, { token: world.tokens.vera });
  const canSave = async (page, id) => {
    await page.goto(`/rules/${id}`);
    const save = page.getByRole('button', { name: 'Save rule', exact: true });
    return (await save.count()) > 0 && save.first().isEnabled();
  };
  assert.deepEqual([await canSave(ana, own), await canSave(ana, other), await canSave(vera, own)], [true, false, false]);
  // A button that isn't there is no protection: the same form is refused.
  const statuses = [];
  for (const [page, id] of [[vera, own], [ana, other]]) {
    await page.goto(`/rules/${id}`);
    const csrf = await page.locator('input[name=csrf]').first().inputValue();
    const response = await page.request.post(`/rules/${id}/status`, { form: { csrf, do: 'pause', version: '0' }, maxRedirects: 0 });
    statuses.push(response.status());
  }
  assert.deepEqual(statuses, [403, 403]);
  const rules = await ask('cli', 'rules', 'list', '--json');
  assert.ok(!rules.includes('"paused"'), rules);
}

async function sessions({ browser, world, ask }) {
  const page = await person(browser, world.url, { token: world.tokens.ana });
  const { name, value } = (await page.context().cookies()).find((cookie) => cookie.name === 'leadlane_session');
  const stolen = async () => (await page.request.get('/rules', { headers: { cookie: `${name}=${value}` }, maxRedirects: 0 })).status();
  assert.equal(await stolen(), 200);
  await page.goto('/rules');
  await page.getByRole('button', { name: 'Log out' }).first().click();
  await page.waitForURL(/\/login/);
  await page.context().clearCookies();
  assert.equal(await stolen(), 401, 'a log-out ends the session');
  const again = await person(browser, world.url, { token: world.tokens.ana });
  await ask('secret', 'desk-ana', 'another-token');
  await until('the session to end with its token', async () => (await again.goto('/rules')).status() === 401);
  assert.match(await again.title(), /Log in/);
}

async function foreignSite({ browser, world, ask }) {
  const page = await person(browser, world.url, { token: world.tokens.root });
  const id = await makeRule(page, { name: 'Target', text: 'x' });
  const html = `<form method="post" action="${world.url}/rules/${id}/status"><input name="do" value="pause"><input name="version" value="0"><button>Go</button></form>
    <script>fetch("${world.url}/api/v1/rules/${id}/pause", {method: "POST", credentials: "include", headers: {"content-type": "application/json"}, body: "{}"}).catch(() => {})</script>`;
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(html));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  try {
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    await page.getByRole('button', { name: 'Go' }).click();
    await page.waitForLoadState();
    assert.match(await page.locator('body').innerText(), /Another site|Log in/);
  } finally {
    server.close();
  }
  const rules = await ask('cli', 'rules', 'list', '--json');
  assert.ok(!rules.includes('"paused"'), rules);
}

async function why({ browser, world, ask }) {
  const page = await person(browser, world.url);
  await makeRule(page, { name: 'Of product 12', text: 'Lead {{$.lead_id}}' });
  await makeRule(page, { name: 'Of product 13', text: 'Lead {{$.lead_id}}', product: '13' });
  await ask('sold', '21', '12', '42');
  await arrives(ask, 'Lead lead-21');
  const text = await until('the life of the lead', async () => {
    await page.goto('/why?lead=lead-21');
    const shown = await page.locator('main').innerText();
    return shown.includes('Of product 12') && shown.includes('Sent') && shown;
  });
  // A rule of another product is counted, and not listed.
  assert.match(text, /1 more rule is for something else/);
  assert.ok(!text.includes('ana21@example.com'));
  await page.goto('/why?lead=nobody');
  assert.match(await page.locator('main').innerText(), /nobody/);
}

async function kafkaAway({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'Stays readable', text: 'Lead {{$.lead_id}}' });
  await ask('kafka', 'stop');
  await until('the page to say so', async () => {
    await page.goto('/rules');
    return (await page.locator('main').innerText()).includes('lost touch');
  }, 60);
  await page.getByRole('link', { name: 'Stays readable', exact: true }).waitFor();
  const refused = await page.request.post(`${world.url}/api/v1/rules/${id}/pause`, { data: {}, headers: { 'if-match': '"0"' } });
  assert.equal(refused.status(), 503);
  assert.ok(refused.headers()['retry-after']);
  await ask('kafka', 'start');
  await until('the desk to be back', async () => {
    await page.goto('/rules');
    return !(await page.locator('main').innerText()).includes('lost touch');
  }, 90);
  await makeRule(page, { name: 'After it', text: 'y' });
}

module.exports = {
  everyPage, fill, firstRule, firstRuleWithoutScripts, foreignSite, hostileNames, kafkaAway, preview, priceRange, roles, sealedToken, sessions, why,
};
