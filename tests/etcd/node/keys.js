"use strict";
// Puts, ranges, deletions, transactions, software transactional memory, and compaction.

const { told } = require("./told");

/** Puts with each option, seen through another machine. */
async function puts([client, other]) {
  await told("put", client.put("fruit/apple").value("red"));
  await told("put, with what was before", client.put("fruit/apple").value("green").getPrevious());
  await told("put, with what was not before", client.put("fruit/new").value("yes").getPrevious());
  await told("put without a value", client.put("fruit/apple").touch());
  await told("put without a value what is not there", client.put("fruit/nothing").touch());
  await told("put and keep the lease", client.put("fruit/apple").value("brown").ignoreLease());
  await told("put with a lease that is not there", client.put("a").value("b").lease("4321"));
  await told("put bytes", client.put(Buffer.from([0, 255])).value(Buffer.from([255, 0, 254])));
  await told("put an empty key", client.put("").value("x"));
  await told("put too much", client.put("large").value("x".repeat(2_000_000)));
  await told("get through another machine", other.get("fruit/apple"));
  await told("get all of it", other.get("fruit/apple").exec());
  await told("get what is not there", other.get("fruit/nothing"));
  await told("is it there", other.get("fruit/apple").exists());
  await told("get bytes", other.get(Buffer.from([0, 255])).buffer());
  await told("put in a namespace", client.namespace("space/").put("a").value("1"));
  await told("get by its whole key", client.get("space/a"));
}

/** Ranges with each option. */
async function ranges([client]) {
  for (const [key, value] of [["a", "4"], ["b", "2"], ["c", "1"], ["d", "3"], ["b", "2"]]) {
    await client.put(`tree/${key}`).value(value);
  }
  const tree = () => client.getAll().prefix("tree/");
  const newest = Number((await client.get("tree/b").exec()).kvs[0].mod_revision);
  await told("a prefix", tree().exec());
  await told("texts", tree().strings());
  await told("numbers", tree().numbers());
  await told("keys", tree().keys());
  await told("counted", tree().count());
  await told("limited", tree().limit(2).exec());
  await told("a range", client.getAll().inRange({ start: "tree/b", end: "tree/d" }).keys());
  await told("all", client.getAll().all().count());
  for (const target of ["Key", "Version", "Create", "Mod", "Value"]) {
    for (const order of ["None", "Ascend", "Descend"]) {
      await told(`sorted by ${target}, ${order}`, tree().sort(target, order).keys());
    }
  }
  await told("serializable", tree().serializable(true).keys());
  await told("of the past", tree().revision(newest - 3).exec());
  await told("of the future", tree().revision(newest + 1000).exec());
  await told("changed since", tree().minModRevision(newest - 1).exec());
  await told("changed until", tree().maxModRevision(newest - 1).exec());
  await told("created since", tree().minCreateRevision(newest - 2).exec());
  await told("created until", tree().maxCreateRevision(newest - 3).exec());
}

/** Deletions with each option. */
async function deletes([client]) {
  for (const key of ["a", "b", "c", "d", "e"]) {
    await client.put(`gone/${key}`).value(key);
  }
  await told("delete", client.delete().key("gone/a"));
  await told("delete what is not there", client.delete().key("gone/a"));
  await told("delete, with what was before", client.delete().key("gone/b").getPrevious());
  await told("delete a range", client.delete().inRange({ start: "gone/c", end: "gone/d" }));
  await told("delete a prefix", client.delete().prefix("gone/").getPrevious());
}

/** Transactions: each comparison, each operation, one in the other, and what is refused. */
async function transactions([client]) {
  await client.put("t/a").value("1");
  await client.put("t/b").value("2");
  const comparisons = [
    ["t/a", "Value", "==", "1"],
    ["t/a", "Value", "!=", "1"],
    ["t/a", "Value", "<", "2"],
    ["t/a", "Value", ">", "2"],
    ["t/a", "Version", "==", 1],
    ["t/nothing", "Create", "==", 0],
    ["t/a", "Mod", ">", 1],
    ["t/a", "Lease", "==", 0],
  ];
  for (const [key, column, comparator, value] of comparisons) {
    const chosen = client.if(key, column, comparator, value).then(client.get("t/a")).else(client.get("t/b"));
    await told(`if ${column} of ${key} ${comparator} ${value}`, chosen.commit());
  }
  const all = client
    .if("t/a", "Version", ">", 0)
    .and("t/b", "Version", ">", 0)
    .then(client.put("t/c").value("3"), client.getAll().prefix("t/"), client.delete().key("t/b"));
  await told("all operations", all.commit());
  const twice = client.if("t/a", "Version", ">", 0).then(client.put("k").value("1"), client.put("k").value("2"));
  await told("a key twice", twice.commit());
  const bytes = (text) => Buffer.from(text);
  const put = (key, value) => ({ request_put: { key: bytes(key), value: bytes(value) } });
  const nested = { compare: [], success: [put("t/d", "nested")], failure: [] };
  await told("one in the other", client.kv.txn({ compare: [], success: [{ request_txn: nested }], failure: [] }));
  const many = Array.from({ length: 129 }, (_, number) => put(`many/${number}`, "x"));
  await told("too many operations", client.kv.txn({ compare: [], success: many, failure: [] }));
  await told("what is left", client.getAll().prefix("t/").strings());
}

/** The client's transactional memory: many add to one number at once, and nothing is lost. */
async function memory([client, other, third]) {
  await client.put("sum").value("0");
  const add = (from) =>
    from.stm({ retries: 100 }).transact(async (tx) => {
      const sum = await tx.get("sum").number();
      await tx.put("sum").value(String(sum + 1));
    });
  await Promise.all([client, other, third, client, other, third].map(add));
  await told("the sum", client.get("sum").number());
}

/** Compaction, and what it leaves. */
async function compactions([client, other]) {
  for (const value of ["1", "2", "3", "4"]) {
    await client.put("aged").value(value);
  }
  const newest = Number((await client.get("aged").exec()).kvs[0].mod_revision);
  await told("compact", client.kv.compact({ revision: String(newest - 1) }));
  await told("compact again", client.kv.compact({ revision: String(newest - 1) }));
  await told("compact what is to come", client.kv.compact({ revision: String(newest + 1000) }));
  await told("compact, and wait", client.kv.compact({ revision: String(newest), physical: true }));
  await told("get what is compacted", client.get("aged").revision(newest - 2));
  await told("get what is compacted, through another machine", other.get("aged").revision(newest - 2));
  await told("get what is left", client.get("aged"));
}

module.exports = { puts, ranges, deletes, transactions, memory, compactions };
