//! Runs the scripts in `testscripts/`: one behaviour of the key space each, with its outcome beneath.
//!
//! Requests are `put KEY VALUE`, `range KEY [END]`, `delete KEY [END]` (the end `max` is none at all) with flags and options
//! named as in the request's type, and `txn if=COMPARE.. then=REQUEST.. else=REQUEST..`. `define NAME ...` names a
//! transaction, so that `txn NAME` within another one means it. `query` sends the rest as a query instead of a command.
//! `compact REVISION` forgets, `scrub CHANGES [bytes=BYTES]` removes, and `compaction` tells how far that is.
//! `grant ID TTL`, `revoke ID`, `count`, `expire REIGN ID@ENTRY..` and `note REIGN ID@ENTRY SECONDS|renewed` change leases; `lease ID` and `leases` show them,
//! and `news` what became of them since it was last asked. What begins with `USER:` comes on behalf of that user, and with `USER_late:` as
//! it was recognised one change of users, roles and permissions earlier; how these are changed is in `users.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use goldenscript::Argument;
use rm_kv::{
    Command, Compaction, Keyspace, LeaseChange, Operation, Query, Signature, Signed, StateMachine,
    Txn,
};

use crate::script_replies::{show_grant, show_lease, show_outcome};
use crate::script_requests::{
    Parsed, compaction, compare, delete, fill, lease_command, lease_query, put, range, split,
};
use crate::support::{Disk, apply_signed};
use crate::users::{self, Asked};

#[test]
fn every_script_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for script in scripts {
        println!("{}", script.display());
        let disk = Disk::new();
        let mut runner = Runner {
            disk: &disk,
            keyspace: Some(disk.open()),
            defined: BTreeMap::new(),
            by: None,
        };
        goldenscript::run(&mut runner, script).unwrap();
    }
}

struct Runner<'d> {
    disk: &'d Disk,
    keyspace: Option<Keyspace>,
    defined: BTreeMap<String, Txn>,
    /// On whose behalf the command comes.
    by: Option<Signature>,
}

impl goldenscript::Runner for Runner<'_> {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        context: &goldenscript::Context,
    ) -> Parsed<String> {
        let mut output = String::new();
        let revision = self.keyspace().auth_status().1;
        self.by = context.prefix.as_ref().map(|prefix| {
            let (user, late) = match prefix.strip_suffix("_late") {
                Some(user) => (user, 1),
                None => (prefix.as_str(), 0),
            };
            Signature {
                user: user.to_owned(),
                revision: revision - late,
            }
        });
        match command.name.as_str() {
            "auth" | "user" | "role" => match users::parse(&command.name, &command.args)? {
                Asked::Command(command) => self.change(&mut output, Command::Auth(command))?,
                Asked::Query(query) => self.ask(&mut output, Query::Auth(query))?,
            },
            "define" => {
                let (name, arguments) = split(&command.args)?;
                let txn = self.txn(arguments)?;
                self.defined.insert(name.to_owned(), txn);
            }
            "checkpoint" => {
                let report = self.keyspace().checkpoint()?;
                writeln!(output, "durable up to entry {}", report.applied)?;
            }
            // The process dies: what was not in a checkpoint is lost.
            "crash" => {
                self.keyspace = None;
                self.keyspace = Some(self.disk.open());
                let keyspace = self.keyspace();
                writeln!(
                    output,
                    "applied={} revision={}",
                    keyspace.applied(),
                    keyspace.revision()
                )?;
            }
            "state" => {
                let keyspace = self.keyspace();
                writeln!(
                    output,
                    "applied={} revision={}",
                    keyspace.applied(),
                    keyspace.revision()
                )?;
            }
            "query" => {
                let (name, arguments) = split(&command.args)?;
                let query = match self.operation(name, arguments)? {
                    Operation::Range(range) => Query::Range(range),
                    Operation::Txn(txn) => Query::Txn(txn),
                    other => return Err(format!("{other:?} is no query").into()),
                };
                self.ask(&mut output, query)?;
            }
            "range" => return Err("a range is a query".into()),
            "compaction" => {
                let keyspace = self.keyspace();
                let Compaction { revision, scrubbed } = keyspace.compaction();
                let changes = keyspace.size()?.changes;
                writeln!(
                    output,
                    "compacted={revision} scrubbed={scrubbed} changes={changes}"
                )?;
            }
            "grant" | "revoke" | "expire" | "note" | "count" => {
                let request = lease_command(&command.name, &command.args)?;
                self.change(&mut output, request)?;
            }
            // `fill LEASE COUNT PREFIX`: so many keys hang on a lease, put in one entry.
            "fill" => {
                let request = fill(&command.args)?;
                self.change(&mut String::new(), request)?;
            }
            "lease" | "leases" | "list_leases" => {
                let query = lease_query(&command.name, &command.args)?;
                self.ask(&mut output, query)?;
            }
            "news" => {
                for (_, change) in self.keyspace().take_auth_news() {
                    writeln!(output, "{change:?}")?;
                }
                for change in self.keyspace().take_lease_news().changes {
                    match change {
                        LeaseChange::Granted(lease) => {
                            writeln!(output, "granted {}", show_lease(&lease))?;
                        }
                        LeaseChange::Ended(grant) => {
                            writeln!(output, "ended {}", show_grant(&grant))?
                        }
                    }
                }
            }
            "compact" | "scrub" => {
                let request = compaction(&command.name, &command.args)?;
                self.change(&mut output, request)?;
            }
            name => {
                let command = match self.operation(name, &command.args)? {
                    Operation::Put(put) => Command::Put(put),
                    Operation::DeleteRange(delete) => Command::DeleteRange(delete),
                    Operation::Txn(txn) => Command::Txn(txn),
                    Operation::Range(_) => return Err("a range is a query".into()),
                };
                self.change(&mut output, command)?;
            }
        }
        Ok(output)
    }
}

