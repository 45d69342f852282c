//! `rmctl migrate`: moves what an etcd holds into a domain, follows it while clients change over, and compares the two.
//!
//! A copy is a comparison of the two whose differences are written at the target. It reads the source at one revision, page by page;
//! a watch from the next revision on tells what has happened since. The end is the same comparison, which must find nothing.

mod batch;
mod copy;
mod difference;
mod done;
mod error;
mod feed;
mod findings;
mod flags;
mod guarded;
mod headed;
mod interrupts;
mod leases;
mod migration;
mod ours;
mod pages;
mod progress;
mod report;
mod run;
mod scope;
mod side;
mod signal;
mod verify;
mod writer;

pub(crate) use error::MigrateError;
pub(crate) use flags::MigrateFlags;
pub(crate) use run::run;

/// What an operator has to know beforehand.
pub(crate) const WHAT_IS_NOT_MOVED: &str = "\
Not moved, since etcd's API cannot write them or does not tell them:
  revisions   keys are created anew: create and mod revisions and versions are the target's own, and watches begin anew there
  history     only what there is at one revision, and what changes from then on
  users       users, roles and permissions are to be made anew; the report names them. Passwords are not told by etcd
  alarms, members and settings of the cluster

Leases keep their numbers and times, and have their whole time again; rmctl renews them at the target as long as they live at the
source, until it ends. A snapshot file of etcd is moved by way of an etcd: restore it (etcdctl snapshot restore), start one, move from it.";
