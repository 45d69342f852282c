//! `rmctl get`, `put` and `del`: the key space through etcd's KV service.

use std::io::{self, Read};

use crate::client::Endpoints;
use crate::error::{Error, Result};
use crate::output::{Format, print, print_json};
use crate::pairs::{GetReport, Pair, WriteReport, lines, table};
use crate::proto::{DeleteRangeRequest, PutRequest, RangeRequest, SortOrder, SortTarget};
use crate::range::RangeFlags;
use clap::{Args, ValueEnum};
use tonic::Request;
use tonic::metadata::MetadataValue;

/// What `get` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct GetFlags {
    /// The key
    key: String,
    #[command(flatten)]
    range: RangeFlags,
    /// As it was at this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// At most so many keys
    #[arg(long, default_value_t = 0)]
    limit: i64,
    /// No values
    #[arg(long, conflicts_with = "count_only")]
    keys_only: bool,
    /// Only how many keys there are
    #[arg(long)]
    count_only: bool,
    /// As the asked machine has it, which may lag behind the others; the same as --read serializable
    #[arg(long, conflicts_with = "read")]
    serializable: bool,
    /// What makes sure that the answer is the newest [default: what the machine's config says]
    #[arg(long, value_enum, value_name = "MODE")]
    read: Option<ReadMode>,
    /// What to sort by
    #[arg(long, value_enum, default_value_t = SortBy::Key)]
    sort_by: SortBy,
    /// In which order [default: ascending where --sort-by is given]
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Keys and values in hexadecimal
    #[arg(long)]
    hex: bool,
}

/// What makes sure that a read sees the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReadMode {
    /// A quorum of the machines is asked
    Quorum,
    /// The leader's lease, which rests on the clocks; a quorum where there is none
    Lease,
    /// Nothing: as the asked machine has it
    Serializable,
}

/// What keys can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortBy {
    Key,
    Version,
    Create,
    Modify,
    Value,
}

/// Which way keys are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Ascend,
    Descend,
}

/// What `put` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct PutFlags {
    /// The key
    key: String,
    /// The value; - reads it from standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Show the value that the key had before
    #[arg(long)]
    prev_kv: bool,
}

/// What `del` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct DelFlags {
    /// The key
    key: String,
    #[command(flatten)]
    range: RangeFlags,
    /// Show what was deleted
    #[arg(long)]
    prev_kv: bool,
}

/// Reads keys and prints them.
pub(crate) async fn get(endpoints: &Endpoints, format: Format, flags: GetFlags) -> Result<()> {
    let mut request = Request::new(flags.request()?);
    if let Some(mode) = flags.read {
        let word = MetadataValue::from_static(mode.word());
        request.metadata_mut().insert("raftmachine-read", word);
    }
    let link = endpoints.any().await?;
    let response = link.kv().range(request).await.map_err(link.failed("get"))?;
    let response = response.into_inner();
    match format {
        Format::Json => print_json(&GetReport::new(&response, flags.hex)),
        _ if flags.count_only => print(response.count.to_string().as_bytes()),
        Format::Table => table(&response.kvs, flags.hex),
        Format::Text => lines(&response.kvs, flags.hex, flags.keys_only),
    }
}

/// Writes a key.
pub(crate) async fn put(endpoints: &Endpoints, format: Format, flags: PutFlags) -> Result<()> {
    let request = PutRequest {
        key: flags.key.into_bytes().into(),
        value: read_value(flags.value)?.into(),
        prev_kv: flags.prev_kv,
        ..Default::default()
    };
    let link = endpoints.any().await?;
    let response = link.kv().put(request).await.map_err(link.failed("put"))?;
    let response = response.into_inner();
    let report = WriteReport {
        revision: response.header.map_or(0, |header| header.revision),
        deleted: None,
        previous: response
            .prev_kv
            .iter()
            .map(|pair| Pair::new(pair, false))
            .collect(),
    };
    report.print(format, "OK")
}

/// Deletes keys.
pub(crate) async fn del(endpoints: &Endpoints, format: Format, flags: DelFlags) -> Result<()> {
    let range = flags.range.range(&flags.key)?;
    let request = DeleteRangeRequest {
        key: range.key.into(),
        range_end: range.range_end.into(),
        prev_kv: flags.prev_kv,
    };
    let link = endpoints.any().await?;
    let response = link
        .kv()
        .delete_range(request)
        .await
        .map_err(link.failed("del"))?;
    let response = response.into_inner();
    let report = WriteReport {
        revision: response.header.map_or(0, |header| header.revision),
        deleted: Some(response.deleted),
        previous: response
            .prev_kvs
            .iter()
            .map(|pair| Pair::new(pair, false))
            .collect(),
    };
    report.print(format, &response.deleted.to_string())
}

