// Runs config/inlets/sheet.gs with services that behave as Google's do, and prints what was sent.
'use strict';
const fs = require('fs');
const vm = require('vm');

const stored = new Map();
const properties = {
  getProperty: (name) => (stored.has(name) ? stored.get(name) : null),
  setProperty: (name, value) => {
    if (typeof value !== 'string' || Buffer.byteLength(value) > 9 * 1024) throw new Error('Argument too large: value');
    stored.set(name, value);
  },
  setProperties: (values) => Object.entries(values).forEach(([name, value]) => properties.setProperty(name, value)),
  deleteProperty: (name) => stored.delete(name),
};
let cells = [];
const sheet = {
  getLastRow: () => cells.length,
  getLastColumn: () => Math.max(...cells.map((row) => row.length)),
  getRange: (row, column, rows, columns) => {
    if (rows < 1 || columns < 1) throw new Error('The number of rows in the range must be at least 1.');
    const cell = (r, c) => (cells[r] && cells[r][c] !== undefined ? cells[r][c] : '');
    const at = (r) => Array.from({ length: columns }, (_, c) => cell(row - 1 + r, column - 1 + c));
    return { getValues: () => Array.from({ length: rows }, (_, r) => at(r)) };
  },
};
const sent = [];
let answers = [];
const slept = [];
const context = vm.createContext({
  PropertiesService: { getScriptProperties: () => properties },
  SpreadsheetApp: { getActiveSpreadsheet: () => ({ getSheets: () => [sheet], getSheetByName: () => null }) },
  LockService: { getScriptLock: () => ({ tryLock: () => true, releaseLock: () => {} }) },
  ScriptApp: {
    getProjectTriggers: () => [],
    newTrigger: () => ({ timeBased: () => ({ everyMinutes: () => ({ create: () => {} }) }) }),
  },
  Utilities: { sleep: (ms) => slept.push(ms) },
  UrlFetchApp: {
    fetch: (url, { headers, payload }) => {
      const status = answers.length ? answers.shift() : 200;
      sent.push({ url, authorization: headers.Authorization, status, payload });
      if (status === 0) throw new Error('Address unavailable');
      return { getResponseCode: () => status, getContentText: () => 'said' };
    },
  },
});
vm.runInContext(fs.readFileSync(process.argv[2], 'utf8'), context);

const run = (name) => {
  sent.length = 0;
  slept.length = 0;
  let error = null;
  try {
    vm.runInContext(name, context);
  } catch (thrown) {
    error = thrown.message;
  }
  console.log(JSON.stringify({ sent, slept, error, last: properties.getProperty('LEADLANE_LAST') }));
};
properties.setProperties({ LEADLANE_URL: 'https://e.example/inlets/leads', LEADLANE_TOKEN: 'hunter2', LEADLANE_READY: 'Plan' });
cells = [['Email', 'When', 'Plan', ''], ['old@example.com', '', 'free']];
run('install()'); // what is there already doesn't go
cells.push(['ana@example.com', new Date('2018-03-05T15:16:00Z'), 'team', 'untitled'], ['', '', ''], ['bo@example.com', '', '']);
run('sendNewRows()'); // Bo's row isn't ready
cells[4][2] = 'é'.repeat(9000);
answers = [0, 503, 429, 500];
run('sendNewRows()'); // given up for now
cells[4][2] = 'changed';
run('sendNewRows()'); // the same body again
cells.push(['cy@example.com', '', 'x']);
answers = [401];
run('sendNewRows()'); // no use in trying again at once
run('sendNewRows()');
cells = Array.from({ length: 452 }, (_, n) => (n === 0 ? cells[0] : [`p${n}@example.com`, '', 'x']));
run('sendNewRows()'); // in batches
cells = cells.slice(0, 3);
run('sendNewRows()');
cells.push(['new@example.com', '', 'x']);
run('sendNewRows()');
