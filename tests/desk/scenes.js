// The scenes that tests/it/real_kafka/pages.rs plays, each in a browser of its own against a Leadlane of its own.
'use strict';
const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const { createServer } = require('node:http');
const { person, violations } = require('./browser');

// What the form shows; a draft that is offered has fields of the same names.
const field = (page, name) => page.locator(`[name="${name}"]:not([data-draft-offer] *)`).first();
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
async function makeRule(page, { name, text, product = '12', channel = 'C0SALES', token, secret = 'sales-bot', save = 'Save rule' }) {
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
  await press(page, save);
  await page.waitForURL(/saved=/);
  return new URL(page.url()).pathname.split('/')[2];
}

/** What a call of the API answers. */
async function call(world, path, { token, body } = {}) {
  const headers = { ...(token && { authorization: `Bearer ${token}` }), ...(body && { 'content-type': 'application/json' }) };
  const response = await fetch(`${world.url}/api/v1${path}`, { method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  assert.ok(response.ok, `${path}: ${JSON.stringify(answer)}`);
  return answer;
}

/** Has the sandbox do something. */
async function sandbox(world, what, order) {
  const response = await fetch(`${world.sandbox}/_sandbox/${what}`, { method: 'POST', body: JSON.stringify(order) });
  assert.ok(response.ok, await response.text());
}

/** What the command line prints as JSON, one object a line. */
const printed = async (ask, ...words) => (await ask('cli', '--json', ...words)).trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));

/** The rule as Kafka has it in force. */
const inForce = async (ask, id) => (await printed(ask, 'rules', 'get', id))[0];

/** The text of the page, once it says so. The page is loaded again and again, as a reader would. */
const says = (page, path, words) => until(`${path} to say ${words}`, async () => {
  await page.goto(path);
  const text = await page.locator('main').innerText();
  return [words].flat().every((word) => (word instanceof RegExp ? word.test(text) : text.includes(word))) && text;
});

/** Waits for a message on the page. */
const told = (page, words) => page.locator('main').getByText(words).first().waitFor();

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

/** Two people save one rule: the second is shown both versions, and again where the first is faster once more. */
async function twoPeople({ browser, world, ask }, options = {}) {
  const root = await person(browser, world.url, { token: world.tokens.root });
  const ana = await person(browser, world.url, { token: world.tokens.ana, ...options });
  const id = await makeRule(root, { name: 'Sales', text: 'First {{$.lead_id}}' });
  for (const page of [root, ana]) await page.goto(`/rules/${id}`);
  await field(root, 'name').fill('Sales by root');
  await field(root, 'action.text').fill('Root {{$.lead_id}}');
  await field(root, 'action.to.id').fill('C0ROOT');
  await press(root, 'Save rule');
  await told(root, 'It is in force now');
  await field(ana, 'name').fill('Sales by Ana');
  await field(ana, 'action.text').fill('Ana {{$.lead_id}}');
  await ana.getByLabel('Test leads count too').check();
  await press(ana, 'Save rule');

  const shown = async () => {
    const { version } = await call(world, `/rules/${id}`, { token: world.tokens.root });
    await ana.getByRole('heading', { name: 'root saved this rule while you edited it' }).waitFor();
    await told(ana, `Version ${version} is in force`);
    assert.ok(await ana.locator('main .head time').getAttribute('datetime'), 'it says when');
  };
  await shown();
  const row = (label) => ana.getByRole('row').filter({ has: ana.getByRole('rowheader', { name: label }) });
  for (const [label, ...sides] of [['Name', 'Sales by root', 'Sales by Ana'], ['Message', 'Root', 'Ana']]) {
    const text = await row(label).innerText();
    for (const words of ['both changed it', ...sides]) assert.ok(text.includes(words), `${label}: ${text}`);
  }
  const chosen = (label) => row(label).getByRole('radio', { checked: true }).inputValue();
  assert.deepEqual([await chosen('Channel'), await chosen('Test leads')], ['theirs', 'mine'], 'what one alone changed is taken');
  await ana.getByLabel('Name: mine').check();
  await ana.getByLabel('Message: theirs').check();
  for (const [pick, channel] of [['mine', 'C0SALES'], ['theirs', 'C0ROOT']]) {
    await ana.getByLabel(`Channel or member: ${pick}`).check();
    if (options.javaScriptEnabled === false) await press(ana, 'Show what it would say');
    await ana.locator('#result').getByText(channel).waitFor();
  }
  // Enter on a choice saves nothing, and chooses nothing else.
  await ana.getByLabel('Name: mine').press('Enter');
  assert.equal(await chosen('Name'), 'mine');

  // Once more somebody is faster. What was chosen stays.
  await root.goto(`/rules/${id}`);
  await field(root, 'action.to.id').fill('C0LATER');
  await press(root, 'Save rule');
  await told(root, 'It is in force now');
  const before = await call(world, `/rules/${id}`, { token: world.tokens.root });
  await press(ana, 'Save as a new version');
  await shown();
  assert.deepEqual([await chosen('Name'), await chosen('Message')], ['mine', 'theirs']);
  assert.deepEqual(await inForce(ask, id), before.rule, 'nothing of Ana’s is in force yet');
  await press(ana, 'Save as a new version');
  await told(ana, 'It is in force now');

  const { rule, version } = await until('the author', async () => {
    const found = await call(world, `/rules/${id}`, { token: world.tokens.root });
    return found.author === 'Ana Ruiz' && found;
  });
  assert.deepEqual(rule, {
    ...before.rule, name: 'Sales by Ana', include_test: true, action: { ...before.rule.action, text: 'Root {{$.lead_id}}', to: { channel: 'C0LATER' } },
  });
  assert.deepEqual(await inForce(ask, id), rule);
  assert.ok(version > before.version);
  await ask('sold', '31', '12', '42');
  await arrives(ask, 'Root lead-31');
  assert.deepEqual([root.faults, ana.faults], [[], []]);
}

