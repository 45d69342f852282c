"use strict";
// What is about the machines: status, snapshots, defragmentation, alarms, who leads, and who belongs to it.

const { known, print, told } = require("./told");

/** Has names stand for what is particular to the cluster, and the first machine lead. */
async function introduce(clients) {
  const answer = await clients[0].cluster.memberList({});
  known("cluster", answer.header.cluster_id);
  for (const member of answer.members) {
    known(`id of ${member.name}`, member.ID);
    known(`peer of ${member.name}`, member.peerURLs[0]);
    known(`client of ${member.name}`, member.clientURLs[0]);
  }
  await lead(clients, answer.members.find((member) => member.name === "m0").ID);
}

/** What each machine says of itself. */
function statuses(clients) {
  return Promise.all(clients.map((client) => client.maintenance.status()));
}

/** Has a machine lead, and waits until all know. */
async function lead(clients, target) {
  for (;;) {
    const found = await statuses(clients);
    if (found.every((each) => each.leader === target)) {
      return;
    }
    const place = found.findIndex((each) => each.leader === each.header.member_id);
    if (place >= 0 && found[place].leader !== target) {
      await clients[place].maintenance.moveLeader({ targetID: target });
    }
  }
}

async function status(clients) {
  for (const [number, answer] of (await statuses(clients)).entries()) {
    print(`status ${number}`, { by: answer.header.member_id, leader: answer.leader, learner: answer.isLearner });
  }
  await told("members", clients[0].cluster.memberList({}), (answer) => answer.members.map((each) => each.name).sort());
  let size = 0;
  for await (const piece of await clients[0].maintenance.snapshot()) {
    size += piece.blob.length;
  }
  print("a snapshot", `of whole sectors, and a digest of ${size % 512} bytes`);
  await told("defragmented", clients[0].maintenance.defragment());
}

async function alarms([client]) {
  const memberID = (await client.maintenance.status()).header.member_id;
  const kinds = (answer) => answer.alarms;
  const alarm = (action) => client.maintenance.alarm({ action, memberID, alarm: "NOSPACE" });
  await told("raised", alarm("ACTIVATE"), kinds);
  await told("all", client.maintenance.alarm({ action: "GET", memberID: "0", alarm: "NONE" }), kinds);
  await told("put", client.put("alarmed").value("x"));
  await told("get", client.get("alarmed"));
  await told("disarmed", alarm("DEACTIVATE"), kinds);
  await told("put again", client.put("alarmed").value("x"));
}

async function leadership(clients) {
  const found = await statuses(clients);
  const place = found.findIndex((each) => each.leader === each.header.member_id);
  const others = found.map((_, number) => number).filter((number) => number !== place);
  const targetID = found[others[0]].header.member_id;
  await told("asked of another", clients[others[1]].maintenance.moveLeader({ targetID }));
  await told("asked of the leader", clients[place].maintenance.moveLeader({ targetID }), () => "moved");
  await lead(clients, targetID);
  await told("to nobody", clients[others[0]].maintenance.moveLeader({ targetID: "1" }));
  await lead(clients, found[place].leader);
}

/** A learner that never starts: admitted, promoted too early, and removed. */
async function members([client]) {
  const peerURLs = ["http://127.0.0.1:9?name=m3&client=127.0.0.1:8"];
  const added = await admitted(client, peerURLs);
  const { ID } = added.member;
  known("id of m3", ID);
  print("added", { learner: added.member.isLearner, of: added.members.length });
  await told("promoted too early", client.cluster.memberPromote({ ID }));
  await told("removed", client.cluster.memberRemove({ ID }), (answer) => answer.members.length);
  await told("removed again", client.cluster.memberRemove({ ID }));
}

/** Admits a learner; etcd refuses it until its members have been connected for five seconds. Not asked again at once, or the
 * client takes the machine for broken. */
async function admitted(client, peerURLs) {
  for (;;) {
    try {
      return await client.cluster.memberAdd({ peerURLs, isLearner: true });
    } catch (error) {
      if (!/unhealthy cluster|circuit breaker/.test(error.message)) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

module.exports = { introduce, status, alarms, leadership, members };
