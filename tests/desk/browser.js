// Drives the rule desk in Chromium, for scenes.js and screenshots.js. Needs NODE_PATH with playwright-core and axe-core,
// and Debian's chromium (or another one, named by CHROMIUM).
'use strict';
const { existsSync, readFileSync } = require('node:fs');
const { chromium } = require('playwright-core');

const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';

async function open() {
  if (!existsSync(executablePath)) {
    throw new Error(`${executablePath} is missing: install it, for instance with \`apt-get install chromium\``);
  }
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
}

/** A browser of its own for one person, who is logged in where there is a token. */
async function person(browser, url, { token, ...options } = {}) {
  const context = await browser.newContext({
    baseURL: url, timezoneId: 'America/Chicago', locale: 'en-US', viewport: { width: 1280, height: 900 },
    // No picture is taken half way from one colour to the next.
    reducedMotion: 'reduce', ...options,
  });
  const page = await context.newPage();
  page.faults = [];
  // What breaks a strict policy, or the script itself, is a fault of the page.
  page.on('console', (message) => {
    if (message.type() === 'error' && !/(status of|Status Error Code) (4|5)\d\d/.test(message.text())) page.faults.push(message.text());
  });
  page.on('pageerror', (error) => page.faults.push(String(error)));
  if (token !== undefined) {
    await page.goto('/login');
    await page.getByLabel('Your token').fill(token);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.waitForURL((address) => address.pathname !== '/login');
  }
  return page;
}

/** What axe finds on the page as it stands, light and dark. */
async function violations(page) {
  const found = [];
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    // The page is drawn anew before it is looked at.
    await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
    // An injected script tag would be against the page's policy; the debugger's own evaluation isn't.
    await page.evaluate(axe);
    const results = await page.evaluate(() => window.axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    }));
    for (const { id, help, nodes } of results.violations) {
      found.push(`${colorScheme}: ${id}: ${help}: ${nodes.map((node) => node.html).join(' | ').slice(0, 400)}`);
    }
  }
  await page.emulateMedia({ colorScheme: null });
  return found;
}

module.exports = { open, person, violations };
