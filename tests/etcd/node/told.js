"use strict";
// What the client was told, without what no two clusters have in common.

// What stands in the place of what is particular to this cluster.
const names = new Map();

/** Has a name stand for a value from now on. */
function known(name, value) {
  names.set(String(value), `<${name}>`);
}

/** Prints what came of a call, all of it or what `show` makes of it; its answer, if it was not an error. */
async function told(step, call, show = (answer) => answer) {
  try {
    const answer = await (typeof call === "function" ? call() : call);
    print(step, show(answer));
    return answer;
  } catch (error) {
    print(step, `${error.name ?? error.constructor.name}: ${error.message}`);
    return undefined;
  }
}

/** Prints a step. */
function print(step, value) {
  console.log(`-- ${step}`);
  const text = typeof value === "string" ? value : (JSON.stringify(value, readable) ?? "nothing");
  for (const line of normalised(text).split("\n")) {
    console.log(`|${line}`);
  }
}

/** Bytes as texts. A buffer has become an object by the time that it comes here. */
function readable(_, value) {
  const isBytes = value?.type === "Buffer" && Array.isArray(value.data);
  return isBytes ? Buffer.from(value.data).toString("latin1") : value;
}

function normalised(text) {
  for (const [value, name] of names) {
    text = text.split(value).join(name);
  }
  return text.replace(/("raft_?[tT]erm":)"\d+"/g, "$1N");
}

module.exports = { known, told, print };
