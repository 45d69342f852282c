//! How large a message of a client may be, and how whoever sends a larger one is told so.

use http::Response;
use rm_actors::port::{Config, Port, Refusal};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::error::refused;

/// How many bytes a message may have beyond the largest request (etcd: grpcOverheadBytes).
const OVERHEAD_BYTES: usize = 512 << 10;

/// The largest message that is read at all, in bytes.
pub(crate) fn message_bytes_max(config: &Config) -> usize {
    config
        .limits
        .request_bytes_max
        .saturating_add(OVERHEAD_BYTES)
}

/// Refuses what is too large for the log; `bytes` is the size of the request on the wire.
pub(crate) fn check_size(port: &Port, bytes: usize) -> Result<(), Status> {
    if bytes > port.config().limits.request_bytes_max {
        return Err(refused(Refusal::TooLarge));
    }
    Ok(())
}

/// A request that is too large to be read is refused before any service sees it, by tonic in its own words. etcd's clients know
/// another code for it, and Go's text.
pub(crate) fn in_etcds_words(response: Response<Body>) -> Response<Body> {
    if !response.headers().contains_key(Status::GRPC_STATUS) {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if is_too_large(&status) => unread(status).into_http(),
        _ => response,
    }
}

/// The same for a message that a stream would have read.
pub(crate) fn unread(status: Status) -> Status {
    if !is_too_large(&status) {
        return status;
    }
    let is_digit = |byte: char| byte.is_ascii_digit();
    let numbers = status.message().split(|byte| !is_digit(byte));
    let mut numbers = numbers.filter(|number| !number.is_empty());
    let text = "grpc: received message larger than max";
    Status::resource_exhausted(match (numbers.next(), numbers.next()) {
        (Some(bytes), Some(bytes_max)) => format!("{text} ({bytes} vs. {bytes_max})"),
        _ => text.to_owned(),
    })
}

fn is_too_large(status: &Status) -> bool {
    status.code() == Code::OutOfRange
        && status
            .message()
            .contains("decoded message length too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_too_large_to_be_read_is_refused_as_in_etcd() {
        let tonics = Status::out_of_range(
            "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes",
        );
        let told = in_etcds_words(tonics.into_http());
        let status = Status::from_header_map(told.headers()).expect("it is a refusal");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (9 vs. 8)"
        );
    }

    #[test]
    fn another_refusal_is_left_as_it_is() {
        let compacted =
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        let told = in_etcds_words(compacted.into_http());
        let status = Status::from_header_map(told.headers()).expect("it is a refusal");
        assert_eq!(status.code(), Code::OutOfRange);
    }
}
