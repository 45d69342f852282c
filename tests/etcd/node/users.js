"use strict";
// Users, roles and permissions, and who may what once everybody has to say who it is.

const { Etcd3, Range } = require("etcd3");

const { told } = require("./told");

const done = () => "done";

async function users([client]) {
  for (const name of ["root", "anna", "bert"]) {
    await told(`user ${name}`, client.user(name).create("pass"), done);
  }
  await told("a user again", client.user("anna").create("pass"), done);
  for (const name of ["root", "reader", "writer"]) {
    await told(`role ${name}`, client.role(name).create(), done);
  }
  await told("a role again", client.role("reader").create(), done);
  const range = Range.prefix("shared/");
  await told("reader may", client.role("reader").grant({ permission: "Read", range }), done);
  await told("writer may", client.role("writer").grant([{ permission: "Readwrite", range }, { permission: "Write", key: "one" }]), done);
  await told("writer may less", client.role("writer").revoke({ permission: "Write", key: "one" }), done);
  await told("writer may not less", client.role("writer").revoke({ permission: "Write", key: "one" }), done);
  for (const [user, role] of [["root", "root"], ["anna", "reader"], ["bert", "writer"]]) {
    await told(`${user} is ${role}`, client.user(user).addRole(role), done);
  }
  const namesOf = (found) => found.map((each) => each.name).sort();
  await told("users", client.getUsers(), namesOf);
  await told("roles", client.getRoles(), namesOf);
  await told("roles of a user", client.user("anna").roles(), namesOf);
  await told("permissions", client.role("writer").permissions());
  await told("a password", client.user("anna").setPassword("new"), done);
  await told("no user", client.user("nobody").roles(), namesOf);
  await told("no role", client.role("nobody").permissions());
  await told("a role taken", client.role("writer").removeUser("bert"), done);
  await told("a role taken again", client.role("writer").removeUser("bert"), done);
  await told("a role given", client.role("writer").addUser("bert"), done);
}

async function permissions([client], [hosts]) {
  await told("enabled", client.auth.authEnable(), done);
  await told("nobody gets", client.get("shared/a"));
  const people = [["anna", "pass"], ["anna", "new"], ["bert", "pass"], ["root", "pass"]];
  for (const [username, password] of people) {
    const person = new Etcd3({ hosts, auth: { username, password } });
    const name = `${username} with ${password}`;
    await told(`${name} puts`, person.put("shared/a").value(username));
    await told(`${name} puts elsewhere`, person.put("private").value(username));
    await told(`${name} gets`, person.get("shared/a"));
    await told(`${name} gets more`, person.getAll().all().count());
    await told(`${name} deletes`, person.delete().key("shared/nothing"));
    await told(`${name} lists users`, person.getUsers(), (found) => found.length);
    await told(`${name} compacts`, person.kv.compact({ revision: "2" }));
    if (username === "root") {
      await told("disabled", person.auth.authDisable(), done);
    }
    person.close();
  }
  await told("nobody gets again", client.get("shared/a"));
  for (const name of ["root", "anna", "bert"]) {
    await told(`no user ${name}`, client.user(name).delete(), done);
  }
  for (const name of ["root", "reader", "writer"]) {
    await told(`no role ${name}`, client.role(name).delete(), done);
  }
}

module.exports = { users, permissions };
