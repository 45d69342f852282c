"use strict";
// Leases that the client renews by itself, and its locks and elections on them.

const { known, print, told } = require("./told");

/** Leases: granted, renewed, looked at, revoked. */
async function leases([client, other]) {
  const lease = client.lease(1000, { autoKeepAlive: false });
  const id = await lease.grant();
  known("lease", id);
  await told("put", lease.put("held/a").value("1"));
  await told("the key", client.get("held/a").exec());
  const about = (answer) => ({ ...answer, header: undefined, TTL: Number(answer.TTL) > 990 });
  await told("looked at", client.leaseClient.leaseTimeToLive({ ID: id, keys: true }), about);
  await told("looked at through another machine", other.leaseClient.leaseTimeToLive({ ID: id }), about);
  await told("all", client.leaseClient.leaseLeases());
  await told("renewed", lease.keepaliveOnce());
  await told("revoked", lease.revoke());
  await told("the key, once it is gone", client.get("held/a"));
  await told("looked at, once it is gone", client.leaseClient.leaseTimeToLive({ ID: id }));
  await told("revoked, once it is gone", other.leaseClient.leaseRevoke({ ID: id }));
  const alive = client.lease(3);
  await alive.put("alive").value("yes");
  await new Promise((resolve) => alive.on("keepaliveSucceeded", resolve));
  await told("renewed by itself", client.get("alive"));
  await told("revoked then", alive.revoke());
  for (const TTL of ["0", "-1", "9000000001"]) {
    await told(`a time of ${TTL}`, client.leaseClient.leaseGrant({ ID: "0", TTL }), (answer) => answer.TTL);
  }
}

/** The client's lock: one has it, and another fails at once. */
async function locks([client, other]) {
  const first = client.lock("lock").ttl(60);
  const second = other.lock("lock").ttl(60);
  await told("locked", first.acquire(), () => "yes");
  await told("not locked", second.acquire(), () => "yes");
  await told("unlocked", first.release());
  await told("locked then", second.acquire(), () => "yes");
  await told("unlocked then", second.release());
  await told("while it is held", client.lock("lock").do(() => other.get("lock").exists()));
}

/** The client's election: who stands, who leads, who watches it. */
async function elections([client, other, third]) {
  const first = client.election("chair").campaign("one");
  await first.wait();
  // Not before: of two that come to stand while nobody leads, the client takes the second for the leader.
  const observer = await third.election("chair").observe();
  const changes = [observer.leader()];
  observer.on("change", (value) => changes.push(value));
  await told("leads", other.election("chair").leader());
  const second = other.election("chair").campaign("two");
  await first.proclaim("one, again");
  while (changes.at(-1) !== "one, again") {
    await new Promise((resolve) => observer.once("change", resolve));
  }
  await told("leads on", third.election("chair").leader());
  await told("resigned", first.resign());
  await second.wait();
  while (changes.at(-1) !== "two") {
    await new Promise((resolve) => observer.once("change", resolve));
  }
  await told("leads then", client.election("chair").leader());
  await told("resigned then", second.resign());
  await observer.cancel();
  print("who was seen to lead", changes);
}

module.exports = { leases, locks, elections };
