//! Who may connect: domain, era, name, number, version and certificate.

use std::path::{Path, PathBuf};

use rm_raft::MachineId;
use rm_wire::{Credentials, Event, Refusals, RefusedBecause};

use crate::harness::{Machine, cluster, machines, numbered, until};

fn refused(event: &Event) -> Option<RefusedBecause> {
    match event {
        Event::Refused { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

/// Lets the second machine dial the first, and gives the reason for which the first refuses it. The second must have
/// learnt the same reason, and that it is one.
async fn refusal_of_second(machines: &mut [Machine]) -> (RefusedBecause, Refusals) {
    let [first, second] = machines else {
        unreachable!("there are two");
    };
    first.start_inbound();
    second.start_outbound();
    let reason = first.event(refused).await;
    until("the dialler learns the reason", || {
        let status = second.status(MachineId(1));
        let tells = |text: Option<String>| text.is_some_and(|it| it.contains(&reason.to_string()));
        !status.connected && tells(status.last_error) && tells(status.refusal)
    })
    .await;
    assert!(first.inbound().connected().is_empty());
    (reason, first.inbound().refusals())
}

#[tokio::test]
async fn another_domain_is_refused() {
    let mut machines = machines(2);
    machines[1].identity.domain = "other.com".to_owned();
    let (reason, counted) = refusal_of_second(&mut machines).await;
    assert!(matches!(reason, RefusedBecause::Domain { theirs, .. } if theirs == "other.com"));
    assert!(counted.domain > 0);
}

#[tokio::test]
async fn a_machine_of_another_era_is_refused_though_all_else_is_as_listed_and_learns_why() {
    let mut machines = machines(2);
    machines[1].identity.era = 0xbad;
    let (reason, counted) = refusal_of_second(&mut machines).await;
    let expected = RefusedBecause::Era {
        theirs: 0xbad,
        ours: 7,
    };
    assert_eq!(reason, expected);
    assert!(reason.to_string().contains("0000000000000bad"), "{reason}");
    assert!(counted.era > 0 && counted.era == counted.total());
    assert!(machines[1].status(MachineId(1)).other_era);
    let found = machines[0].data_ids.known();
    assert!(found.is_empty(), "nothing it says is noted: {found:?}");
}

#[tokio::test]
async fn a_known_number_with_another_name_is_refused() {
    let mut machines = machines(2);
    machines[1].identity.name = "RM.99".to_owned();
    let (reason, counted) = refusal_of_second(&mut machines).await;
    assert!(matches!(reason, RefusedBecause::Machine { name, .. } if name == "RM.99"));
    assert!(counted.machine > 0);
}

#[tokio::test]
async fn a_stranger_beyond_the_limit_is_refused_by_name() {
    let mut machines = machines(2);
    machines[0].options.strangers_max = 0;
    machines[1].identity.id = MachineId(7);
    let (reason, counted) = refusal_of_second(&mut machines).await;
    assert!(matches!(reason, RefusedBecause::Machine { id: 7, .. }));
    assert!(counted.machine > 0);
    let found = machines[0].data_ids.known();
    assert!(found.is_empty(), "nothing it says is noted: {found:?}");
}

#[tokio::test]
async fn a_dial_that_was_meant_for_another_machine_is_refused() {
    let mut machines = machines(2);
    machines[1].peers[0].name = "RM.03".to_owned();
    let (reason, counted) = refusal_of_second(&mut machines).await;
    assert!(matches!(reason, RefusedBecause::Receiver { name, .. } if name == "RM.03"));
    assert!(counted.receiver > 0);
}

#[tokio::test]
async fn a_refusal_is_told_while_the_peer_is_away_and_no_more_once_it_connects() {
    let mut machines = machines(2);
    machines[1].identity.domain = "other.com".to_owned();
    refusal_of_second(&mut machines).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.inbound = None;
    until("the peer does not answer", || {
        let error = second.status(MachineId(1)).last_error;
        error.is_some_and(|error| !error.contains("other.com"))
    })
    .await;
    let refusal = second.status(MachineId(1)).refusal.unwrap_or_default();
    assert!(
        refusal.starts_with("it refuses this machine and says: it belongs to domain"),
        "{refusal}"
    );

    // It is not this machine that is mended, but the peer: the way to it stays the same.
    first.identity.domain = "other.com".to_owned();
    first.start_inbound();
    second.gets_through_to(first, &numbered(1)).await;
    let status = second.status(MachineId(1));
    assert_eq!((status.connected, status.refusal), (true, None));
}

#[tokio::test]
async fn a_peer_that_is_no_more_than_away_refuses_nobody() {
    let mut machines = machines(2);
    let second = &mut machines[1];
    second.start_outbound();
    until("the dial fails", || {
        second.status(MachineId(1)).last_error.is_some()
    })
    .await;
    assert_eq!(second.status(MachineId(1)).refusal, None);
}

#[tokio::test]
async fn a_refused_machine_harms_no_other() {
    let mut machines = machines(3);
    machines[2].identity.domain = "other.com".to_owned();
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    first.start();
    third.start();
    assert!(matches!(
        first.event(refused).await,
        RefusedBecause::Domain { .. }
    ));
    second.start();
    second.gets_through_to(first, &numbered(1)).await;
    assert_eq!(first.inbound().connected(), [MachineId(2)]);
}

/// Writes a CA and one certificate for each host, all signed by it.
fn certificates(folder: &Path, hosts: &[&str]) -> (PathBuf, Vec<(PathBuf, PathBuf)>) {
    let write = |name: String, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a temporary folder can be written to");
        path
    };
    let key = || rcgen::KeyPair::generate().expect("a key can be made");
    let parameters =
        |names: Vec<String>| rcgen::CertificateParams::new(names).expect("the names are valid");
    let ca_key = key();
    let mut ca = parameters(vec![]);
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("the CA can be signed");
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let signed = hosts.iter().enumerate().map(|(number, host)| {
        let key = key();
        let certificate = parameters(vec![(*host).to_owned()])
            .signed_by(&key, &issuer)
            .expect("a certificate can be signed");
        (
            write(format!("{number}.pem"), certificate.pem()),
            write(format!("{number}.key"), key.serialize_pem()),
        )
    });
    let signed = signed.collect();
    (write("ca.pem".to_owned(), ca_certificate.pem()), signed)
}

fn load(machine: &mut Machine, ca: &Path, (certificate, key): &(PathBuf, PathBuf)) {
    machine.credentials =
        Credentials::from_pem_files(ca, certificate, key).expect("the files are good");
}

#[tokio::test]
async fn machines_with_certificates_of_one_ca_connect() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (ca, signed) = certificates(folder.path(), &["127.0.0.1", "127.0.0.1"]);
    let mut machines = machines(2);
    for (machine, files) in machines.iter_mut().zip(&signed) {
        load(machine, &ca, files);
        machine.start();
    }
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.gets_through_to(second, &numbered(1)).await;
    second.gets_through_to(first, &numbered(2)).await;
}

#[tokio::test]
async fn a_dialler_with_the_certificate_of_another_host_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (ca, signed) = certificates(folder.path(), &["127.0.0.1", "elsewhere.example"]);
    let mut machines = machines(2);
    for (machine, files) in machines.iter_mut().zip(&signed) {
        load(machine, &ca, files);
    }
    let (reason, counted) = refusal_of_second(&mut machines).await;
    assert!(matches!(reason, RefusedBecause::Certificate { host, .. } if host == "127.0.0.1"));
    assert!(counted.certificate > 0);
}

