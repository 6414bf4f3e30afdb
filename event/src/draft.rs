//! What the gateway fills while a request passes: the fixed [`Head`] and short variable parts.
//!
//! A draft is recycled. Its variable part is three runs of entries `[tag u8][0 u8][length u16][bytes]`, appended when a
//! value becomes known and copied into the spool one behind the other: what requests of one client have in common, what
//! requests of one route have in common, and what is this request's own. Readers meet the first two again and again.

use crate::{AttemptError, Head};

/// Most bytes of one text; a longer value is cut.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Most attempts that one event lists.
pub const ATTEMPTS_MAX: usize = 16;
/// Most pairs of `extra`.
pub const EXTRA_MAX: usize = 16;
/// Most bytes of one run. Texts that are each set once stay below it; what is set beyond is left out.
const RUN_BYTES_MAX: usize = 60_000;

pub(crate) const TAG_ATTEMPT: u8 = 254;
pub(crate) const TAG_EXTRA: u8 = 255;
pub(crate) const ATTEMPT_FIXED_BYTES: usize = 20;

/// The texts of an event. Bytes from outside may be anything; the reader makes valid text of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the column of the same name, described in `columns`")]
pub enum Text {
    Listener,
    Workspace,
    SourceService,
    Consumer,
    ConsumerGroups,
    CredentialId,
    UserAgent,
    ForwardedFor,
    Method,
    Host,
    Path,
    Query,
    TlsSni,
    Route,
    Service,
    ServiceVersion,
    Upstream,
    LimitPolicy,
    ContentType,
    UpstreamAddr,
    Error,
}

impl Text {
    /// How many texts there are.
    pub const COUNT: usize = Self::Error as usize + 1;
    /// All of them, each at the place of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Listener,
        Self::Workspace,
        Self::SourceService,
        Self::Consumer,
        Self::ConsumerGroups,
        Self::CredentialId,
        Self::UserAgent,
        Self::ForwardedFor,
        Self::Method,
        Self::Host,
        Self::Path,
        Self::Query,
        Self::TlsSni,
        Self::Route,
        Self::Service,
        Self::ServiceVersion,
        Self::Upstream,
        Self::LimitPolicy,
        Self::ContentType,
        Self::UpstreamAddr,
        Self::Error,
    ];

    /// With what a text repeats.
    pub const fn run(self) -> Run {
        match self {
            Self::Workspace
            | Self::SourceService
            | Self::Consumer
            | Self::ConsumerGroups
            | Self::CredentialId
            | Self::UserAgent
            | Self::TlsSni => Run::Client,
            Self::Listener
            | Self::Method
            | Self::Host
            | Self::Route
            | Self::Service
            | Self::ServiceVersion
            | Self::Upstream
            | Self::LimitPolicy
            | Self::ContentType
            | Self::UpstreamAddr => Run::Route,
            Self::ForwardedFor | Self::Path | Self::Query | Self::Error => Run::Own,
        }
    }
}

/// The runs of the variable part, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Run {
    /// What requests of one client have in common.
    Client,
    /// What requests of one route have in common.
    Route,
    /// What a request has for itself: its path, its attempts, its pairs.
    Own,
}

impl Run {
    /// How many runs there are.
    pub const COUNT: usize = Self::Own as usize + 1;
}

/// One try at an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// `ip:port` that was tried.
    pub addr: &'a [u8],
    /// Status it answered; [`crate::ABSENT_U16`] for none.
    pub status: u16,
    /// Why it failed.
    pub error: AttemptError,
    /// Begin, in microseconds after the request head.
    pub start_us: u32,
    /// Length, in microseconds.
    pub duration_us: u32,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// Id of the client span, which the upstream saw as its parent.
    pub span_id: [u8; 8],
}

/// An event in the making.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Fixed fields.
    pub head: Head,
    runs: [Vec<u8>; Run::COUNT],
    attempts: usize,
    extras: usize,
    muted: bool,
}

impl Default for Draft {
    fn default() -> Self {
        Self::new()
    }
}

impl Draft {
    /// An empty draft, with room for a usual request.
    pub fn new() -> Self {
        let runs = [512, 512, 1024].map(Vec::with_capacity);
        Self { head: Head::new(0), runs, attempts: 0, extras: 0, muted: false }
    }

    /// A draft that keeps its [`Head`] only, for a gateway that records nothing.
    pub fn muted() -> Self {
        Self { runs: [const { Vec::new() }; Run::COUNT], muted: true, ..Self::new() }
    }

    /// Forgets everything and begins anew at `time_us` (microseconds since 1970, UTC); keeps its memory.
    pub fn reset(&mut self, time_us: i64) {
        self.head = Head::new(time_us);
        self.runs.iter_mut().for_each(Vec::clear);
        self.attempts = 0;
        self.extras = 0;
    }

    /// Sets a text, cut at [`TEXT_BYTES_MAX`]. The last value set is the one that counts.
    #[inline]
    pub fn text(&mut self, text: Text, value: &[u8]) {
        self.entry(text.run(), text as u8, &[&value[..value.len().min(TEXT_BYTES_MAX)]]);
    }

    /// Takes a text out again, its bytes too.
    pub fn forget(&mut self, text: Text) {
        let run = &mut self.runs[text.run() as usize];
        let mut at = 0;
        while let Some([tag, _, low, high]) = run.get(at..).and_then(<[u8]>::first_chunk) {
            let next = at + 4 + usize::from(u16::from_le_bytes([*low, *high]));
            if *tag == text as u8 {
                run.drain(at..next);
            } else {
                at = next;
            }
        }
    }

