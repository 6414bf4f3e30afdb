//! What the gateway fills while a request passes: the fixed [`Head`] and short variable parts.
//!
//! A draft is recycled. Its variable part is a run of entries `[tag u8][0 u8][length u16][bytes]`, appended when
//! a value becomes known and copied into the spool in one piece.

use crate::{AttemptError, Head};

/// Most bytes of one text; a longer value is cut.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Most attempts that one event lists.
pub const ATTEMPTS_MAX: usize = 16;
/// Most pairs of `extra`.
pub const EXTRA_MAX: usize = 16;

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
    parts: Vec<u8>,
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
        Self { head: Head::new(0), parts: Vec::with_capacity(1024), attempts: 0, extras: 0, muted: false }
    }

    /// A draft that keeps its [`Head`] only, for a gateway that records nothing.
    pub fn muted() -> Self {
        Self { parts: Vec::new(), muted: true, ..Self::new() }
    }

    /// Forgets everything and begins anew at `time_us` (microseconds since 1970, UTC); keeps its memory.
    pub fn reset(&mut self, time_us: i64) {
        self.head = Head::new(time_us);
        self.parts.clear();
        self.attempts = 0;
        self.extras = 0;
    }

    /// Sets a text, cut at [`TEXT_BYTES_MAX`]. The last value set is the one that counts.
    pub fn text(&mut self, text: Text, value: &[u8]) {
        self.entry(text as u8, &[&value[..value.len().min(TEXT_BYTES_MAX)]]);
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
        self.entry(TAG_ATTEMPT, &[&fixed, &attempt.addr[..attempt.addr.len().min(TEXT_BYTES_MAX)]]);
    }

    /// Adds a pair of the column `extra`; past [`EXTRA_MAX`] it is left out.
    pub fn extra(&mut self, key: &[u8], value: &[u8]) {
        if self.extras == EXTRA_MAX {
            return;
        }
        self.extras += 1;
        let key = &key[..key.len().min(255)];
        let length = u8::try_from(key.len()).expect("cut at 255 just above");
        self.entry(TAG_EXTRA, &[&[length], key, &value[..value.len().min(TEXT_BYTES_MAX)]]);
    }

    /// The variable part as it stands in the spool.
    pub(crate) fn parts(&self) -> &[u8] {
        &self.parts
    }

    fn entry(&mut self, tag: u8, pieces: &[&[u8]]) {
        if self.muted {
            return;
        }
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let short = u16::try_from(length).expect("pieces are cut well below 64 KiB");
        let [low, high] = short.to_le_bytes();
        let begin = self.parts.len();
        // Room once, then plain copies: the usual `extend_from_slice` would look at the capacity for each piece.
        self.parts.resize(begin + 4 + length, 0);
        let entry = &mut self.parts[begin..];
        entry[..4].copy_from_slice(&[tag, 0, low, high]);
        let mut rest = &mut entry[4..];
        for piece in pieces {
            let (to, behind) = rest.split_at_mut(piece.len());
            to.copy_from_slice(piece);
            rest = behind;
        }
    }
}