impl<'d> Runner<'d> {
    fn keyspace(&mut self) -> &mut Keyspace {
        self.keyspace.as_mut().expect("a crash opens it again")
    }

    /// Applies a command as the next entry, on behalf of whoever is named before it.
    fn change(&mut self, output: &mut String, command: Command) -> Parsed<()> {
        let by = self.by.take();
        let outcome = apply_signed(self.keyspace(), &Signed { by, command })?;
        let outcome = outcome.ok_or("no outcome")?;
        show_outcome(output, outcome.map_err(|error| error.to_string()))
    }

    fn ask(&mut self, output: &mut String, query: Query) -> Parsed<()> {
        let query = match self.by.take() {
            Some(by) => Query::Signed {
                by,
                query: Box::new(query),
            },
            None => query,
        };
        let reply = self.keyspace().query(&query)?;
        show_outcome(output, reply.map_err(|error| error.to_string()))
    }

    fn operation(&self, name: &str, arguments: &[Argument]) -> Parsed<Operation> {
        Ok(match name {
            "put" => Operation::Put(put(arguments)?),
            "range" => Operation::Range(range(arguments)?),
            "delete" => Operation::DeleteRange(delete(arguments)?),
            "txn" => Operation::Txn(self.txn(arguments)?),
            other => return Err(format!("unknown request {other}").into()),
        })
    }

    /// `NAME` of a defined transaction, or its parts.
    fn txn(&self, arguments: &[Argument]) -> Parsed<Txn> {
        if let [Argument::Positional(name)] = arguments {
            return Ok(self
                .defined
                .get(name)
                .ok_or("undefined transaction")?
                .clone());
        }
        let mut txn = Txn::default();
        for argument in arguments {
            let Argument::KeyValue(part, text) = argument else {
                return Err(format!("unexpected {argument}").into());
            };
            match part.as_str() {
                "if" => txn.compare.push(compare(text)?),
                "then" => txn.success.push(self.parse_operation(text)?),
                "else" => txn.failure.push(self.parse_operation(text)?),
                other => return Err(format!("unexpected {other}").into()),
            }
        }
        Ok(txn)
    }

    /// A request in one string: words, and options as `name=value`.
    fn parse_operation(&self, text: &str) -> Parsed<Operation> {
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let arguments: Vec<_> = words
            .map(|word| match word.split_once('=') {
                Some((name, value)) => Argument::KeyValue(name.into(), value.into()),
                None => Argument::Positional(word.into()),
            })
            .collect();
        self.operation(name, &arguments)
    }
}
