//! Clients that are not ours are told by our machines what etcd tells them: `tests/etcd`, run as anyone runs it.

use std::path::PathBuf;
use std::process::Command;

use rm_tests::binary::raft_machine;

#[test]
fn etcdctl_is_told_in_every_command_what_etcd_tells_it() {
    let outcomes = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("etcd");
    let machine = raft_machine();
    python("run", |command| {
        command
            .arg("etcdctl")
            .arg("--raft-machine")
            .arg(machine)
            .arg("--output")
            .arg(outcomes)
    });
}

#[test]
fn a_difference_is_found_and_so_is_one_that_is_there_no_more() {
    python("test_compare.py", |command| command);
}

/// Runs a program of `tests/etcd`, which must end well.
fn python(program: &str, options: impl FnOnce(&mut Command) -> &mut Command) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("etcd");
    let mut command = Command::new("python3");
    options(command.arg(folder.join(program)));
    let output = command.output().unwrap_or_else(|error| {
        panic!("python3 cannot be run: {error}; install it (Debian: python3)")
    });
    let printed =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{program}:\n{}", printed.concat());
}
