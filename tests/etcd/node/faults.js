"use strict";
// Writes, watches, locks and keeps a lease alive by etcd3, while machines are killed and the lead is moved, until the input ends.
//
//     node faults.js FOLDER ADDRESS...

const { Etcd3 } = require("etcd3");

async function main() {
  const hosts = process.argv.slice(3);
  // The client takes a machine that failed for broken, for a while: it is told soon enough when that is over.
  const client = new Etcd3({ hosts, defaultCallOptions: () => ({ deadline: Date.now() + 5000 }) });
  // What has no end must have no deadline.
  const watching = new Etcd3({ hosts });
  let done = false;
  process.stdin.on("end", () => (done = true)).resume();

  const lease = watching.lease(60);
  let lost;
  lease.on("lost", (error) => (lost = error));
  await insist(() => lease.put("kept").value("alive"));
  await insist(() => client.put("sum").value("0"));
  const versions = [];
  const watcher = watching.watch().key("counter").startRevision("1").watcher();
  watcher.on("put", (kv) => versions.push(Number(kv.version)));

  const tries = [];
  const isDone = () => done;
  const adding = [add(client, isDone, tries), add(client, isDone, tries)];
  let count = 0;
  while (!done) {
    count += 1;
    await insist(() => client.put("counter").value(String(count)));
    console.log(count);
  }
  await Promise.all(adding);

  const [newest] = (await insist(() => client.get("counter").exec())).kvs;
  check(Number(newest.value) === count, `${count} was acknowledged, and ${newest.value} is there`);
  const version = Number(newest.version);
  while (versions.length < version) {
    await new Promise((resolve) => watcher.once("put", resolve));
  }
  const inOrder = versions.length === version && versions.every((each, place) => each === place + 1);
  check(inOrder, `of ${version} versions the watch saw ${versions}`);
  const total = await insist(() => client.get("sum").number());
  const added = tries.filter((each) => each).length;
  // Of what failed nobody knows whether it was done.
  check(added > 0 && added <= total && total <= tries.length, `${added} of ${tries.length} tries under the lock make ${total}`);
  const kept = (await insist(() => client.get("kept").exec())).kvs[0];
  check(kept?.version === "1" && !lost, `the lease that is kept alive has ended: ${lost}`);
  console.log(`${count} writes, each seen once; ${total} additions under the lock`);
  process.exit(0);
}

/** Makes a call until it is answered. */
async function insist(call) {
  for (;;) {
    try {
      return await call();
    } catch {
      await pause();
    }
  }
}

/** Adds one to a number that nobody else may touch, as long as it has the lock; notes of each try whether it was done. */
async function add(client, isDone, tries) {
  while (!isDone()) {
    const lock = client.lock("adders").ttl(20);
    try {
      await lock.acquire();
    } catch {
      await pause();
      continue;
    }
    const place = tries.push(false) - 1;
    try {
      const total = await client.get("sum").number();
      const mine = client.if("adders", "Lease", "==", await lock.leaseId());
      const answer = await mine.then(client.put("sum").value(String(total + 1))).commit();
      tries[place] = answer.succeeded;
      await lock.release();
    } catch {
      await pause();
    }
  }
}

/** Lets the others go on before something is tried again. */
function pause() {
  return new Promise((resolve) => setTimeout(resolve, 20));
}

function check(holds, otherwise) {
  if (!holds) {
    throw new Error(otherwise);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
