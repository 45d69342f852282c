//! How long a client wants to wait, by gRPC's header, which etcd's gateway takes over HTTP, too (gRPC over HTTP/2, "Timeout").

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

const HEADER: &str = "grpc-timeout";

/// The most digits that a timeout has.
const DIGITS_MAX: usize = 8;

/// The time that a client gives; none if it does not say.
///
/// # Errors
/// It says so in words that gRPC does not have.
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let duration = value.to_str().ok().and_then(parse);
    duration.map(Some).ok_or_else(|| {
        Status::invalid_argument(format!(
            "invalid grpc-timeout: {value:?}; use up to {DIGITS_MAX} digits and one of H, M, S, m, u, n"
        ))
    })
}

/// What whoever waited for so long is told.
pub(crate) fn passed() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = number.len() <= DIGITS_MAX && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 60 * 60)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3_600))
        );
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("4m"), Some(Duration::from_millis(4)));
        assert_eq!(parse("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse("6n"), Some(Duration::from_nanos(6)));
        for wrong in ["", "S", "7", "7s", "+7S", "-7S", "999999999S", "7 S", "7ü"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
