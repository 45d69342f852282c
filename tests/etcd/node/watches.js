"use strict";
// Watches of the past and of what comes, in a range, filtered, with what was before.

const { print } = require("./told");

async function watches([client, other]) {
  const first = Number((await client.put("w/a").value("1")).header.revision);
  await client.put("w/b").value("2");
  await client.put("w/a").value("3");
  await client.delete().key("w/b");
  await client.put("w/z").value("last");
  const past = () => client.watch().prefix("w/").startRevision(String(first));
  await seen("a prefix", past(), 5);
  await seen("a prefix, with what was before", past().withPreviousKV(), 5);
  await seen("only puts", past().only("put"), 4);
  await seen("only deletions", past().ignore("put"), 1);
  await seen("a key", client.watch().key("w/a").startRevision(String(first)), 2);
  await seen("a range", client.watch().inRange({ start: "w/a", end: "w/c" }).startRevision(String(first)), 4);
  await seen("what comes", client.watch().prefix("live/"), 2, async () => {
    await other.put("live/a").value("through another machine");
    await other.delete().key("live/a");
  });
}

/** Prints so many events of a watch, once it is there and something is done. */
async function seen(step, builder, count, deed = async () => {}) {
  const watcher = builder.watcher();
  const events = [];
  const whole = new Promise((resolve, reject) => {
    watcher.on("error", reject);
    watcher.on("data", (answer) => {
      events.push(...answer.events);
      if (events.length >= count) {
        resolve();
      }
    });
  });
  await new Promise((resolve) => watcher.on("connected", resolve));
  await deed();
  await whole;
  await watcher.cancel();
  print(step, events.map((event) => JSON.stringify(event, bytes)).join("\n"));
}

function bytes(_, value) {
  return value?.type === "Buffer" ? Buffer.from(value.data).toString() : value;
}

module.exports = { watches };