impl ReadMode {
    /// The word that the machine knows it by.
    fn word(self) -> &'static str {
        match self {
            ReadMode::Quorum => "quorum",
            ReadMode::Lease => "lease",
            ReadMode::Serializable => "serializable",
        }
    }
}

impl GetFlags {
    fn request(&self) -> Result<RangeRequest> {
        let range = self.range.range(&self.key)?;
        let target = match self.sort_by {
            SortBy::Key => SortTarget::Key,
            SortBy::Version => SortTarget::Version,
            SortBy::Create => SortTarget::Create,
            SortBy::Modify => SortTarget::Mod,
            SortBy::Value => SortTarget::Value,
        };
        let order = match self.order {
            Some(Order::Descend) => SortOrder::Descend,
            Some(Order::Ascend) => SortOrder::Ascend,
            // Keys come in their order by themselves.
            None if target == SortTarget::Key => SortOrder::None,
            None => SortOrder::Ascend,
        };
        Ok(RangeRequest {
            key: range.key.into(),
            range_end: range.range_end.into(),
            revision: self.rev,
            limit: self.limit,
            keys_only: self.keys_only,
            count_only: self.count_only,
            serializable: self.serializable,
            sort_target: target.into(),
            sort_order: order.into(),
            ..Default::default()
        })
    }
}

fn read_value(argument: String) -> Result<Vec<u8>> {
    if argument != "-" {
        return Ok(argument.into_bytes());
    }
    let mut value = Vec::new();
    io::stdin()
        .read_to_end(&mut value)
        .map_err(Error::io("cannot read the value from standard input"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::Fake;

    fn at(fake: &Fake) -> Endpoints {
        Endpoints::plain(vec![fake.endpoint()], Duration::from_secs(5))
    }

    fn put_flags(key: &str, value: &str) -> PutFlags {
        PutFlags {
            key: key.to_owned(),
            value: value.to_owned(),
            prev_kv: false,
        }
    }

    fn get_flags(key: &str) -> GetFlags {
        GetFlags {
            key: key.to_owned(),
            range: RangeFlags::default(),
            rev: 0,
            limit: 0,
            keys_only: false,
            count_only: false,
            serializable: false,
            read: None,
            sort_by: SortBy::Key,
            order: None,
            hex: false,
        }
    }

    #[tokio::test]
    async fn a_key_that_is_put_is_there_until_it_is_deleted() {
        let fake = Fake::start();
        let endpoints = at(&fake);
        for key in ["a", "ab", "b"] {
            let flags = put_flags(key, "-1");
            put(&endpoints, Format::Json, flags).await.expect("a put");
        }
        assert_eq!(fake.keys().len(), 3);
        let flags = DelFlags {
            key: "a".to_owned(),
            range: RangeFlags {
                prefix: true,
                ..RangeFlags::default()
            },
            prev_kv: false,
        };
        del(&endpoints, Format::Text, flags)
            .await
            .expect("a deletion");
        assert_eq!(fake.keys().into_keys().collect::<Vec<_>>(), ["b"]);
    }

    #[tokio::test]
    async fn a_refused_request_names_the_endpoint_and_the_reason() {
        let fake = Fake::start();
        fake.refuse("etcdserver: no leader");
        let error = get(&at(&fake), Format::Text, get_flags("a"))
            .await
            .expect_err("a refusal");
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        assert!(text.contains(&fake.endpoint().to_string()) && text.contains("no leader"));
    }

    #[test]
    fn sorting_by_anything_but_the_key_ascends_unless_told_otherwise() {
        let mut flags = get_flags("a");
        let order = |flags: &GetFlags| flags.request().expect("a request").sort_order;
        assert_eq!(order(&flags), SortOrder::None as i32);
        flags.sort_by = SortBy::Modify;
        assert_eq!(order(&flags), SortOrder::Ascend as i32);
        flags.order = Some(Order::Descend);
        assert_eq!(order(&flags), SortOrder::Descend as i32);
    }
}
