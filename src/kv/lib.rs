//! The state machine: etcd's data model over LMDB tables.
