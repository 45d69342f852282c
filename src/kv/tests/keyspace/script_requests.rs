//! Requests of the scripts, read from their words: the forms are told in `scripts.rs`.

use std::error::Error;

use bytes::Bytes;
use goldenscript::Argument;
use rm_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Grant, LeaseTime, Operation, Put,
    Query, Range, SortOrder, SortTarget, Txn,
};

pub(crate) type Parsed<T> = Result<T, Box<dyn Error>>;

pub(crate) fn split(arguments: &[Argument]) -> Parsed<(&str, &[Argument])> {
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

pub(crate) fn put(arguments: &[Argument]) -> Parsed<Put> {
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

pub(crate) fn compaction(name: &str, arguments: &[Argument]) -> Parsed<Command> {
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

pub(crate) fn lease_command(name: &str, arguments: &[Argument]) -> Parsed<Command> {
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

pub(crate) fn fill(arguments: &[Argument]) -> Parsed<Command> {
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

pub(crate) fn lease_query(name: &str, arguments: &[Argument]) -> Parsed<Query> {
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

pub(crate) fn delete(arguments: &[Argument]) -> Parsed<DeleteRange> {
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

pub(crate) fn range(arguments: &[Argument]) -> Parsed<Range> {
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
pub(crate) fn compare(text: &str) -> Parsed<Compare> {
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