const twoPeopleWithoutScripts = (scene) => twoPeople(scene, { javaScriptEnabled: false });

async function rollback({ browser, world, ask }) {
  const page = await person(browser, world.url, { token: world.tokens.ana });
  const token = world.tokens.root;
  const id = await makeRule(page, { name: 'Sales', text: 'Sold {{$.lead_id}}' });
  const first = await call(world, `/rules/${id}`, { token });
  await field(page, 'action.text').fill('Sold {{$.lead_id}} for {{$.price | money}}');
  await press(page, 'Save rule');
  await told(page, 'It is in force now');
  const second = await call(world, `/rules/${id}`, { token });

  await page.getByRole('link', { name: 'Versions', exact: true }).click();
  await page.waitForURL(/\/versions$/);
  await says(page, page.url(), 'in force');
  const row = page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: `${second.version} in force` }) });
  assert.match(await row.innerText(), /Ana Ruiz\s+Message /);
  assert.match((await row.locator('ins').allInnerTexts()).join(' '), /for .*price \| money/, 'the difference is marked');
  await press(page, `Go back to ${first.version}`);
  await told(page, `Version ${first.version} is in force again`);

  const third = await call(world, `/rules/${id}`, { token });
  assert.ok(third.version > second.version, 'going back makes a new version');
  assert.deepEqual([third.rule, await inForce(ask, id)], [first.rule, first.rule]);
  await until('the audit', async () => {
    const { items: [last] } = await call(world, `/audit?rule=${id}`, { token });
    return last.who === 'Ana Ruiz' && last.what === 'rollback' && last.version === third.version;
  });
  const audit = await says(page, '/audit', 'Went back to an earlier version of');
  assert.match(audit, /Ana Ruiz\s+Went back to an earlier version of Sales/);
  await ask('sold', '32', '12', '42');
  await arrives(ask, 'Sold lead-32');
}

