//! The real `curl`, as whoever speaks HTTP to the client port without our code.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::machine::die_with_the_test;

/// How long one request may take, in seconds: longer than the machines' own limit, so that their answer is seen.
const SECONDS_MAX: &str = "20";

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The version of HTTP: `HTTP/1.1` or `HTTP/2`.
    pub version: String,
    /// The code of the status.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// All that follows.
    pub body: String,
}

impl Answer {
    fn parse(printed: &str) -> Option<Answer> {
        let (head, body) = printed.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let (version, status) = lines.next()?.split_once(' ')?;
        let status = status.split(' ').next()?.parse().ok()?;
        // An interim answer comes before the real one (RFC 9110, section 15.2).
        if status == 100 {
            return Answer::parse(body);
        }
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        };
        Some(Answer {
            version: version.to_owned(),
            status,
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
        })
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(each, _)| each == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Runs curl with a URL and whatever else, and reads what was answered.
///
/// # Panics
///
/// When it is not installed, or gets no answer.
pub fn curl(arguments: &[impl AsRef<OsStr>]) -> Answer {
    try_curl(arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, of a machine that may not be there yet.
///
/// # Errors
///
/// There is no answer.
///
/// # Panics
///
/// When curl is not installed.
pub fn try_curl(arguments: &[impl AsRef<OsStr>]) -> Result<Answer, String> {
    let output = command(arguments).output();
    let output = output.unwrap_or_else(|error| missing(&error));
    let printed = String::from_utf8_lossy(&output.stdout);
    let what = || arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("curl {:?}: {error} {printed}", what()));
    }
    let answer = Answer::parse(&printed);
    answer.ok_or_else(|| format!("curl {:?} has printed {printed:?}", what()))
}

/// A GET of a URL.
///
/// # Panics
///
/// As [`curl`].
pub fn get(url: &str) -> Answer {
    curl(&[url])
}

/// curl, which prints the head of the answer and its body as they come.
pub fn command(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--include", "--no-buffer"])
        .args(["--noproxy", "*", "--max-time", SECONDS_MAX])
        .args(arguments)
        .stdin(Stdio::null());
    die_with_the_test(&mut command);
    command
}

fn missing(error: &std::io::Error) -> ! {
    panic!("curl cannot be run: {error}; install it (Debian: curl)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_and_an_interim_one_passed_over() {
        let printed = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nAllow: GET\r\n\r\nno\r\n\r\nmore";
        let answer = Answer::parse(printed).expect("it is one");
        assert_eq!((answer.status, answer.version.as_str()), (404, "HTTP/1.1"));
        assert_eq!(answer.header("allow"), Some("GET"));
        assert_eq!(answer.body, "no\r\n\r\nmore");
        assert_eq!(Answer::parse("HTTP/2 200 \r\nno end"), None);
    }
}
