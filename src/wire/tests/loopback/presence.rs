//! A process that was killed is missed at once, one that is silent is not.

use std::net::UdpSocket;

use rm_raft::MachineId;
use rm_wire::Event;
use tokio::runtime;

use crate::harness::{machines, numbered, until};

fn gone(event: &Event) -> Option<(MachineId, bool)> {
    match event {
        Event::Gone {
            from, process_gone, ..
        } => Some((*from, *process_gone)),
        _ => None,
    }
}

#[tokio::test]
async fn a_silent_peer_is_probed_and_is_gone_only_when_its_port_is_closed() {
    // What machine 2 listens on, by machine 1's list: here the probes can be seen.
    let port = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    port.set_nonblocking(true).expect("a socket can be set so");
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.peers[0].address = port.local_addr().expect("it is bound");
    first.options.heartbeat_interval = std::time::Duration::from_millis(10);
    first.start_inbound();
    second.start_outbound();
    second.gets_through_to(first, &numbered(1)).await;

    let mut probes = 0;
    until("five probes have come", || {
        while port.recv(&mut [0; 8]).is_ok() {
            probes += 1;
        }
        probes >= 5
    })
    .await;
    assert_eq!(first.inbound().connected(), [MachineId(2)]);

    drop(port);
    assert_eq!(first.event(gone).await, (MachineId(2), true));
}

/// The idle timeout of a minute is not waited for: the system's answer to a probe tells.
#[test]
fn a_process_that_was_killed_is_missed_without_a_farewell() {
    let build = || {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built")
    };
    let mut machines = machines(2);
    let (own, victim) = (build(), build());
    let mut second = machines.pop().expect("there are two");
    let mut first = machines.pop().expect("there are two");
    first.options.heartbeat_interval = std::time::Duration::from_millis(10);
    own.block_on(async { first.start() });
    victim.block_on(async { second.start() });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        // An error means that the test asks for the end.
        let _ = victim.block_on(stopped);
        // With its runtime gone, nothing that the machine has says farewell, and its port closes with it.
        victim.shutdown_background();
        drop(second);
    });
    own.block_on(async {
        first.all_connected().await;
        until("the other has connected too", || {
            first.inbound().connected() == [MachineId(2)]
        })
        .await;
    });
    drop(stop);
    thread.join().expect("the victim ends quietly");
    assert_eq!(own.block_on(first.event(gone)), (MachineId(2), true));
}
