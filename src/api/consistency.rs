//! What a read of a client rests on: etcd's flag, our own header, and the machine's default, in this order.

use rm_actors::port::{Consistency, Port};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// The header by which a client of Raft Machine says it for one request.
const HEADER: &str = "raftmachine-read";

/// What the request asks for. `serializable` is etcd's flag, which a header cannot take back.
pub(crate) fn consistency(
    port: &Port,
    metadata: &MetadataMap,
    serializable: bool,
) -> Result<Consistency, Status> {
    let asked = wanted(metadata)?;
    Ok(match asked {
        _ if serializable => Consistency::Serializable,
        Some(asked) => asked,
        None => port.default_consistency(),
    })
}

fn wanted(metadata: &MetadataMap) -> Result<Option<Consistency>, Status> {
    let Some(value) = metadata.get(HEADER) else {
        return Ok(None);
    };
    match value.as_bytes() {
        b"quorum" => Ok(Some(Consistency::Quorum)),
        b"lease" => Ok(Some(Consistency::Lease)),
        b"serializable" => Ok(Some(Consistency::Serializable)),
        _ => Err(Status::new(
            Code::InvalidArgument,
            format!("raftmachine: {HEADER} is {value:?}; use quorum, lease or serializable"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    #[test]
    fn the_header_says_what_a_read_rests_on_and_nonsense_is_refused() {
        let mut metadata = MetadataMap::new();
        assert_eq!(wanted(&metadata).expect("no header"), None);
        for (word, consistency) in [
            ("quorum", Consistency::Quorum),
            ("lease", Consistency::Lease),
            ("serializable", Consistency::Serializable),
        ] {
            metadata.insert(HEADER, MetadataValue::from_static(word));
            assert_eq!(wanted(&metadata).expect("a word"), Some(consistency));
        }
        metadata.insert(HEADER, MetadataValue::from_static("fast"));
        let refusal = wanted(&metadata).expect_err("no word of ours");
        assert_eq!(refusal.code(), Code::InvalidArgument);
    }
}
