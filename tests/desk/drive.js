// Plays one scene: node drive.js SCENE, with the world as one line of JSON on stdin. A scene asks the test for what a
// browser can't do by `ask(words)`: a line `DO words` goes to stdout, and the answer is the next line of stdin.
'use strict';
const readline = require('node:readline');
const { open } = require('./browser');
const scenes = require('./scenes');

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the test has gone');
    return JSON.parse(value);
  };
  const world = await next();
  const ask = async (...words) => {
    process.stdout.write(`DO ${JSON.stringify(words)}\n`);
    return next();
  };
  const browser = await open();
  try {
    await scenes[process.argv[2]]({ browser, world, ask });
  } finally {
    await browser.close();
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
