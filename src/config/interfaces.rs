//! Which machine of the list is this one, when nobody says: the one whose peer address is an address of this host.

use std::net::{IpAddr, SocketAddr};

use crate::error::Problem;
use crate::schema::Machine;

/// The place in the list of the only machine whose peer address belongs to this host.
///
/// Asks the operating system for its interfaces and the resolver for hosts that are names.
pub(crate) fn find_local(machines: &[Machine]) -> Result<usize, Problem> {
    let own = own_addresses().map_err(|error| {
        Problem::new(
            "local",
            format!("is not given, and the addresses of this host cannot be read ({error}): say which machine this is with --local NAME"),
        )
    })?;
    let resolved: Vec<Vec<IpAddr>> = machines
        .iter()
        .map(|machine| {
            // A name that does not resolve belongs to some other host, which may be down.
            let addresses = machine.peer.resolve().unwrap_or_default();
            addresses.iter().map(SocketAddr::ip).collect()
        })
        .collect();
    choose(machines, &resolved, &own)
}

fn own_addresses() -> std::io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(interfaces.iter().map(if_addrs::Interface::ip).collect())
}

/// The only machine with an address among this host's own. Every loopback address is this host's.
fn choose(
    machines: &[Machine],
    resolved: &[Vec<IpAddr>],
    own: &[IpAddr],
) -> Result<usize, Problem> {
    let is_here = |ip: &IpAddr| ip.is_loopback() || own.contains(ip);
    let here: Vec<usize> = (0..machines.len())
        .filter(|place| resolved[*place].iter().any(is_here))
        .collect();
    match here[..] {
        [place] => Ok(place),
        [] => Err(Problem::new(
            "local",
            format!(
                "is not given, and no machine's peer address is one of this host's ({}): say which machine this is \
                 with --local NAME",
                list(own.iter().filter(|ip| !ip.is_loopback()))
            ),
        )),
        _ => Err(Problem::new(
            "local",
            format!(
                "is not given, and the peer addresses of several machines are this host's ({}): say which machine \
                 this is with --local NAME",
                list(here.iter().map(|place| &machines[*place].name))
            ),
        )),
    }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none but loopback".to_owned()
    } else {
        items.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines(peers: &[&str]) -> Vec<Machine> {
        let machine = |(place, peer): (usize, &&str)| Machine {
            name: format!("RM.{:02}", place + 1),
            peer: peer.parse().expect("a good address"),
            client: format!("h{place}:1").parse().expect("a good address"),
            metrics: None,
            priority: 0,
        };
        peers.iter().enumerate().map(machine).collect()
    }

    /// Chooses among machines whose peers are all numbers, on a host with the given addresses.
    fn choose_among(peers: &[&str], own: &[&str]) -> Result<usize, String> {
        let machines = machines(peers);
        let resolved: Vec<Vec<IpAddr>> = machines
            .iter()
            .map(|machine| machine.peer.host.parse().into_iter().collect())
            .collect();
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().expect("an IP")).collect();
        choose(&machines, &resolved, &own).map_err(|problem| problem.text)
    }

    #[test]
    fn the_machine_with_an_address_of_this_host_is_local() {
        let peers = ["10.0.0.1:7600", "10.0.0.2:7600", "[fd00::3]:7600"];
        assert_eq!(choose_among(&peers, &["127.0.0.1", "10.0.0.2"]), Ok(1));
        assert_eq!(choose_among(&peers, &["fd00::3"]), Ok(2));
    }

    #[test]
    fn a_single_machine_on_loopback_is_local() {
        assert_eq!(
            choose_among(&["127.0.1.1:7600", "10.0.0.2:7600"], &["10.0.0.9"]),
            Ok(0)
        );
        assert_eq!(choose_among(&["[::1]:7600"], &[]), Ok(0));
    }

    #[test]
    fn several_matches_ask_for_the_option() {
        assert_eq!(
            choose_among(&["127.0.0.1:7600", "10.0.0.2:7600", "127.0.0.1:7601"], &["127.0.0.1"]),
            Err("is not given, and the peer addresses of several machines are this host's (RM.01, RM.03): say which \
                 machine this is with --local NAME"
                .to_owned())
        );
    }

    #[test]
    fn no_match_names_the_addresses_of_this_host() {
        assert_eq!(
            choose_among(&["10.0.0.1:7600"], &["127.0.0.1", "10.0.0.9", "fd00::9"]),
            Err("is not given, and no machine's peer address is one of this host's (10.0.0.9, fd00::9): say which \
                 machine this is with --local NAME"
                .to_owned())
        );
        assert_eq!(
            choose_among(&["10.0.0.1:7600"], &["::1"]),
            Err("is not given, and no machine's peer address is one of this host's (none but loopback): say which \
                 machine this is with --local NAME"
                .to_owned())
        );
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let own = own_addresses().expect("interfaces can be read");
        assert!(own.iter().any(IpAddr::is_loopback), "{own:?}");
        assert_eq!(find_local(&machines(&["127.0.0.1:7600"])), Ok(0));
    }

    #[test]
    fn a_host_that_does_not_resolve_is_another() {
        let machines = machines(&["nowhere.invalid:7600", "127.0.0.1:7600"]);
        assert_eq!(find_local(&machines), Ok(1));
    }
}
