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
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use goldenscript::Argument;
use rm_kv::{
    Command, Compaction, Compare, CompareResult, CompareTarget, DeleteRange, Grant, KeyValue,
    Keyspace, Lease, LeaseChange, LeaseReply, LeaseTime, Operation, Put, Query, Range, Reply,
    ReplyBody, Signature, Signed, SortOrder, SortTarget, StateMachine, Txn,
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

type Parsed<T> = Result<T, Box<dyn Error>>;

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

fn split(arguments: &[Argument]) -> Parsed<(&str, &[Argument])> {
    match arguments {
        [Argument::Positional(name), rest @ ..] => Ok((name, rest)),
        _ => Err("a name is missing".into()),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn end(text: &str) -> Bytes {
    match text {
        "max" => Bytes::from_static(&[0]),
        end => bytes(end),
    }
}

fn put(arguments: &[Argument]) -> Parsed<Put> {
    let mut put = Put::default();
    let mut positional = 0;
    for argument in arguments {
        match argument {
            Argument::KeyValue(name, value) if name == "lease" => put.lease = value.parse()?,
            Argument::Positional(flag) if flag == "prev_kv" => put.prev_kv = true,
            Argument::Positional(flag) if flag == "ignore_value" => put.ignore_value = true,
            Argument::Positional(flag) if flag == "ignore_lease" => put.ignore_lease = true,
            Argument::Positional(text) if positional == 0 => {
                (put.key, positional) = (bytes(text), 1)
            }
            Argument::Positional(text) if positional == 1 => {
                (put.value, positional) = (bytes(text), 2)
            }
            other => return Err(format!("unexpected {other}").into()),
        }
    }
    Ok(put)
}

fn compaction(name: &str, arguments: &[Argument]) -> Parsed<Command> {
    let (number, options) = split(arguments)?;
    Ok(match (name, options) {
        ("compact", []) => Command::Compact {
            revision: number.parse()?,
        },
        ("scrub", []) => Command::Scrub {
            changes: number.parse()?,
            bytes: u32::MAX,
        },
        ("scrub", [Argument::KeyValue(option, bytes)]) if option == "bytes" => Command::Scrub {
            changes: number.parse()?,
            bytes: bytes.parse()?,
        },
        _ => return Err(format!("unexpected arguments of {name}").into()),
    })
}

fn lease_command(name: &str, arguments: &[Argument]) -> Parsed<Command> {
    if name == "count" {
        return Ok(Command::CountLeases);
    }
    let (number, rest) = split(arguments)?;
    let numbers: Vec<&str> = rest
        .iter()
        .map(|argument| match argument {
            Argument::Positional(text) => Ok(text.as_str()),
            other => Err(format!("unexpected {other}")),
        })
        .collect::<Result<_, _>>()?;
    Ok(match (name, &numbers[..]) {
        ("grant", [ttl]) => Command::GrantLease {
            id: number.parse()?,
            ttl: ttl.parse()?,
        },
        ("revoke", []) => Command::RevokeLease {
            id: number.parse()?,
        },
        ("expire", grants) => Command::ExpireLeases {
            reign: number.parse()?,
            grants: grants
                .iter()
                .map(|text| grant(text))
                .collect::<Result<_, _>>()?,
        },
        ("note", [text, remaining]) => Command::NoteLeases {
            reign: number.parse()?,
            times: vec![LeaseTime {
                grant: grant(text)?,
                remaining: match *remaining {
                    "renewed" => None,
                    seconds => Some(seconds.parse()?),
                },
            }],
        },
        _ => return Err(format!("unexpected arguments of {name}").into()),
    })
}

/// `ID@ENTRY`.
fn grant(text: &str) -> Parsed<Grant> {
    let (id, entry) = text.split_once('@').ok_or("an entry is missing")?;
    Ok(Grant {
        id: id.parse()?,
        entry: entry.parse()?,
    })
}

fn fill(arguments: &[Argument]) -> Parsed<Command> {
    let [
        Argument::Positional(lease),
        Argument::Positional(count),
        Argument::Positional(prefix),
    ] = arguments
    else {
        return Err("a lease, a count and a prefix are expected".into());
    };
    let (lease, count): (i64, u32) = (lease.parse()?, count.parse()?);
    let put = |number| {
        Operation::Put(Put {
            key: format!("{prefix}{number}").into(),
            lease,
            ..Put::default()
        })
    };
    Ok(Command::Txn(Txn {
        success: (0..count).map(put).collect(),
        ..Txn::default()
    }))
}

fn lease_query(name: &str, arguments: &[Argument]) -> Parsed<Query> {
    Ok(match (name, arguments) {
        ("lease", [Argument::Positional(id)]) => Query::Lease {
            id: id.parse()?,
            keys: true,
        },
        ("leases", []) => Query::Leases {
            after: None,
            limit: usize::MAX,
        },
        ("list_leases", rest) => Query::ListLeases {
            after: match rest {
                [Argument::Positional(id)] => Some(id.parse()?),
                _ => None,
            },
            limit: usize::MAX,
        },
        _ => return Err(format!("unexpected arguments of {name}").into()),
    })
}

fn delete(arguments: &[Argument]) -> Parsed<DeleteRange> {
    let mut delete = DeleteRange::default();
    let mut positional = 0;
    for argument in arguments {
        match argument {
            Argument::Positional(flag) if flag == "prev_kv" => delete.prev_kv = true,
            Argument::Positional(text) if positional == 0 => {
                (delete.key, positional) = (bytes(text), 1)
            }
            Argument::Positional(text) if positional == 1 => {
                (delete.range_end, positional) = (end(text), 2)
            }
            other => return Err(format!("unexpected {other}").into()),
        }
    }
    Ok(delete)
}

fn range(arguments: &[Argument]) -> Parsed<Range> {
    let mut range = Range::default();
    let mut positional = 0;
    for argument in arguments {
        match argument {
            Argument::KeyValue(name, value) => range_option(&mut range, name, value)?,
            Argument::Positional(flag) if flag == "keys_only" => range.keys_only = true,
            Argument::Positional(flag) if flag == "count_only" => range.count_only = true,
            Argument::Positional(text) if positional == 0 => {
                (range.key, positional) = (bytes(text), 1)
            }
            Argument::Positional(text) if positional == 1 => {
                (range.range_end, positional) = (end(text), 2)
            }
            other => return Err(format!("unexpected {other}").into()),
        }
    }
    Ok(range)
}

fn range_option(range: &mut Range, name: &str, value: &str) -> Parsed<()> {
    match name {
        "limit" => range.limit = value.parse()?,
        "revision" => range.revision = value.parse()?,
        "min_mod" => range.min_mod_revision = value.parse()?,
        "max_mod" => range.max_mod_revision = value.parse()?,
        "min_create" => range.min_create_revision = value.parse()?,
        "max_create" => range.max_create_revision = value.parse()?,
        "order" => {
            range.sort_order = match value {
                "ascend" => SortOrder::Ascend,
                "descend" => SortOrder::Descend,
                other => return Err(format!("unknown order {other}").into()),
            }
        }
        "sort" => {
            range.sort_target = match value {
                "key" => SortTarget::Key,
                "version" => SortTarget::Version,
                "create" => SortTarget::Create,
                "mod" => SortTarget::Mod,
                "value" => SortTarget::Value,
                other => return Err(format!("unknown sort {other}").into()),
            }
        }
        other => return Err(format!("unknown option {other}").into()),
    }
    Ok(())
}

/// `TARGET KEY [END] RESULT GIVEN`, as in `version a = 1`.
fn compare(text: &str) -> Parsed<Compare> {
    let words: Vec<_> = text.split(' ').collect();
    let (target, key, range_end, result, given) = match words[..] {
        [target, key, result, given] => (target, key, "", result, given),
        [target, key, range_end, result, given] => (target, key, range_end, result, given),
        _ => return Err(format!("no comparison: {text}").into()),
    };
    Ok(Compare {
        key: bytes(key),
        range_end: end(range_end),
        result: match result {
            "=" => CompareResult::Equal,
            ">" => CompareResult::Greater,
            "<" => CompareResult::Less,
            "!=" => CompareResult::NotEqual,
            other => return Err(format!("unknown result {other}").into()),
        },
        target: match target {
            "version" => CompareTarget::Version(given.parse()?),
            "create" => CompareTarget::Create(given.parse()?),
            "mod" => CompareTarget::Mod(given.parse()?),
            "lease" => CompareTarget::Lease(given.parse()?),
            "value" => CompareTarget::Value(bytes(given)),
            other => return Err(format!("unknown target {other}").into()),
        },
    })
}

fn show_outcome(output: &mut String, outcome: Result<Reply, String>) -> Result<(), Box<dyn Error>> {
    match outcome {
        Ok(reply) => show(output, &reply, 0)?,
        Err(error) => writeln!(output, "error: {error}")?,
    }
    Ok(())
}

fn show(output: &mut String, reply: &Reply, depth: usize) -> std::fmt::Result {
    let margin = "  ".repeat(depth);
    write!(output, "{margin}revision={} ", reply.revision)?;
    match &reply.body {
        ReplyBody::Put(prev) => {
            writeln!(output, "put")?;
            show_kvs(output, prev, &format!("{margin}  was "))
        }
        ReplyBody::DeleteRange(delete) => {
            writeln!(output, "deleted={}", delete.deleted)?;
            show_kvs(output, &delete.prev_kvs, &format!("{margin}  was "))
        }
        ReplyBody::Range(range) => {
            writeln!(
                output,
                "count={}{}",
                range.count,
                if range.more { " more" } else { "" }
            )?;
            show_kvs(output, &range.kvs, &format!("{margin}  "))
        }
        ReplyBody::Txn(txn) => {
            writeln!(output, "succeeded={}", txn.succeeded)?;
            txn.replies
                .iter()
                .try_for_each(|reply| show(output, reply, depth + 1))
        }
        ReplyBody::Compact => writeln!(output, "compacted"),
        ReplyBody::Scrub => writeln!(output, "scrubbed"),
        ReplyBody::GrantLease(lease) => writeln!(output, "granted {}", show_lease(lease)),
        ReplyBody::RevokeLease => writeln!(output, "revoked"),
        ReplyBody::Alarms(_) => panic!("the scripts have no alarms"),
        ReplyBody::CountLeases(entry) => writeln!(output, "counts from entry {entry} on"),
        ReplyBody::LeasesCounted(Some(done)) => writeln!(output, "counted {done}"),
        ReplyBody::LeasesCounted(None) => writeln!(output, "another counts: nothing done"),
        ReplyBody::Auth(reply) => writeln!(output, "{}", users::show(reply)),
        ReplyBody::Lease(LeaseReply { lease, keys }) => {
            let keys: Vec<_> = keys
                .iter()
                .map(|key| String::from_utf8_lossy(key))
                .collect();
            writeln!(output, "{} keys=[{}]", show_lease(lease), keys.join(" "))
        }
        ReplyBody::Leases(leases) => {
            writeln!(output, "leases={}", leases.len())?;
            leases
                .iter()
                .try_for_each(|lease| writeln!(output, "{margin}  {}", show_lease(lease)))
        }
    }
}

fn show_grant(grant: &Grant) -> String {
    format!("{}@{}", grant.id, grant.entry)
}

fn show_lease(lease: &Lease) -> String {
    let left = lease.remaining.map(|left| format!(" left={left}"));
    format!(
        "{} ttl={}{}",
        show_grant(&lease.grant),
        lease.ttl,
        left.unwrap_or_default()
    )
}

fn show_kvs<'k>(
    output: &mut String,
    kvs: impl IntoIterator<Item = &'k KeyValue>,
    margin: &str,
) -> std::fmt::Result {
    for kv in kvs {
        writeln!(
            output,
            "{margin}{}={} create={} mod={} version={}{}",
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value),
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            if kv.lease == 0 {
                String::new()
            } else {
                format!(" lease={}", kv.lease)
            },
        )?;
    }
    Ok(())
}