/** A dead letter by reason, its cause mended by the way of its link, and its event matched again by a replay. */
async function deadLetter({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'Needs a city', text: 'City {{$.consumer.city}} of {{$.lead_id}}' });
  await page.locator('summary').filter({ hasText: 'when a value is missing' }).click();
  await field(page, 'action.on_missing').selectOption('fail');
  await press(page, 'Save rule');
  await told(page, 'It is in force now');
  await makeRule(page, { name: 'To a channel that is gone', text: 'Gone {{$.lead_id}}', channel: 'C0GONE' });
  await sandbox(world, 'channels', { channel: 'C0GONE', exists: false });
  await ask('sold', '41', '12', '42');
  await says(page, '/dead-letters', ['A value that the message needs is missing or wrong', 'The channel, webhook or account is gone', '2 in all wait']);

  await page.getByRole('link', { name: /^Show ?: A value that the message needs/ }).click();
  await page.waitForURL(/reason=template_failed/);
  const list = page.locator('#list');
  assert.equal(await list.getByRole('checkbox').count(), 1, 'one reason alone is listed');
  assert.match(await list.innerText(), /lead-41[\s\S]*Needs a city/);
  // The page says what to mend, and leads there.
  const cure = page.getByRole('row').filter({ hasText: 'Give the value a default in the rule' });
  await cure.getByRole('link', { name: 'Needs a city' }).click();
  await page.waitForURL(`${world.url}/rules/${id}`);
  await field(page, 'action.text').fill('City {{$.consumer.city | default: "unknown"}} of {{$.lead_id}}');
  await press(page, 'Save rule');
  await told(page, 'It is in force now');

  await page.goto('/dead-letters?reason=template_failed');
  await press(page, 'Say what replaying the ticked would do');
  await told(page, 'Nothing is ticked');
  await page.goto('/dead-letters?reason=template_failed');
  await list.getByRole('checkbox').check();
  await press(page, 'Say what replaying the ticked would do');
  await page.getByRole('heading', { name: 'What replaying 1 dead letter would do' }).waitFor();
  await told(page, 'would be looked at by the rules again');
  const replayed = async () => (await printed(ask, 'dead-letters', 'list')).map(({ reason, replayed: is }) => [reason, is]).sort();
  assert.deepEqual(await replayed(), [['destination_gone', false], ['template_failed', false]], 'a dry run replays nothing');
  await press(page, 'Replay 1 now');
  await told(page, '1 dead letter replayed');
  await arrives(ask, 'City unknown of lead-41');
  assert.deepEqual(await replayed(), [['destination_gone', false], ['template_failed', true]]);
  await says(page, '/dead-letters', '1 in all wait');
  await page.goto('/dead-letters?all=1');
  const row = page.locator('#list').getByRole('row').filter({ hasText: 'Needs a city' });
  assert.match(await row.innerText(), /Replayed/);
  assert.equal(await row.getByRole('checkbox').count(), 0, 'nobody replays it twice');
  await until('one delivery', async () => (await call(world, `/deliveries?rule=${id}`)).items.filter(({ result }) => result === 'sent').length === 1);
}

/** Pauses a lane, a credential and all sending. */
async function pauses({ browser, world, ask }) {
  const page = await person(browser, world.url);
  await makeRule(page, { name: 'One', text: 'One {{$.lead_id}}', channel: 'C0ONE' });
  await makeRule(page, { name: 'Two', text: 'Two {{$.lead_id}}', channel: 'C0TWO' });
  const has = async (text) => (await ask('texts')).includes(text);
  const lanes = async () => new Map((await printed(ask, 'lanes')).map((lane) => [lane.id, lane]));
  // So many wait, as the page and as Kafka say it.
  const wait = async (one, two) => {
    await until(`${one} and ${two} to wait`, async () => {
      const all = await lanes();
      return (all.get('slack:sales-bot/C0ONE')?.waiting ?? 0) === one && (all.get('slack:sales-bot/C0TWO')?.waiting ?? 0) === two;
    });
    await says(page, '/lanes', `${one + two} waiting in all`);
  };
  // Nothing waits, so that no lane is listed; it is paused by its name.
  await page.goto('/lanes');
  await page.getByLabel('Pause another lane, app or account').fill('slack:sales-bot/C0ONE');
  await press(page, 'Pause');
  await page.getByRole('button', { name: 'Resume C0ONE' }).waitFor();
  await ask('sold', '51', '12', '42');
  await arrives(ask, 'Two lead-51');
  await wait(1, 0);
  assert.ok(!await has('One lead-51'));
  const row = page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: 'C0ONE' }) });
  assert.match(await row.innerText(), /Paused[\s\S]*when resumed/);

  await press(page, 'Pause all of it');
  await page.getByRole('button', { name: 'Resume all of it' }).waitFor();
  await ask('sold', '52', '12', '42');
  await wait(2, 1);
  await press(page, 'Resume all of it');
  await arrives(ask, 'Two lead-52');
  // Its own pause still holds.
  await wait(2, 0);
  assert.ok(!await has('One lead-51'));
  await page.getByRole('button', { name: 'Resume C0ONE' }).click();
  await arrives(ask, 'One lead-51');
  await arrives(ask, 'One lead-52');

  await page.goto('/lanes');
  await page.getByRole('link', { name: 'Pause all sending…' }).click();
  await press(page, 'Pause all sending');
  await told(page, 'All sending is paused');
  await ask('sold', '53', '12', '42');
  await wait(1, 1);
  assert.equal((await call(world, '/lanes')).items.find(({ id }) => id === '*').paused.of, '*');
  await says(page, '/', 'All sending is paused');
  await page.goto('/lanes');
  await press(page, 'Resume all sending');
  await arrives(ask, 'One lead-53');
  await arrives(ask, 'Two lead-53');
  const did = await until('the audit', async () => {
    const { items } = await call(world, '/audit');
    const orders = items.map(({ what, target }) => `${what} ${target}`).filter((act) => act.startsWith('lane_')).reverse();
    return orders.length >= 6 && orders;
  });
  assert.deepEqual(did, [
    'lane_pause slack:sales-bot/C0ONE', 'lane_pause slack:sales-bot', 'lane_resume slack:sales-bot', 'lane_resume slack:sales-bot/C0ONE', 'lane_pause *', 'lane_resume *',
  ]);
}

