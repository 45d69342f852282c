//! The JSON gateway on real machines: asked by curl, beside the real etcd where it has the call.

mod asking;
mod calls;
mod streams;
mod users;