#[tokio::test]
async fn a_stranger_must_have_the_certificate_of_the_host_that_it_says_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (ca, signed) = certificates(folder.path(), &["127.0.0.1", "four.example"]);
    let mut machines = machines(2);
    for (machine, files) in machines.iter_mut().zip(&signed) {
        load(machine, &ca, files);
    }
    machines[0].peers.clear();
    let (reason, counted) = refusal_of_second(&mut machines).await;
    assert!(matches!(reason, RefusedBecause::Certificate { host, .. } if host == "127.0.0.1"));
    assert!(counted.certificate > 0);

    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    second.identity.address = format!("four.example:{}", second.address.port());
    second.start_outbound();
    let met = |event: &Event| matches!(event, Event::Stranger(_)).then_some(());
    first.event(met).await;
}

#[tokio::test]
async fn a_dialler_without_a_certificate_of_the_ca_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (ca, signed) = certificates(folder.path(), &["127.0.0.1"]);
    let mut machines = machines(2);
    load(&mut machines[0], &ca, &signed[0]);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.start_inbound();
    second.start_outbound();
    assert!(matches!(
        first.event(refused).await,
        RefusedBecause::Transport(_)
    ));
    until("the dialler is told", || {
        let refusal = second.status(MachineId(1)).refusal;
        refusal.is_some_and(|it| it.contains("certificates of one CA"))
    })
    .await;
    assert!(!second.status(MachineId(1)).connected);
}

#[tokio::test]
async fn a_listener_with_the_certificate_of_another_host_is_not_spoken_to() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (ca, signed) = certificates(folder.path(), &["elsewhere.example", "127.0.0.1"]);
    let mut machines = machines(2);
    for (machine, files) in machines.iter_mut().zip(&signed) {
        load(machine, &ca, files);
    }
    machines[0].start_inbound();
    machines[1].start_outbound();
    until("the dialler refuses it", || {
        let refusal = machines[1].status(MachineId(1)).refusal;
        refusal.is_some_and(|it| it.starts_with("this machine refuses what it shows: "))
    })
    .await;
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let nowhere = Path::new("nowhere.pem");
    let error =
        Credentials::from_pem_files(nowhere, nowhere, nowhere).expect_err("there is no such file");
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
}

#[tokio::test]
async fn a_newer_connection_of_a_machine_takes_the_place_of_the_older() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    // A second sender of the same machine, while the first one still lives.
    let older = second.outbound.take();
    second.start_outbound();
    second.gets_through_to(first, &numbered(1)).await;
    until("the older connection is sent away", || {
        let statuses = older
            .as_ref()
            .map(rm_wire::Outbound::status)
            .unwrap_or_default();
        statuses.iter().any(|status| {
            let error = status.last_error.as_deref().unwrap_or_default();
            error.contains("a newer connection")
        })
    })
    .await;
    assert_eq!(first.inbound().connected(), [MachineId(2)]);
}
