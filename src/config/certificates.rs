//! The rules for files of certificates and keys: which there must be, and where.

use std::path::PathBuf;

use crate::error::Problem;
use crate::rules::check_path;
use crate::schema::Config;

/// Everything wrong with the certificates, whichever machine reads the config.
pub(crate) fn check(config: &Config) -> Vec<Problem> {
    let mut problems: Vec<Problem> = files(config)
        .iter()
        .filter_map(|(key, path)| check_path(key, path))
        .collect();
    if config.peers.tls.is_some() && config.peers.insecure {
        let text = "is true, yet peers.tls is there: take one of them out";
        problems.push(Problem::new("peers.insecure", text));
    }
    if let Some(tls) = &config.clients.tls
        && tls.client_revoked.is_some()
        && tls.client_ca.is_none()
    {
        let text = "is there, yet no client is asked for a certificate: give clients.tls.client_ca";
        problems.push(Problem::new("clients.tls.client_revoked", text));
    }
    problems
}

/// Everything wrong with them on the host of one machine.
pub(crate) fn check_local(config: &Config, place: usize) -> Vec<Problem> {
    let absent = |(key, path): &(String, PathBuf)| {
        let is_absent = check_path(key, path).is_none() && !path.is_file();
        let text =
            format!("is {path:?}, which is no file: put the file there, or correct the path");
        is_absent.then(|| Problem::new(key, text))
    };
    let mut problems: Vec<Problem> = files(config).iter().filter_map(absent).collect();
    let peer = &config.machines[place].peer;
    if config.peers.tls.is_none() && !peer.is_loopback() && !config.peers.insecure {
        let text = format!(
            "is {peer}, beyond loopback, where whoever reaches the port can join: give certificates in peers.tls, or \
             allow it with peers.insecure"
        );
        problems.push(Problem::new(format!("machines[{place}].peer"), text));
    }
    problems
}

/// Every file that the config names, with its key.
fn files(config: &Config) -> Vec<(String, PathBuf)> {
    let mut config = config.clone();
    each_file(&mut config)
        .map(|(key, path)| (key, path.clone()))
        .collect()
}

/// Every file of certificates and keys, with its key in the config.
pub(crate) fn each_file(config: &mut Config) -> impl Iterator<Item = (String, &mut PathBuf)> {
    let peers = config.peers.tls.iter_mut().flat_map(|tls| {
        [
            ("ca", &mut tls.ca),
            ("certificate", &mut tls.certificate),
            ("key", &mut tls.key),
        ]
    });
    let clients = config.clients.tls.iter_mut().flat_map(|tls| tls.files());
    let tokens = config.auth.jwt.iter_mut().flat_map(|jwt| jwt.files());
    let peers = peers.map(|(key, path)| (format!("peers.tls.{key}"), path));
    let clients = clients.map(|(key, path)| (format!("clients.tls.{key}"), path));
    let tokens = tokens.map(|(key, path)| (format!("auth.jwt.{key}"), path));
    peers.chain(clients).chain(tokens)
}