/** A token that is wrong, then the right one, tried at once. */
async function refusedToken({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const wrong = 'xoxb-8-hunter2-wrong';
  await sandbox(world, 'credentials', { token: wrong, refused: true });
  await ask('secret', 'sales-bot', wrong);
  await makeRule(page, { name: 'Sales', text: 'Sold {{$.lead_id}}' });
  await ask('sold', '54', '12', '42');
  await says(page, '/', /refused/);
  await says(page, '/lanes', ['Token refused', 'Its token or passcode is refused', 'sales-bot']);
  const [lane] = await printed(ask, 'lanes');
  assert.match(lane.frozen_why, /invalid_auth/);
  assert.ok(!(await page.content()).includes('hunter2'));
  await ask('secret', 'sales-bot', world.salesToken);
  await press(page, 'Try now');
  await arrives(ask, 'Sold lead-54');
  await says(page, '/lanes', 'Nothing waits');
  await until('the audit', async () => {
    const { items: [last] } = await call(world, '/audit?limit=1');
    return last.what === 'lane_probe' && last.target === 'slack:sales-bot';
  });
}

/** Several rules at once, out to YAML, and in again. */
async function bulk({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const ids = [];
  for (const name of ['One', 'Two', 'Three']) ids.push(await makeRule(page, { name, text: `${name} {{$.lead_id}}` }));
  const statuses = async () => {
    const listed = new Map((await printed(ask, 'rules', 'list')).map(({ id, status }) => [id, status]));
    return ids.map((id) => listed.get(id));
  };
  const tick = async () => {
    await page.goto('/rules');
    for (const name of ['One', 'Two']) await page.getByLabel(`Pick ${name}`).check();
  };
  const saved = async (does) => {
    const coming = page.waitForEvent('download');
    await does();
    return (await coming).path();
  };
  await page.goto('/rules');
  await press(page, 'Pause');
  await told(page, 'No rule is ticked');
  await tick();
  // Enter in a box orders nothing.
  await page.getByLabel('Pick One').press('Enter');
  await press(page, 'Pause');
  await told(page, '2 rules are paused');
  assert.deepEqual(await statuses(), ['paused', 'paused', 'active']);
  await tick();
  await press(page, 'Resume');
  await told(page, '2 rules are active again');
  assert.deepEqual(await statuses(), ['active', 'active', 'active']);

  const before = await Promise.all(ids.map((id) => inForce(ask, id)));
  await tick();
  const two = await saved(() => press(page, 'Export'));
  const all = await saved(() => page.getByRole('link', { name: 'Export YAML' }).click());
  const names = (file) => readFileSync(file, 'utf8').match(/^name: .*$/gm).map((line) => line.slice(6)).sort();
  assert.deepEqual([names(two), names(all)], [['One', 'Two'], ['One', 'Three', 'Two']]);

  await tick();
  await press(page, 'Delete…');
  await page.getByRole('heading', { name: 'Delete 2 rules?' }).waitFor();
  await page.getByRole('link', { name: 'Keep them' }).click();
  await page.waitForURL(/\/rules$/);
  assert.deepEqual(await statuses(), ['active', 'active', 'active'], 'nothing is deleted before it is confirmed');
  await tick();
  await press(page, 'Delete…');
  await press(page, 'Delete 2 rules');
  await told(page, '2 rules are deleted');
  assert.deepEqual(await statuses(), [undefined, undefined, 'active']);
  assert.equal(await page.getByRole('link', { name: 'One', exact: true }).count(), 0);

  await page.getByRole('link', { name: 'Import', exact: true }).click();
  await page.getByLabel('Choose a file').setInputFiles(two);
  await until('the file to be in the field', async () => (await page.getByLabel('Rules as YAML').inputValue()) === readFileSync(two, 'utf8'));
  await press(page, 'See what would change');
  await told(page, '2 new, 0 changed, 0 as they are');
  assert.deepEqual(await statuses(), [undefined, undefined, 'active'], 'looking brings nothing in');
  await press(page, 'Import these rules');
  await told(page, '2 rules are brought in');
  assert.deepEqual(await Promise.all(ids.map((id) => inForce(ask, id))), before, 'they are as they were');
  await ask('sold', '61', '12', '42');
  for (const name of ['One', 'Two', 'Three']) await arrives(ask, `${name} lead-61`);
  assert.deepEqual(page.faults, []);
}

/** A file that holds no good rules: nothing of it is taken, and what is wrong is told by line and column. */
async function wrongImport({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const good = (id) => `id: ${id}\ntrigger: lms.lead_sold\nscope: {level: product, id: "12"}\naction:\n  type: slack_message\n  token: {secret: sales-bot}\n  to: {channel: C0SALES}\n  text: x\n`;
  const wrong = [
    [`${good('a')}---\n${good('b')}oops: [1\n`, /yaml: document 2, line 1[89], column \d+/],
    [`${good('a')}---\n# Which isn't there\n${good('b').replace('lead_sold\nscope', 'lead_sold\nfilters: {price: {between: [9, 1]}}\nscope')}`, /b: filters\.price\.between: .*\(line 13, column 28\)/],
    [`- {id: a}\n- ${good('b').replaceAll('\n', '\n  ')}`, /a: \w+: .*\(line 1, column 3\)/],
    [`${good('a')}---\n${good('a')}`, /a: .*twice.*\(line 10, column 5\)/],
    ['# nothing\n', /holds no rule/],
  ];
  for (const [text, message] of wrong) {
    await page.goto('/rules/import');
    await page.getByLabel('Rules as YAML').fill(text);
    await press(page, 'See what would change');
    await told(page, /Nothing was taken/);
    assert.match(await page.getByRole('alert').innerText(), message);
    assert.match(await page.title(), /^Error/);
    assert.equal(await page.getByLabel('Rules as YAML').inputValue(), text, 'the text stays');
    assert.equal(await page.getByRole('button', { name: 'Import these rules' }).count(), 0);
  }
  assert.deepEqual(await printed(ask, 'rules', 'list'), []);
}

/** A test that is really sent, and a preview that is what is sent, byte for byte. */
async function sendTest({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const text = '*{{$.buyer.name}}* <https://crm.example.com/{{$.lead_id}}|{{$.lead_id}}> & “{{$.price | money}}” 🎉\n{{$.nope}}';
  const id = await makeRule(page, { name: 'Sales', text });
  await ask('sold', '71', '12', '1234.5');
  const arrived = await until('the message', async () => (await ask('texts')).find((found) => found.includes('lead-71')));
  await until('the event to be there', async () => {
    await page.goto(`/rules/${id}`);
    return (await page.locator('#preview').innerText()).includes('lead-71');
  });
  const body = await page.locator('#preview pre.codebox').textContent();
  assert.ok(Buffer.from(JSON.parse(body).text).equals(Buffer.from(arrived)), `${body}\n${arrived}`);
  assert.ok((await ask('topics')).includes(body), `the job has another body than ${body}`);

  await press(page, 'Send test');
  await page.locator('#test').getByText('It arrived').waitFor();
  assert.deepEqual((await ask('texts')).filter((found) => found.startsWith('[TEST] ')), [`[TEST] ${arrived}`]);
  const log = await (await fetch(`${world.sandbox}/_sandbox/log`)).json();
  assert.deepEqual(log.filter((arrival) => arrival.accepted && arrival.text).map(({ target }) => target), ['C0SALES', 'C0SALES']);
  await sandbox(world, 'credentials', { token: world.salesToken, refused: true });
  await press(page, 'Send test');
  await page.locator('#test').getByText('It did not arrive').waitFor();
  assert.match(await page.locator('#test').innerText(), /Slack doesn't take the token in .*sales-bot.*Copy the Bot User OAuth Token[\s\S]*invalid_auth/);
  assert.ok(!(await page.content()).includes('hunter2'));
  assert.deepEqual(await printed(ask, 'dead-letters', 'list'), [], 'a test is no dead letter');
  const { items } = await until('both tests in the audit', async () => {
    const audit = await call(world, `/audit?rule=${id}`);
    return audit.items.length === 3 && audit;
  });
  assert.deepEqual(items.map(({ what }) => what), ['send_test', 'send_test', 'apply']);
  // Each try has its delivery; neither is a match.
  await until('both tests among the deliveries', async () => (await call(world, `/deliveries?rule=${id}`)).items.filter(({ ended_at: at }) => at).length === 3);
  const [{ matched_24h: matched }] = (await call(world, '/rules')).items;
  assert.equal(matched, 1, 'a test is no match');
  assert.deepEqual(page.faults, []);
}

/** What a rule would have matched of the last events, as the API and `rules explain` say it. */
async function tryIt({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'Big sales', text: 'Sold {{$.lead_id}}' });
  await page.locator('button[name=add][value=price]').first().click();
  await field(page, 'filters.price.a').fill('40');
  await press(page, 'Save rule');
  await told(page, 'It is in force now');
  const events = [...Array(12).keys()].map((number) => ({
    event_id: `e-try-${number}`, trigger: number % 6 === 5 ? 'lms.lead_rejected' : 'lms.lead_sold', occurred_at: new Date().toISOString(), lead_id: `lead-try-${number}`,
    product: { id: number % 4 === 3 ? '13' : '12', name: 'Auto' }, price: String(30 + number * 2),
  }));
  for (const event of events) await ask('event', JSON.stringify(event));
  let explained = 0;
  for (const event of events) {
    const { matches } = await call(world, '/rules/explain', { body: { event } });
    explained += matches.filter(({ rule_id: rule }) => rule === id).length;
  }
  assert.ok(explained > 0 && explained < events.length, `${explained}`);
  const rule = await inForce(ask, id);
  const found = await until('all events', async () => {
    const matched = await call(world, '/rules/match-recent', { body: { rule, last: 1000 } });
    return matched.looked_at === events.length && matched;
  });
  assert.equal(found.matched, explained);
  await page.goto(`/rules/${id}`);
  await press(page, 'Try it');
  const tried = page.locator('#try');
  await tried.getByText(`Of the last ${events.length} events it would have matched ${explained}`).waitFor();
  const hourly = Math.round(found.per_hour);
  assert.ok((await tried.innerText()).includes(`about ${hourly} messages an hour, ${found.most_in_an_hour} in one hour at most`), await tried.innerText());
  const fell = await tried.getByRole('row').locator('td.num').allInnerTexts();
  assert.equal(fell.reduce((sum, count) => sum + Number(count), 0), events.length - explained, 'each of the others has its reason');
  for (let number = 0; number < events.length; number += 1) {
    const is = (await ask('texts')).includes(`Sold lead-try-${number}`);
    if (found.samples.includes(`e-try-${number}`)) await arrives(ask, `Sold lead-try-${number}`);
    else assert.ok(!is, `lead-try-${number}`);
  }
}

/** What is typed and not saved survives a reload and the end of the session. */
async function drafts({ browser, world, ask }) {
  const token = world.tokens.ana;
  const page = await person(browser, world.url, { token });
  const id = await makeRule(page, { name: 'Sales', text: 'First {{$.lead_id}}' });
  const first = await inForce(ask, id);
  await page.goto(`/rules/${id}`);
  const offer = page.locator('[data-draft-offer]');
  // The offer holds what was typed in fields of its own.
  const seen = (label) => page.getByLabel(label, { exact: true });
  assert.ok(!await offer.isVisible());
  await seen('Message').fill('Typed {{$.lead_id}}');
  await field(page, 'action.token.typed').fill('xoxb-9-hunter2-typed');
  await page.locator('[data-draft-note]').getByText('Draft kept at').waitFor();
  const stored = await page.evaluate(() => JSON.stringify(localStorage));
  assert.ok(stored.includes('Typed {{') && !stored.includes('hunter2'), stored);
  await page.reload();
  await offer.waitFor();
  assert.equal(await seen('Message').inputValue(), 'First {{$.lead_id}}');
  await offer.getByRole('button', { name: 'Take it' }).click();
  await until('the text to be there', async () => (await seen('Message').inputValue()) === 'Typed {{$.lead_id}}');
  assert.deepEqual(await inForce(ask, id), first);

  // The session ends elsewhere. The form is sent once more after a log-in.
  const logOut = async () => {
    const other = await page.context().newPage();
    await other.goto('/rules');
    await other.getByRole('button', { name: 'Log out' }).first().click();
    await other.waitForURL(/\/login/);
    await other.close();
  };
  const logIn = async () => {
    await page.getByLabel('Your token').fill(token);
    await press(page, 'Log in');
  };
  await field(page, 'action.token.typed').fill('xoxb-9-hunter2-typed');
  await logOut();
  await press(page, 'Save rule');
  await told(page, 'Your session has ended');
  assert.ok(!(await page.content()).includes('hunter2'), 'the page of the log-in shows a token');
  await page.getByLabel('Your token').fill('wrong');
  await press(page, 'Log in');
  await told(page, 'That token is not known here');
  assert.deepEqual(await inForce(ask, id), first);
  await logIn();
  await press(page, 'Go on where you were');
  await told(page, 'It is in force now');
  const second = await inForce(ask, id);
  assert.equal(second.action.text, 'Typed {{$.lead_id}}');
  assert.ok(second.action.token.sealed, 'the token that was typed is sealed');
  await ask('sold', '81', '12', '42');
  await arrives(ask, 'Typed lead-81');
  await page.goto(`/rules/${id}`);
  assert.ok(!await offer.isVisible(), 'what is saved is no draft');

  // A page that is loaded after the end comes back with its draft.
  await seen('Name').fill('Sales again');
  await until('the draft', () => page.evaluate(() => JSON.stringify(localStorage).includes('Sales again')));
  await logOut();
  await page.reload();
  await logIn();
  await offer.waitFor();
  await offer.getByRole('button', { name: 'Take it' }).click();
  await until('the name to be there', async () => (await seen('Name').inputValue()) === 'Sales again');
  await press(page, 'Save rule');
  await told(page, 'It is in force now');
  assert.equal((await inForce(ask, id)).name, 'Sales again');
  assert.deepEqual(page.faults, []);
}

/** Where the keyboard is. It has to be seen. */
async function focus(page) {
  const at = await page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    return {
      tag: element.tagName, words: (element.getAttribute('aria-label') || element.innerText || element.name || '').trim(), href: element.getAttribute('href'),
      outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1,
      inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    };
  });
  if (at.tag !== 'BODY') assert.ok(at.outlined && at.inside, `the focus is not seen: ${JSON.stringify(at)}`);
  return at;
}

/** Presses Tab until the focus is there. */
async function tabTo(page, is, most = 80) {
  for (let pressed = 0; pressed < most; pressed += 1) {
    await page.keyboard.press('Tab');
    const at = await focus(page);
    if (is(at)) return;
  }
  throw new Error(`${most} times Tab do not lead there: ${is}`);
}

async function palette({ browser, world }) {
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'Zebra sales', text: 'x' });
  await makeRule(page, { name: 'Other', text: 'x' });
  await page.goto('/');
  const dialog = page.getByRole('dialog', { name: 'Find' });
  const found = dialog.locator('#found a');
  await page.keyboard.press('/');
  await dialog.waitFor();
  assert.equal((await focus(page)).tag, 'INPUT');
  await found.filter({ hasText: 'Dead letters' }).waitFor();
  await page.keyboard.type('zebra');
  await until('only what fits', async () => (await found.allInnerTexts()).every((words) => words.startsWith('Zebra sales')) && (await found.count()) > 0);
  await page.keyboard.press('ArrowDown');
  assert.equal((await focus(page)).href, `/rules/${id}`);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${world.url}/rules/${id}`);

  // Enter goes to what was found for what is typed, however fast it comes.
  await page.goto('/rules');
  await page.keyboard.press('/');
  await found.first().waitFor();
  await page.keyboard.type('zebra');
  await page.keyboard.press('Enter');
  await page.waitForURL((address) => address.pathname === `/rules/${id}` || address.pathname === '/search');
  await page.locator(`a[href="/rules/${id}"]`).or(page.getByRole('heading', { name: 'Zebra sales' })).first().waitFor();

  // Escape closes, with a text or without; the focus is where it was.
  await page.goto('/rules');
  await tabTo(page, ({ href }) => href === '/rules/import');
  for (const typed of ['', 'zebra']) {
    await page.keyboard.press('/');
    await dialog.waitFor();
    await page.keyboard.type(typed);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    assert.equal((await focus(page)).href, '/rules/import');
  }
  // A slash that is typed is a slash.
  await page.getByLabel('Name or id').fill('');
  await page.getByLabel('Name or id').press('/');
  assert.equal(await page.getByLabel('Name or id').inputValue(), '/');
  assert.deepEqual(page.faults, []);
}

async function keyboard({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'Sales', text: 'Sold {{$.lead_id}}' });
  await page.goto('/rules');
  await page.keyboard.press('Tab');
  assert.match((await focus(page)).words, /Skip to the page/);
  await page.keyboard.press('Enter');
  await tabTo(page, ({ href }) => href === `/rules/${id}`);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${world.url}/rules/${id}`);
  // A change that is typed and saved.
  await tabTo(page, ({ tag, words }) => tag === 'TEXTAREA' && words === 'action.text');
  await page.keyboard.press('End');
  await page.keyboard.type(', at once');
  await tabTo(page, ({ words }) => words === 'Save rule', 200);
  await page.keyboard.press('Enter');
  await told(page, 'It is in force now');
  assert.equal((await inForce(ask, id)).action.text, 'Sold {{$.lead_id}}, at once');
  // And the pause.
  await tabTo(page, ({ tag, words }) => tag === 'BUTTON' && words === 'Pause');
  await page.keyboard.press('Enter');
  await told(page, 'It matches nothing until it is resumed');
  assert.equal((await inForce(ask, id)).status, 'paused');
  assert.deepEqual(page.faults, []);
}

