//! What a benchmark asks: requests made once, with only the key's number written in anew for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use prost::Message;

use crate::http2::{PREFIX_BYTES, frame};
use crate::proto::{PutRequest, RangeRequest, RangeResponse};
use crate::random::SplitMix64;

/// What every key of a benchmark begins with; ten digits follow.
const KEY_PREFIX: &str = "bench/";
/// The digits of a key's number.
const KEY_DIGITS: usize = 10;
/// Where the key's digits lie in a framed request: the key is the first field, after its tag and its length.
const DIGITS_AT: usize = PREFIX_BYTES + 2 + KEY_PREFIX.len();
/// The most keys that the digits can tell apart.
pub(crate) const KEYS_MAX: u64 = 10_000_000_000;

/// In which order keys are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Evenly at random, the same for the same seed
    Random,
    /// One after the other, from the first again after the last
    Sequential,
}

/// The requests of one benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    kind: Kind,
    template: Bytes,
    keys: u64,
    order: Order,
    seed: u64,
    next: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Get,
}

impl Workload {
    /// Puts of values of `value_bytes`.
    pub(crate) fn put(value_bytes: usize, keys: u64, order: Order, seed: u64) -> Self {
        // A letter after the other: a value that shows where it was cut.
        let value = (b'a'..=b'z').cycle().take(value_bytes).collect::<Bytes>();
        let request = PutRequest {
            key: key(0),
            value,
            ..Default::default()
        };
        Self::new(Kind::Put, &request, keys, order, seed)
    }

    /// Gets of one key each.
    pub(crate) fn get(keys: u64, order: Order, seed: u64, serializable: bool) -> Self {
        let request = RangeRequest {
            key: key(0),
            serializable,
            ..Default::default()
        };
        Self::new(Kind::Get, &request, keys, order, seed)
    }

    fn new(kind: Kind, request: &impl Message, keys: u64, order: Order, seed: u64) -> Self {
        let template = frame(request.encoded_len(), |buffer| {
            request
                .encode(buffer)
                .expect("a buffer that grows takes every message");
        });
        Workload {
            kind,
            template,
            keys: keys.clamp(1, KEYS_MAX),
            order,
            seed,
            next: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The gRPC method that it calls.
    pub(crate) fn method(&self) -> &'static str {
        match self.kind {
            Kind::Put => "/etcdserverpb.KV/Put",
            Kind::Get => "/etcdserverpb.KV/Range",
        }
    }

    /// The framed request for the key of this number.
    pub(crate) fn request(&self, number: u64) -> Bytes {
        let mut request = BytesMut::from(&self.template[..]);
        write_digits(&mut request[DIGITS_AT..DIGITS_AT + KEY_DIGITS], number);
        request.freeze()
    }

    /// Whether an answer holds no key though one was asked for. An answer that cannot be read holds none.
    pub(crate) fn is_empty(&self, answer: Bytes) -> bool {
        self.kind == Kind::Get
            && RangeResponse::decode(answer).map_or(true, |response| response.kvs.is_empty())
    }

    /// The numbers of the keys that one client asks for.
    pub(crate) fn keys(&self, client: usize) -> Keys {
        Keys {
            order: self.order,
            keys: self.keys,
            next: self.next.clone(),
            random: SplitMix64::new(self.seed, client as u64),
        }
    }
}

/// Numbers of keys, without end.
pub(crate) struct Keys {
    order: Order,
    keys: u64,
    // Sequential keys are handed out once, whichever client asks.
    next: Arc<AtomicU64>,
    random: SplitMix64,
}

impl Keys {
    /// The next key's number, below the number of keys.
    pub(crate) fn next(&mut self) -> u64 {
        match self.order {
            Order::Sequential => self.next.fetch_add(1, Ordering::Relaxed) % self.keys,
            Order::Random => self.random.below(self.keys),
        }
    }
}

/// The key of a number.
fn key(number: u64) -> Bytes {
    let mut key = format!("{KEY_PREFIX}{:KEY_DIGITS$}", "").into_bytes();
    write_digits(&mut key[KEY_PREFIX.len()..], number);
    key.into()
}

/// Writes a number in decimals, right-aligned and padded with zeros.
fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit is below 10");
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_template_with_its_key() {
        let workload = Workload::put(256, 10, Order::Random, 1);
        let mut framed = workload.request(1_234_567_890);
        let put = PutRequest::decode(framed.split_off(PREFIX_BYTES)).expect("a put");
        assert_eq!(put.key, "bench/1234567890");
        assert_eq!(put.value.len(), 256);
        let workload = Workload::get(10, Order::Random, 1, true);
        let mut framed = workload.request(7);
        let get = RangeRequest::decode(framed.split_off(PREFIX_BYTES)).expect("a get");
        assert_eq!(get.key, "bench/0000000007");
        assert!(get.serializable);
    }

    #[test]
    fn sequential_keys_are_shared_by_the_clients_and_begin_anew() {
        let workload = Workload::get(3, Order::Sequential, 1, false);
        let (mut one, mut other) = (workload.keys(0), workload.keys(1));
        assert_eq!(
            [one.next(), other.next(), one.next(), other.next()],
            [0, 1, 2, 0]
        );
    }

    #[test]
    fn random_keys_are_repeatable_differ_by_client_and_reach_every_key() {
        let workload = Workload::get(10, Order::Random, 7, false);
        let take = |client| {
            let mut keys = workload.keys(client);
            (0..200).map(|_| keys.next()).collect::<Vec<_>>()
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert!((0..10).all(|number| take(1).contains(&number)));
    }
}
