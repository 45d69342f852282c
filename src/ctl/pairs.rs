//! How keys with their values are printed: as lines, as a table, as JSON.

use serde::Serialize;

use crate::error::Result;
use crate::output::{Format, Shown, grid, print, print_json, print_table, right_align};
use crate::proto::{KeyValue, RangeResponse};

/// A line for each key and one for its value, as etcdctl prints them.
pub(crate) fn lines(pairs: &[KeyValue], hex: bool, keys_only: bool) -> Result<()> {
    for pair in pairs {
        print(
            &Shown {
                bytes: &pair.key,
                hex,
            }
            .line(),
        )?;
        if !keys_only {
            print(
                &Shown {
                    bytes: &pair.value,
                    hex,
                }
                .line(),
            )?;
        }
    }
    Ok(())
}

/// A row for each key.
pub(crate) fn table(pairs: &[KeyValue], hex: bool) -> Result<()> {
    let mut table = grid(["key", "value", "version", "created", "modified", "lease"]);
    for pair in pairs {
        table.add_row([
            Shown {
                bytes: &pair.key,
                hex,
            }
            .cell(),
            Shown {
                bytes: &pair.value,
                hex,
            }
            .cell(),
            pair.version.to_string(),
            pair.create_revision.to_string(),
            pair.mod_revision.to_string(),
            pair.lease.to_string(),
        ]);
    }
    right_align(&mut table, &[2, 3, 4, 5]);
    print_table(table, Format::Table)
}

/// What `get -o json` prints.
#[derive(Serialize)]
pub(crate) struct GetReport<'a> {
    revision: i64,
    /// Keys in the range, whatever the limit.
    count: i64,
    /// Whether the limit left some out.
    more: bool,
    kvs: Vec<Pair<'a>>,
}

impl<'a> GetReport<'a> {
    pub(crate) fn new(response: &'a RangeResponse, hex: bool) -> Self {
        GetReport {
            revision: response.header.as_ref().map_or(0, |header| header.revision),
            count: response.count,
            more: response.more,
            kvs: response
                .kvs
                .iter()
                .map(|pair| Pair::new(pair, hex))
                .collect(),
        }
    }
}

/// A key with its value in JSON.
#[derive(Serialize)]
pub(crate) struct Pair<'a> {
    key: Shown<'a>,
    value: Shown<'a>,
    version: i64,
    create_revision: i64,
    mod_revision: i64,
    lease: i64,
}

impl<'a> Pair<'a> {
    pub(crate) fn new(pair: &'a KeyValue, hex: bool) -> Self {
        Pair {
            key: Shown {
                bytes: &pair.key,
                hex,
            },
            value: Shown {
                bytes: &pair.value,
                hex,
            },
            version: pair.version,
            create_revision: pair.create_revision,
            mod_revision: pair.mod_revision,
            lease: pair.lease,
        }
    }
}

/// What `put` and `del` print.
#[derive(Serialize)]
pub(crate) struct WriteReport<'a> {
    pub(crate) revision: i64,
    /// How many keys were deleted, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deleted: Option<i64>,
    /// What was there before, where that was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) previous: Vec<Pair<'a>>,
}

impl WriteReport<'_> {
    /// Prints it, for people after a verdict in one word.
    pub(crate) fn print(&self, format: Format, verdict: &str) -> Result<()> {
        if format == Format::Json {
            return print_json(self);
        }
        print(verdict.as_bytes())?;
        for pair in &self.previous {
            print(&pair.key.line())?;
            print(&pair.value.line())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_what_was_found() {
        let response = RangeResponse {
            kvs: vec![KeyValue {
                key: "k".into(),
                value: vec![0xff].into(),
                version: 2,
                ..Default::default()
            }],
            count: 1,
            ..Default::default()
        };
        let json = serde_json::to_value(GetReport::new(&response, false)).expect("JSON");
        assert_eq!(json["kvs"][0]["key"], "k");
        assert_eq!(json["kvs"][0]["value"]["hex"], "ff");
        assert_eq!(json["kvs"][0]["version"], 2);
    }
}
