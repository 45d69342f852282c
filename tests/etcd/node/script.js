"use strict";
// The Node client etcd3, with all that it has.
//
//     node script.js FOLDER ADDRESS...

const { Etcd3 } = require("etcd3");

const { introduce, status, alarms, leadership, members } = require("./machines");
const { puts, ranges, deletes, transactions, memory, compactions } = require("./keys");
const { leases, locks, elections } = require("./leases");
const { users, permissions } = require("./users");
const { watches } = require("./watches");

const SCENARIOS = [
  puts,
  ranges,
  deletes,
  transactions,
  memory,
  watches,
  leases,
  locks,
  elections,
  users,
  permissions,
  compactions,
  status,
  alarms,
  leadership,
  members,
];

async function main() {
  const addresses = process.argv.slice(3);
  const clients = addresses.map((hosts) => new Etcd3({ hosts }));
  await introduce(clients);
  for (const [number, scenario] of SCENARIOS.entries()) {
    console.log(`== ${scenario.name}`);
    // Now a leader is asked, now a follower.
    const first = number % clients.length;
    await scenario([...clients.slice(first), ...clients.slice(0, first)], addresses);
  }
  for (const client of clients) {
    client.close();
  }
  // The client's timers would keep the process for another minute, now and then.
  process.stdout.write("", () => process.exit(0));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
