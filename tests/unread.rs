//! Answers of bare HTTP/1.1, of which a client takes nothing before it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::{PATIENCE, until};

/// How a line of JSON ends that came as the end of a chunk.
const LINE_END: &[u8] = b"}\n\r\n";

/// Asks for a document, of which nothing is taken yet.
///
/// # Panics
///
/// When nobody listens.
pub fn post(address: SocketAddr, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let patience = stream.set_read_timeout(Some(PATIENCE));
    patience.expect("it is open, and some time");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: machine\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it is open");
    stream
}

/// Waits until so many bytes of the answer are there to be taken.
///
/// # Panics
///
/// When they do not come in time.
pub async fn until_there(stream: &TcpStream, bytes: usize) {
    let mut there = vec![0; bytes];
    until("the answer has come so far", async || {
        let found = stream.peek(&mut there).expect("it is open");
        (found == bytes).then_some(()).ok_or(found.to_string())
    })
    .await;
}

/// Takes all up to the end of the next line of JSON with which a chunk ends, and no more where nothing follows.
///
/// # Panics
///
/// When it does not come.
pub fn read_line(stream: &mut TcpStream) -> Vec<u8> {
    let mut line = Vec::new();
    let mut some = vec![0; 1 << 16];
    while !line.ends_with(LINE_END) {
        match stream.read(&mut some).expect("it comes in time") {
            0 => panic!("the answer has ended behind {} bytes", line.len()),
            bytes => line.extend_from_slice(&some[..bytes]),
        }
    }
    line
}
