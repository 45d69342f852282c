//! Ends that speak QUIC and TLS as they should and then break the protocol, or do not even speak QUIC.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, OnceLock},
};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{
    ClientConfig, Connection, Endpoint, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rm_raft::MachineId;
use rm_wire::{Event, HeardCounts, Identity, RefusedBecause};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use crate::harness::{Machine, cluster, machines, numbered, until};

const ALPN: &[u8] = b"raft-machine/1";
const KIND_HELLO: u8 = 1;
const STREAM_MESSAGES: u8 = 1;

/// A frame with a right header and checksum.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_slice(b"RM");
    frame.put_u8(1);
    frame.put_u8(kind);
    frame.put_u32(body.len() as u32);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), body);
    frame.put_u32(checksum);
    frame.put_slice(body);
    frame.freeze()
}

/// The first frame of a machine, as its bytes.
fn hello(version: u16, sender: &Identity, receiver: (&str, u64)) -> Bytes {
    let mut body = BytesMut::new();
    let text = |body: &mut BytesMut, text: &str| {
        body.put_u16(text.len() as u16);
        body.put_slice(text.as_bytes());
    };
    body.put_u16(version);
    text(&mut body, &sender.domain);
    body.put_u64(sender.era);
    text(&mut body, &sender.name);
    body.put_u64(sender.id.0);
    body.put_u64(sender.incarnation);
    body.put_slice(&sender.data_id.0);
    text(&mut body, &sender.address);
    text(&mut body, receiver.0);
    body.put_u64(receiver.1);
    frame(KIND_HELLO, &body)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A peer that proves itself and reads nothing more for as long as this lives.
pub(crate) struct Deaf {
    endpoint: Endpoint,
    task: tokio::task::JoinHandle<()>,
    snapshot_answer: Arc<OnceLock<Bytes>>,
}

impl Deaf {
    /// Listens in the place of `machine`, for machine 1.
    pub(crate) fn listen(machine: &Machine) -> Deaf {
        let made = rcgen::generate_simple_self_signed(vec!["peer".to_owned()])
            .expect("a certificate can be made");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider knows TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("the certificate is good");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = QuicServerConfig::try_from(tls).expect("the provider suits QUIC");
        let config = ServerConfig::with_crypto(Arc::new(tls));
        let endpoint =
            Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("loopback has free ports");
        let answer = hello(5, &machine.identity, ("RM.01", 1));
        let snapshot_answer = Arc::new(OnceLock::new());
        let answers: Arc<OnceLock<Bytes>> = snapshot_answer.clone();
        let accepting = endpoint.clone();
        let task = tokio::spawn(async move {
            let (mut held, mut snapshots) = (Vec::new(), Vec::new());
            while let Some(incoming) = accepting.accept().await {
                let connection = incoming.await.expect("the dialler is good");
                let (mut say, _hear) = connection.accept_bi().await.expect("it says hello");
                say.write_all(&answer).await.expect("it hears the answer");
                if let Some(answer) = answers.get()
                    && let Ok((mut say, hear)) = connection.accept_bi().await
                {
                    // The dialler may end the connection before it has heard all.
                    let _ = say.write_all(answer).await;
                    snapshots.push((say, hear));
                }
                held.push((connection, say));
            }
        });
        Deaf {
            endpoint,
            task,
            snapshot_answer,
        }
    }

    /// On each connection it answers the first snapshot with this, whatever that is.
    pub(crate) fn answers_snapshots(&self, answer: Bytes) {
        self.snapshot_answer
            .set(answer)
            .expect("it is told once, before anyone dials");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("it is bound")
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects to a machine without having said anything.
async fn dial(machine: &Machine) -> (Endpoint, Connection) {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = QuicClientConfig::try_from(tls).expect("the provider suits QUIC");
    let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("there are free ports");
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(tls)));
    let connection = endpoint
        .connect(machine.address, "peer")
        .expect("the address is good")
        .await
        .expect("the machine listens");
    (endpoint, connection)
}

/// Says `first` as the first frame of a new connection to the machine, and gives the reason for the refusal.
async fn refusal_of(machine: &mut Machine, first: &[u8]) -> RefusedBecause {
    let (_endpoint, connection) = dial(machine).await;
    let (mut say, _hear) = connection.open_bi().await.expect("the stream is allowed");
    say.write_all(first).await.expect("the machine listens");
    let reason = refused(machine).await;
    let told = connection.closed().await.to_string();
    assert!(
        told.contains(&reason.to_string()),
        "{told} does not tell: {reason}"
    );
    reason
}

pub(crate) async fn refused(machine: &mut Machine) -> RefusedBecause {
    machine
        .event(|event| match event {
            Event::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
}

/// Connects as machine 2, properly.
pub(crate) async fn dial_proved(
    machine: &mut Machine,
    second: &Identity,
) -> (Endpoint, Connection) {
    let (endpoint, connection) = dial(machine).await;
    let (mut say, mut hear) = connection.open_bi().await.expect("the stream is allowed");
    say.write_all(&hello(5, second, ("RM.01", 1)))
        .await
        .expect("the machine listens");
    let mut answer = [0; 12];
    hear.read_exact(&mut answer)
        .await
        .expect("the machine answers");
    assert!(answer.starts_with(b"RM"));
    (endpoint, connection)
}

#[tokio::test]
async fn another_protocol_is_refused_by_its_version() {
    let mut machines = machines(2);
    let second = machines[1].identity.clone();
    let first = &mut machines[0];
    first.start_inbound();
    for theirs in [1, 4, 6] {
        let reason = refusal_of(first, &hello(theirs, &second, ("RM.01", 1))).await;
        assert_eq!(reason, RefusedBecause::Version { theirs, ours: 5 });
    }

    let mut newer_frame = BytesMut::from(&hello(5, &second, ("RM.01", 1))[..]);
    newer_frame[2] = 9;
    let reason = refusal_of(first, &newer_frame).await;
    assert!(reason.to_string().contains("version 9"), "{reason}");
    assert_eq!(first.inbound().refusals().version, 4);
}

#[tokio::test]
async fn a_first_frame_that_is_none_is_refused() {
    let mut machines = machines(2);
    let second = machines[1].identity.clone();
    let first = &mut machines[0];
    first.start_inbound();
    refusal_of(first, b"GET / HTTP/1.1\r\n\r\n").await;
    refusal_of(first, &rm_wire::encode(&numbered(1))).await;
    let mut damaged = BytesMut::from(&hello(5, &second, ("RM.01", 1))[..]);
    damaged[20] ^= 1;
    refusal_of(first, &damaged).await;
    // A hello that claims to be huge is refused by its header alone.
    refusal_of(first, b"RM\x01\x01\xff\xff\xff\xff\0\0\0\0").await;
    assert_eq!(first.inbound().refusals().frame, 4);
}

#[tokio::test]
async fn one_that_never_says_who_it_is_is_sent_away() {
    let mut machines = machines(2);
    let first = &mut machines[0];
    first.options.handshake_timeout = std::time::Duration::from_millis(50);
    first.start_inbound();
    let (_endpoint, connection) = dial(first).await;
    assert_eq!(refused(first).await, RefusedBecause::Slow);
    assert!(connection.closed().await.to_string().contains("in time"));
    assert_eq!(first.inbound().refusals().slow, 1);
}

#[tokio::test]
async fn what_a_proved_peer_sends_is_checked_all_the_same() {
    let mut machines = machines(2);
    let second = machines[1].identity.clone();
    let first = &mut machines[0];
    first.start_inbound();
    let nothing = HeardCounts::default();
    let heard = first.inbound().heard();
    assert_eq!(heard, [(second.id, nothing)], "it has not come yet");

    let (_endpoint, connection) = dial_proved(first, &second).await;
    let mut stream = connection.open_uni().await.expect("the stream is allowed");
    let mut bytes = vec![STREAM_MESSAGES];
    bytes.extend_from_slice(&rm_wire::encode(&numbered(1)));
    bytes.extend_from_slice(b"and now something completely different");
    stream.write_all(&bytes).await.expect("the machine listens");
    // What was good before it is not lost.
    assert_eq!(first.received(second.id, 1).await, [numbered(1)]);
    assert!(matches!(refused(first).await, RefusedBecause::Frame(_)));

    let (_endpoint, connection) = dial_proved(first, &second).await;
    let mut stream = connection.open_uni().await.expect("the stream is allowed");
    stream.write_all(&[200]).await.expect("the machine listens");
    assert_eq!(refused(first).await, RefusedBecause::Stream { kind: 200 });

    let (_endpoint, connection) = dial_proved(first, &second).await;
    connection
        .send_datagram(Bytes::from_static(b"garbage"))
        .expect("datagrams are on");
    assert!(matches!(refused(first).await, RefusedBecause::Frame(_)));
    let refusals = first.inbound().refusals();
    assert_eq!((refusals.frame, refusals.stream), (2, 1));
    let heard = first.inbound().heard();
    let [(from, counts)] = heard[..] else {
        panic!("one was heard: {heard:?}");
    };
    assert_eq!((from, counts.broken), (second.id, 3));

    machines[1].start_outbound();
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    second.gets_through_to(first, &numbered(2)).await;
}

#[tokio::test]
async fn datagrams_that_are_not_quic_are_counted_and_harm_nothing() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut sent = 0;
    for length in (2..1_400).step_by(3) {
        sent += 2;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        socket
            .send_to(&bytes, second.address)
            .expect("loopback takes all");
        // What looks like a QUIC packet of a connection that is not known.
        let short: Vec<u8> = bytes.iter().map(|byte| byte & 0x3f | 0x40).collect();
        socket
            .send_to(&short, second.address)
            .expect("loopback takes all");
    }
    for number in 0..100 {
        first.send(&[second], &numbered(number));
        assert_eq!(second.received(first.id(), 1).await, [numbered(number)]);
    }
    assert_eq!(first.status(second.id()).connections, 1);
    until("the noise is counted", || {
        second.inbound().refusals().stray == sent
    })
    .await;
    assert_eq!(
        first.inbound().refusals().total(),
        0,
        "what peers send is no noise"
    );
}

#[tokio::test]
async fn a_peer_that_answers_as_another_machine_is_not_spoken_to() {
    let mut machines = machines(3);
    let deaf = Deaf::listen(&machines[2]);
    let first = &mut machines[0];
    // It listens where machine 2 should, and says that it is machine 3.
    first.peers[0].address = deaf.address();
    first.start_outbound();
    until("the answer is refused", || {
        let refusal = first.status(MachineId(2)).refusal;
        refusal.is_some_and(|it| it.starts_with("this machine refuses it: \"RM.03\""))
    })
    .await;
    assert!(!first.status(MachineId(2)).connected);
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("only TLS 1.3 is offered")
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
