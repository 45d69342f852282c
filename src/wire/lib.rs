//! Frames between peers, and QUIC under them.
