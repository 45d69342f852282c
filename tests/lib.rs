//! Cluster harness, fault tests and conformance tests.