    /// Adds a try; past [`ATTEMPTS_MAX`] it is left out.
    pub fn attempt(&mut self, attempt: &Attempt<'_>) {
        if self.attempts == ATTEMPTS_MAX {
            return;
        }
        self.attempts += 1;
        let mut fixed = [0; ATTEMPT_FIXED_BYTES];
        fixed[0..4].copy_from_slice(&attempt.start_us.to_le_bytes());
        fixed[4..8].copy_from_slice(&attempt.duration_us.to_le_bytes());
        fixed[8..10].copy_from_slice(&attempt.status.to_le_bytes());
        fixed[10] = attempt.error as u8;
        fixed[11] = u8::from(attempt.reused);
        fixed[12..20].copy_from_slice(&attempt.span_id);
        self.entry(Run::Own, TAG_ATTEMPT, &[&fixed, &attempt.addr[..attempt.addr.len().min(TEXT_BYTES_MAX)]]);
    }

    /// Adds a pair of the column `extra`; past [`EXTRA_MAX`] it is left out.
    pub fn extra(&mut self, key: &[u8], value: &[u8]) {
        if self.extras == EXTRA_MAX {
            return;
        }
        self.extras += 1;
        let key = &key[..key.len().min(255)];
        let length = u8::try_from(key.len()).expect("cut at 255 just above");
        self.entry(Run::Own, TAG_EXTRA, &[&[length], key, &value[..value.len().min(TEXT_BYTES_MAX)]]);
    }

    /// The variable part as it stands in the spool, run by run.
    #[inline]
    pub(crate) fn runs(&self) -> [&[u8]; Run::COUNT] {
        self.runs.each_ref().map(Vec::as_slice)
    }

    #[inline]
    fn entry(&mut self, run: Run, tag: u8, pieces: &[&[u8]]) {
        let run = &mut self.runs[run as usize];
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.muted || run.len() + length > RUN_BYTES_MAX {
            return;
        }
        let short = u16::try_from(length).expect("pieces are cut well below 64 KiB");
        let [low, high] = short.to_le_bytes();
        run.reserve(4 + length);
        let begin = run.len();
        // SAFETY: there is room for the four bytes and all pieces just behind the present end, and each of those bytes
        // is written before the length says so.
        unsafe {
            let mut to = run.as_mut_ptr().add(begin);
            to.cast::<[u8; 4]>().write([tag, 0, low, high]);
            to = to.add(4);
            for piece in pieces {
                copy(piece, to);
                to = to.add(piece.len());
            }
            run.set_len(begin + 4 + length);
        }
    }
}

/// Copies a value, which mostly is a name: two words that may overlap cost less than a call of `memcpy`.
///
/// # Safety
/// There is room for `from.len()` bytes at `to`, which is no part of `from`.
#[inline]
unsafe fn copy(from: &[u8], to: *mut u8) {
    let length = from.len();
    // SAFETY: every range is inside the first `length` bytes of either side.
    unsafe {
        match length {
            8..=16 => {
                let (first, last) = (from.as_ptr(), from.as_ptr().add(length - 8));
                to.cast::<[u8; 8]>().write(first.cast::<[u8; 8]>().read());
                to.add(length - 8).cast::<[u8; 8]>().write(last.cast::<[u8; 8]>().read());
            }
            17..=32 => {
                let (first, last) = (from.as_ptr(), from.as_ptr().add(length - 16));
                to.cast::<[u8; 16]>().write(first.cast::<[u8; 16]>().read());
                to.add(length - 16).cast::<[u8; 16]>().write(last.cast::<[u8; 16]>().read());
            }
            _ => std::ptr::copy_nonoverlapping(from.as_ptr(), to, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestEvent;

    #[test]
    fn every_text_stands_at_its_number() {
        assert!(Text::ALL.iter().enumerate().all(|(place, text)| *text as usize == place));
    }

    #[test]
    fn a_text_that_is_taken_out_leaves_nothing() {
        let mut draft = Draft::new();
        draft.forget(Text::ForwardedFor);
        for value in [&b"192.0.2.7"[..], b"", b"192.0.2.8"] {
            draft.text(Text::Path, b"/p");
            draft.text(Text::ForwardedFor, value);
        }
        draft.extra(b"k", b"v");
        draft.forget(Text::ForwardedFor);
        let [_, _, own] = draft.runs();
        assert!(!own.windows(5).any(|window| window == b"192.0"));
        let event = RequestEvent::of_draft("n", 0, 1, &draft);
        assert_eq!(event.text(Text::ForwardedFor), None);
        assert_eq!(event.text(Text::Path), Some(&b"/p"[..]));
        assert_eq!(event.extra().next(), Some((&b"k"[..], &b"v"[..])));
    }

    #[test]
    fn values_of_every_length_are_copied_whole() {
        let letters: Vec<u8> = (0..=255).cycle().take(80).collect();
        let mut draft = Draft::new();
        for length in 0..letters.len() {
            draft.reset(1);
            draft.text(Text::Path, &letters[..length]);
            draft.text(Text::Host, &letters[80 - length..]);
            draft.extra(b"k", &letters[..length]);
            let event = RequestEvent::of_draft("n", 0, 1, &draft);
            assert_eq!(event.text(Text::Path), Some(&letters[..length]));
            assert_eq!(event.text(Text::Host), Some(&letters[80 - length..]));
            assert_eq!(event.extra().next(), Some((&b"k"[..], &letters[..length])));
        }
    }
}
