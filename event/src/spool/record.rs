//! The body of a record: the head and the three runs of its texts. Its lengths are one word, `[body u32][client u16][route
//! u16]`, the low bits first. In the version before there was one run, and the word was the length of the body.

use crate::{Head, Run};
use twox_hash::XxHash3_64;

/// An odd number of many bits: 2^64 divided by the golden ratio.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a record holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body<'a> {
    /// The bytes of a [`Head`].
    pub head: &'a [u8],
    /// The runs of texts. Of the version before, each is the whole variable part.
    pub runs: [&'a [u8]; Run::COUNT],
    /// Whether the runs are apart.
    pub apart: bool,
}

impl<'a> Body<'a> {
    /// Takes a body apart; none if it is too short for its lengths.
    pub fn of_runs(bytes: &'a [u8], lengths: u64) -> Option<Self> {
        let (head, texts) = bytes.split_at_checked(size_of::<Head>())?;
        let (client, texts) = texts.split_at_checked(usize::from((lengths >> 32) as u16))?;
        let (route, own) = texts.split_at_checked(usize::from((lengths >> 48) as u16))?;
        Some(Self { head, runs: [client, route, own], apart: true })
    }

    /// The same of the version before.
    pub fn of_one_run(bytes: &'a [u8]) -> Option<Self> {
        let (head, texts) = bytes.split_at_checked(size_of::<Head>())?;
        Some(Self { head, runs: [texts; Run::COUNT], apart: false })
    }

    /// The word of its lengths.
    pub fn lengths(&self) -> u64 {
        let number = |length: usize| u64::try_from(length).expect("usize fits in u64");
        let [client, route, own] = self.runs.map(<[u8]>::len);
        number(self.head.len() + client + route + own) | number(client) << 32 | number(route) << 48
    }

    /// Hash of the record in its place: of pieces, since they lie apart when they are written, none of which is longer
    /// than the 240 bytes at which XXH3 begins to be slow unless a text is long. The sequence is mixed in by hand: XXH3
    /// with a seed first makes a secret of it, which takes as long as the hash of a usual piece.
    #[inline]
    pub fn hash(&self, sequence: u64) -> u64 {
        let [client, route, own] = self.runs;
        if !self.apart {
            let (head, texts) = (XxHash3_64::oneshot(self.head), XxHash3_64::oneshot(own));
            return head ^ texts.rotate_left(29) ^ sequence.wrapping_mul(HASH_FACTOR);
        }
        let (front, back) = self.head.split_at(self.head.len() / 2);
        let mut hash = sequence.wrapping_mul(HASH_FACTOR);
        for piece in [front, back, client, route, own] {
            // Multiplied between two pieces, so that pieces which change places change the sum.
            hash = (hash ^ XxHash3_64::oneshot(piece)).wrapping_mul(HASH_FACTOR).rotate_left(29);
        }
        hash
    }
}

/// The length of a body.
pub(super) fn body_bytes(lengths: u64) -> usize {
    usize::try_from(lengths & u64::from(u32::MAX)).expect("32 bits fit in usize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::segment::{FIRST_RECORD, Segment, file_name};
    use crate::spool::{LaneReader, lane_folder};
    use crate::{Attempt, AttemptError, Draft, Text};
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    fn draft(number: u16) -> Draft {
        let mut draft = Draft::new();
        draft.reset(i64::from(number));
        draft.text(Text::Route, b"a route");
        draft.text(Text::Consumer, b"a consumer");
        draft.text(Text::Path, format!("/{number}").as_bytes());
        draft.attempt(&Attempt {
            addr: b"127.0.0.1:80",
            status: 200 + number,
            error: AttemptError::None,
            start_us: 1,
            duration_us: 2,
            reused: true,
            span_id: *b"abcdefgh",
        });
        draft.extra(b"key", b"value");
        draft
    }

    #[test]
    fn a_changed_byte_a_moved_one_and_another_place_change_the_hash() {
        let draft = draft(1);
        let body = Body { head: bytemuck::bytes_of(&draft.head), runs: draft.runs(), apart: true };
        let hash = body.hash(7);
        assert_ne!(hash, body.hash(8));
        let bytes: Vec<u8> =
            [body.head, body.runs[0], body.runs[1], body.runs[2]].into_iter().flatten().copied().collect();
        let again = Body::of_runs(&bytes, body.lengths()).unwrap();
        assert_eq!((&again, again.hash(7), body_bytes(body.lengths())), (&body, hash, bytes.len()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(Body::of_runs(&changed, body.lengths()).unwrap().hash(7), hash, "byte {at}");
        }
        assert_ne!(Body::of_runs(&bytes, body.lengths() + (1 << 32)).unwrap().hash(7), hash);
        assert_eq!(Body::of_runs(&bytes, body.lengths() | 0xffff << 48), None);
        assert_eq!(Body::of_runs(&bytes[..100], body.lengths()), None);
    }

    /// As a killed gateway of the version before leaves it.
    #[test]
    fn a_segment_of_the_version_before_is_read() {
        let root = tempfile::tempdir().unwrap();
        let lane = lane_folder(root.path(), 0);
        std::fs::create_dir_all(&lane).unwrap();
        let path = lane.join(file_name(9));
        let segment = Segment::create(&path, 64 << 10, 9, 3, 0, "node").unwrap();
        segment.activate(0);
        let first = segment.sequence(0);
        drop(segment);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"TOLLSPL2", 0).unwrap();
        let mut at = FIRST_RECORD as u64;
        for number in 0..3 {
            let draft = draft(number);
            let texts: Vec<u8> = draft.runs().concat();
            let bytes = [bytemuck::bytes_of(&draft.head), &texts].concat();
            let sequence = first + u64::from(number);
            let hash = Body::of_one_run(&bytes).unwrap().hash(sequence);
            let mut record = Vec::new();
            for word in [sequence + 1, hash, bytes.len() as u64] {
                record.extend_from_slice(&word.to_le_bytes());
            }
            record.extend_from_slice(&bytes);
            record.resize(record.len().next_multiple_of(8), 0);
            file.write_all_at(&record, at).unwrap();
            at += record.len() as u64;
        }
        let mut reader = LaneReader::open(root.path(), 0, None).unwrap();
        let (mut numbers, mut shapes) = (Vec::new(), crate::Shapes::new());
        let read = reader.read_shapes(10, Some(&mut shapes), |event| {
            let attempt = event.attempts().next().unwrap();
            numbers.push((event.head.time_us, attempt.status));
            assert_eq!(event.str(Text::Route).unwrap(), "a route");
            assert_eq!(event.texts(Run::Client)[Text::Consumer as usize], Some(&b"a consumer"[..]));
            assert_eq!(event.str(Text::Path).unwrap(), format!("/{}", event.head.time_us));
            assert_eq!(event.extra().collect::<Vec<_>>(), [(&b"key"[..], &b"value"[..])]);
            assert_eq!(event.shape(Run::Route), None);
        });
        assert_eq!((read.unwrap(), numbers), (3, vec![(0, 200), (1, 201), (2, 202)]));
    }
}