/** A rule on trial counts what it would have sent, and sends nothing until it is made active. */
async function trial({ browser, world, ask }) {
  const page = await person(browser, world.url);
  const id = await makeRule(page, { name: 'On trial', text: 'Trial {{$.lead_id}}', save: 'Save on trial' });
  assert.equal((await inForce(ask, id)).status, 'shadow');
  for (const number of ['91', '92', '93']) await ask('sold', number, '12', '42');
  await says(page, `/rules/${id}`, 'It would have sent 3 messages in the last 24 hours');
  await says(page, '/rules', /On trial[\s\S]*would: 3/);
  const listed = await says(page, `/deliveries?rule=${id}`, ['lead-91', 'lead-92', 'lead-93']);
  assert.equal(listed.match(/On trial/g).length >= 3, true, listed);
  const { items } = await call(world, `/deliveries?rule=${id}`);
  assert.deepEqual(items.map(({ result }) => result), ['shadowed', 'shadowed', 'shadowed']);
  assert.deepEqual(await ask('texts'), []);
  await page.goto(`/rules/${id}`);
  await press(page, 'Activate');
  await told(page, 'It matches from now on');
  const { status, ...rest } = await inForce(ask, id);
  assert.deepEqual([status ?? 'active', rest.action.text], ['active', 'Trial {{$.lead_id}}']);
  await ask('sold', '94', '12', '42');
  await arrives(ask, 'Trial lead-94');
  assert.deepEqual(await ask('texts'), ['Trial lead-94']);
}

module.exports = {
  bulk, deadLetter, drafts, everyPage, fill, firstRule, firstRuleWithoutScripts, foreignSite, hostileNames, kafkaAway, keyboard, palette, pauses, preview,
  priceRange, refusedToken, roles, rollback, sealedToken, sendTest, sessions, trial, tryIt, twoPeople, twoPeopleWithoutScripts, why, wrongImport,
};
