//! Several watchers on one stream, with each option.

use etcd_client::{Client, Error, WatchFilterType, WatchOptions, WatchResponse, WatchStream};

use crate::told::{Told, header, key};

/// Watchers of the past, their ids, progress, and their ends.
pub async fn watches(
    told: &mut Told,
    client: &mut Client,
    other: &mut Client,
) -> Result<(), Error> {
    let put = client.put("w/a", "1", None).await?;
    let first = put.header().map_or(0, |header| header.revision());
    client.put("w/b", "2", None).await?;
    client.put("w/a", "3", None).await?;
    client.delete("w/b", None).await?;
    let past = || WatchOptions::new().with_prefix().with_start_revision(first);
    let mut stream = client.watch("w/", Some(past())).await?;
    told.show("a prefix", &answers(&mut stream, 2).await?);
    for (name, options) in [
        (
            "with what was before",
            past().with_watch_id(7).with_prev_key(),
        ),
        (
            "without puts",
            past()
                .with_watch_id(8)
                .with_filters([WatchFilterType::NoPut]),
        ),
        (
            "without deletions",
            past()
                .with_watch_id(9)
                .with_filters([WatchFilterType::NoDelete]),
        ),
        (
            "in fragments, if need be",
            past().with_watch_id(10).with_fragment(),
        ),
    ] {
        stream.watch("w/", Some(options)).await?;
        told.show(name, &answers(&mut stream, 2).await?);
    }
    stream.watch("w/", Some(past().with_watch_id(7))).await?;
    told.show("an id that is taken", &answers(&mut stream, 1).await?);
    stream
        .watch("w/", Some(WatchOptions::new().with_range("a")))
        .await?;
    told.show("an empty range", &answers(&mut stream, 1).await?);
    for id in [7, 8, 9, 10] {
        stream.cancel(id).await?;
        told.show("an end", &answers(&mut stream, 1).await?);
    }
    stream.request_progress().await?;
    told.show("progress", &answers(&mut stream, 1).await?);
    other.put("w/c", "through another machine", None).await?;
    told.show("what comes", &answers(&mut stream, 1).await?);
    stream
        .watch("w/", Some(past().with_start_revision(1)))
        .await?;
    told.show("what is compacted", &answers(&mut stream, 2).await?);
    Ok(())
}

/// The next answers of a stream.
async fn answers(stream: &mut WatchStream, count: usize) -> Result<String, Error> {
    let mut lines = Vec::new();
    for _ in 0..count {
        let answer = stream.message().await?;
        lines.push(answer.as_ref().map_or("the end".to_owned(), described));
    }
    Ok(lines.join("\n"))
}

fn described(answer: &WatchResponse) -> String {
    let (id, at) = (answer.watch_id(), header(answer.header()));
    let (created, canceled) = (answer.created(), answer.canceled());
    let (compacted, reason) = (answer.compact_revision(), answer.cancel_reason());
    let first = format!(
        "{id} by {at}: created {created} canceled {canceled} compacted {compacted} {reason}"
    );
    let events = answer.events().iter().map(|event| {
        let [now, before] = [event.kv(), event.prev_kv()].map(|kv| kv.map(key));
        format!("{:?} {now:?} before {before:?}", event.event_type())
    });
    [first]
        .into_iter()
        .chain(events)
        .collect::<Vec<_>>()
        .join("\n")
}
