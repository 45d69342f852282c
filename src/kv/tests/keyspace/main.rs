//! The key space as its users see it: etcd's semantics, determinism, and what happens when the disk fails.

#![allow(missing_docs, reason = "a test's name says what it shows")]

mod auth_limits;
mod compaction;
mod damage;
mod determinism;
mod long_keys;
mod long_work;
mod reply_memory;
mod script_replies;
mod script_requests;
mod scripts;
mod slices;
mod steps;
mod support;
mod tally;
mod twin;
mod twin_keys;
mod twin_keyspace;
mod twin_permit;
mod twin_users;
mod user_steps;
mod users;
