//! LMDB under a machine: the environments, the log, the hard state.
