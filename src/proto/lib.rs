//! The etcd v3 protocol buffers and the service for rmctl.
