// Sends the rows of a Google sheet to an inlet with the preset sheet, each once and in their order.
//
// In the sheet: Extensions > Apps Script, paste this file. Under Project Settings > Script Properties set
//   LEADLANE_URL    the inlet, such as https://events.example.com/inlets/leads
//   LEADLANE_TOKEN  the inlet's secret, which goes as Authorization: Bearer
//   LEADLANE_SHEET  the sheet's name; the first sheet when left out
//   LEADLANE_READY  the title of the column that is filled last; a row waits until it is. Left out, a row
//                   goes as soon as it isn't empty
// and run install() once, which asks for permission. From then on new rows go within a minute. The rows that are
// there already don't; run sendFromRow(2) for those.
//
// Titles stand in row 1. A row is an object of its titles, with its number as _row, so that two rows with the
// same content are two events. Rows are added at the end: those before the last one sent are not looked at again.

var ROWS_MAX = 200;
var BODY_MAX = 100000; // characters; all properties together hold 500 kB
var TRIES = 4;

function install() {
  ScriptApp.getProjectTriggers().forEach(function (trigger) {
    if (trigger.getHandlerFunction() === 'sendNewRows') ScriptApp.deleteTrigger(trigger);
  });
  ScriptApp.newTrigger('sendNewRows').timeBased().everyMinutes(1).create();
  var properties = PropertiesService.getScriptProperties();
  if (properties.getProperty('LEADLANE_LAST') === null) {
    properties.setProperty('LEADLANE_LAST', String(Math.max(sheet_(properties).getLastRow(), 1)));
  }
}

function sendFromRow(row) {
  PropertiesService.getScriptProperties().setProperty('LEADLANE_LAST', String(row - 1));
  sendNewRows();
}

function sendNewRows() {
  var lock = LockService.getScriptLock();
  if (!lock.tryLock(1000)) return; // the run before is still under way
  try {
    var properties = PropertiesService.getScriptProperties();
    while (send_(properties)) { /* until no row is left */ }
  } finally {
    lock.releaseLock();
  }
}

// Sends one batch; false when there is none. What could not be sent is kept as it is: the next run sends the
// same body again, even when a cell has been changed meanwhile, so that Leadlane knows it.
function send_(properties) {
  var batch = kept_(properties) || next_(properties);
  if (!batch) return false;
  keep_(properties, batch);
  post_(properties, batch.body);
  properties.setProperty('LEADLANE_LAST', String(batch.last));
  drop_(properties);
  return true;
}

function next_(properties) {
  var sheet = sheet_(properties);
  var last = Math.max(Number(properties.getProperty('LEADLANE_LAST') || 1), 1);
  var end = sheet.getLastRow();
  if (end < last) {
    // Rows were deleted: what is added from now on is new.
    properties.setProperty('LEADLANE_LAST', String(Math.max(end, 1)));
    return null;
  }
  if (end === last) return null;
  var titles = sheet.getRange(1, 1, 1, sheet.getLastColumn()).getValues()[0].map(String);
  var ready = titles.indexOf(properties.getProperty('LEADLANE_READY') || '');
  var count = Math.min(end - last, ROWS_MAX);
  var rows = [];
  var length = 0;
  var values = sheet.getRange(last + 1, 1, count, titles.length).getValues();
  for (var at = 0; at < values.length; at++) {
    var filled = values[at].some(function (cell) { return cell !== ''; });
    if (filled && ready >= 0 && values[at][ready] === '') break;
    if (!filled) continue;
    var row = row_(titles, values[at], last + 1 + at);
    length += JSON.stringify(row).length;
    if (rows.length > 0 && length > BODY_MAX) break;
    rows.push(row);
  }
  if (at === 0) return null;
  return { body: JSON.stringify(rows), last: last + at };
}

// Dates become ISO 8601 in UTC, empty cells and columns without a title are left out.
function row_(titles, cells, number) {
  var row = { _row: number };
  titles.forEach(function (title, at) {
    if (title !== '' && cells[at] !== '') row[title] = cells[at];
  });
  return row;
}

function post_(properties, body) {
  if (body === '[]') return; // rows without content
  for (var attempt = 1; ; attempt++) {
    var status = 0;
    var answer = '';
    try {
      var response = UrlFetchApp.fetch(properties.getProperty('LEADLANE_URL'), {
        method: 'post',
        contentType: 'application/json',
        headers: { Authorization: 'Bearer ' + properties.getProperty('LEADLANE_TOKEN') },
        payload: body,
        muteHttpExceptions: true
      });
      status = response.getResponseCode();
      answer = response.getContentText();
    } catch (error) {
      answer = String(error); // no connection
    }
    if (status >= 200 && status < 300) return;
    var passes = status === 0 || status === 408 || status === 429 || status >= 500;
    // Google mails the error to the script's owner; the next run tries again.
    if (!passes || attempt === TRIES) throw new Error('Leadlane answered ' + status + ': ' + answer.slice(0, 200));
    Utilities.sleep(1000 * Math.pow(2, attempt - 1));
  }
}

// A property holds 9 kB, so that a batch is kept in several.
function keep_(properties, batch) {
  if (properties.getProperty('LEADLANE_KEPT') !== null) return;
  var parts = { LEADLANE_KEPT_LAST: String(batch.last) };
  var count = 0;
  for (var at = 0; at < batch.body.length; at += 2000) {
    parts['LEADLANE_KEPT_' + count++] = batch.body.slice(at, at + 2000);
  }
  properties.setProperties(parts);
  properties.setProperty('LEADLANE_KEPT', String(count)); // last: from here on it is whole
}

function kept_(properties) {
  var count = properties.getProperty('LEADLANE_KEPT');
  if (count === null) return null;
  var body = '';
  for (var at = 0; at < Number(count); at++) body += properties.getProperty('LEADLANE_KEPT_' + at);
  return { body: body, last: Number(properties.getProperty('LEADLANE_KEPT_LAST')) };
}

function drop_(properties) {
  var count = Number(properties.getProperty('LEADLANE_KEPT'));
  properties.deleteProperty('LEADLANE_KEPT');
  properties.deleteProperty('LEADLANE_KEPT_LAST');
  for (var at = 0; at < count; at++) properties.deleteProperty('LEADLANE_KEPT_' + at);
}

function sheet_(properties) {
  var spreadsheet = SpreadsheetApp.getActiveSpreadsheet();
  var name = properties.getProperty('LEADLANE_SHEET');
  var sheet = name ? spreadsheet.getSheetByName(name) : spreadsheet.getSheets()[0];
  if (!sheet) throw new Error('there is no sheet ' + name);
  return sheet;
}
