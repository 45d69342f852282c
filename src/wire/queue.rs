//! What waits to be written to one peer: bounded by frames and by bytes, the newest dropped when full.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Frames up to this size are copied together. quinn finds a segment of unacknowledged data by walking over all of
/// them, so that many small segments cost more than one copy.
const COALESCED_FRAME_BYTES_MAX: usize = 8 << 10;
/// The size of a buffer of small frames.
const COALESCED_BYTES: usize = 64 << 10;

/// A queue of encoded frames.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    frames_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(frames_max: usize, bytes_max: usize) -> Queue {
        Queue {
            frames: VecDeque::new(),
            bytes: 0,
            frames_max,
            bytes_max,
        }
    }

    /// Whether the frame found room. A queue that is empty takes a frame of any size.
    pub(crate) fn push(&mut self, frame: Bytes) -> bool {
        let full = self.frames.len() >= self.frames_max
            || (!self.frames.is_empty() && self.bytes + frame.len() > self.bytes_max);
        if full {
            return false;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        true
    }

    pub(crate) fn frames(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Empties the queue; how many frames it held.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.frames.len();
        self.frames.clear();
        self.bytes = 0;
        dropped
    }

    /// Takes a batch off the queue, `bytes_max` bytes or a frame more: small frames copied together, large ones as they are.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Batch {
        let mut batch = Batch::default();
        let mut small = BytesMut::new();
        while batch.bytes < bytes_max {
            let Some(frame) = self.frames.pop_front() else {
                break;
            };
            batch.frames += 1;
            batch.bytes += frame.len();
            if frame.len() > COALESCED_FRAME_BYTES_MAX || self.alone(&batch) {
                batch.flush(&mut small);
                batch.chunks.push(frame);
                continue;
            }
            if small.len() + frame.len() > COALESCED_BYTES {
                batch.flush(&mut small);
            }
            if small.capacity() == 0 {
                small.reserve(COALESCED_BYTES.min(self.bytes - batch.bytes + frame.len()));
            }
            small.extend_from_slice(&frame);
        }
        batch.flush(&mut small);
        self.bytes -= batch.bytes;
        batch
    }

    /// Whether the batch's first frame has no other to be copied together with.
    fn alone(&self, batch: &Batch) -> bool {
        batch.frames == 1 && self.frames.is_empty()
    }
}

/// What is written at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

impl Batch {
    fn flush(&mut self, small: &mut BytesMut) {
        if !small.is_empty() {
            self.chunks.push(std::mem::take(small).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Bytes {
        Bytes::from(vec![bytes as u8; bytes])
    }

    #[test]
    fn the_newest_frame_is_dropped_when_frames_or_bytes_are_too_many() {
        let mut queue = Queue::new(3, 100);
        assert!(queue.push(frame(40)));
        assert!(queue.push(frame(60)));
        assert!(!queue.push(frame(1)), "there is no room for another byte");
        assert_eq!((queue.frames(), queue.bytes()), (2, 100));

        let mut queue = Queue::new(1, 100);
        assert!(queue.push(frame(0)));
        assert!(!queue.push(frame(0)), "there is no room for another frame");
    }

    #[test]
    fn an_empty_queue_takes_a_frame_that_is_larger_than_its_limit() {
        let mut queue = Queue::new(3, 100);
        assert!(queue.push(frame(1_000)));
        assert!(!queue.push(frame(1)));
        assert_eq!(queue.take(10).bytes, 1_000);
        assert!(queue.push(frame(1)));
    }

    #[test]
    fn small_frames_are_copied_together_and_large_ones_are_not_copied() {
        let large = frame(COALESCED_FRAME_BYTES_MAX + 1);
        let mut queue = Queue::new(1_000, 1 << 20);
        for frame in [frame(10), frame(20), large.clone(), frame(30), frame(40)] {
            assert!(queue.push(frame));
        }
        let batch = queue.take(1 << 20);
        let lengths: Vec<_> = batch.chunks.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [30, large.len(), 70]);
        assert_eq!(batch.chunks[1].as_ptr(), large.as_ptr());
        assert_eq!((batch.frames, batch.bytes), (5, 100 + large.len()));
        assert_eq!((queue.frames(), queue.bytes()), (0, 0));
    }

    #[test]
    fn a_batch_ends_with_the_frame_that_fills_it_and_keeps_the_order() {
        let mut queue = Queue::new(1_000, 1 << 20);
        for bytes in 1..=100 {
            assert!(queue.push(frame(bytes)));
        }
        let mut all = Vec::new();
        while queue.frames() > 0 {
            let batch = queue.take(300);
            assert!(batch.bytes < 300 + 100);
            all.extend(batch.chunks.concat());
        }
        let sent: Vec<u8> = (1..=100_u8).flat_map(|n| vec![n; n.into()]).collect();
        assert_eq!(all, sent);
    }

    #[test]
    fn a_frame_that_stands_alone_is_not_copied() {
        let only = frame(10);
        let mut queue = Queue::new(10, 100);
        assert!(queue.push(only.clone()));
        assert_eq!(queue.take(100).chunks[0].as_ptr(), only.as_ptr());
    }
}
