//! One recorded request as its readers see it: borrowed from the mapped spool, nothing copied.

use crate::draft::{ATTEMPT_FIXED_BYTES, Attempt, Draft, Run, TAG_ATTEMPT, TAG_EXTRA, Text};
use crate::shapes::{Shape, Shapes};
use crate::{
    AttemptError, AuthMethod, CacheStatus, Head, Outcome, Protocol, Role, Scheme, Source, TlsVersion,
};
use std::borrow::Cow;

/// The event of one request.
#[derive(Debug, Clone)]
pub struct RequestEvent<'a> {
    /// Name of the gateway that recorded it.
    pub node: &'a str,
    /// Core that recorded it.
    pub core: u16,
    /// Place in that core's spool; rises, with gaps between segments and never reused.
    pub sequence: u64,
    /// Fixed fields.
    pub head: &'a Head,
    runs: [&'a [u8]; Run::COUNT],
    shapes: [Option<Shape>; 2],
    /// Where in the own run the first attempt and the first pair begin; its length for none.
    attempts: usize,
    extra: usize,
}

impl<'a> RequestEvent<'a> {
    /// Reads the variable part beside a head; none when its lengths do not add up. `shapes` knows again what it met
    /// before.
    pub(crate) fn decode(
        node: &'a str,
        core: u16,
        sequence: u64,
        head: &'a Head,
        runs: [&'a [u8]; Run::COUNT],
        shapes: Option<&mut Shapes>,
    ) -> Option<Self> {
        let known = match shapes {
            Some(shapes) => [shapes.find(Run::Client, runs[0])?, shapes.find(Run::Route, runs[1])?],
            None if is_whole(runs[0]) && is_whole(runs[1]) => [None, None],
            None => return None,
        };
        let own = runs[Run::Own as usize];
        let (mut attempts, mut extra) = (own.len(), own.len());
        let mut entries = Entries { rest: own };
        loop {
            let at = own.len() - entries.rest.len();
            let Some((tag, value)) = entries.next() else { break };
            match tag {
                TAG_ATTEMPT if value.len() < ATTEMPT_FIXED_BYTES => return None,
                TAG_ATTEMPT => attempts = attempts.min(at),
                TAG_EXTRA if value.first().is_none_or(|key| usize::from(*key) >= value.len()) => return None,
                TAG_EXTRA => extra = extra.min(at),
                _ => {}
            }
        }
        entries.rest.is_empty().then_some(Self {
            node,
            core,
            sequence,
            head,
            runs,
            shapes: known,
            attempts,
            extra,
        })
    }

    /// A draft as its reader will see it.
    pub fn of_draft(node: &'a str, core: u16, sequence: u64, draft: &'a Draft) -> Self {
        let event = Self::decode(node, core, sequence, &draft.head, draft.runs(), None);
        event.expect("a draft encodes whole entries")
    }

    /// A text as it came, which may be any bytes.
    pub fn text(&self, text: Text) -> Option<&'a [u8]> {
        let entries = Entries { rest: self.runs[text.run() as usize] };
        entries.filter(|(tag, _)| *tag == text as u8).map(|(_, value)| value).last()
    }

    /// The texts of one run by their numbers, as they came.
    pub fn texts(&self, run: Run) -> [Option<&'a [u8]>; Text::COUNT] {
        let mut texts = [None; Text::COUNT];
        for (tag, value) in (Entries { rest: self.runs[run as usize] }) {
            if let Some(slot) = texts.get_mut(usize::from(tag)) {
                *slot = Some(value);
            }
        }
        texts
    }

    /// The texts of one run in the order of their coming; of those that come twice the last one counts.
    pub fn entries(&self, run: Run) -> impl Iterator<Item = (Text, &'a [u8])> + use<'a> {
        let entries = Entries { rest: self.runs[run as usize] };
        entries.filter_map(|(tag, value)| Some((*Text::ALL.get(usize::from(tag))?, value)))
    }

    /// What is known of the texts that it has in common with others of its client, or of its route; none where nothing
    /// is, and of what is its own.
    pub fn shape(&self, run: Run) -> Option<Shape> {
        self.shapes.get(run as usize).copied().flatten()
    }

    /// A text as valid UTF-8; bytes that are not become U+FFFD.
    pub fn str(&self, text: Text) -> Option<Cow<'a, str>> {
        self.text(text).map(String::from_utf8_lossy)
    }

    /// The tries at upstreams, in order.
    pub fn attempts(&self) -> impl Iterator<Item = Attempt<'a>> + use<'a> {
        let rest = &self.runs[Run::Own as usize][self.attempts..];
        Entries { rest }.filter(|(tag, _)| *tag == TAG_ATTEMPT).map(|(_, value)| attempt(value))
    }

    /// The pairs of `extra`, in order.
    pub fn extra(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let rest = &self.runs[Run::Own as usize][self.extra..];
        Entries { rest }
            .filter(|(tag, _)| *tag == TAG_EXTRA)
            .map(|(_, value)| value[1..].split_at(usize::from(value[0])))
    }

    /// Where in a mesh the gateway stood.
    pub fn role(&self) -> Role {
        Role::from_u8(self.head.role)
    }
    /// What the client spoke.
    pub fn protocol(&self) -> Protocol {
        Protocol::from_u8(self.head.protocol)
    }
    /// Scheme of the request.
    pub fn scheme(&self) -> Scheme {
        Scheme::from_u8(self.head.scheme)
    }
    /// Who made the response.
    pub fn source(&self) -> Source {
        Source::from_u8(self.head.source)
    }
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        Outcome::from_u8(self.head.outcome)
    }
    /// What the cache did.
    pub fn cache_status(&self) -> CacheStatus {
        CacheStatus::from_u8(self.head.cache_status)
    }
    /// How the consumer was identified.
    pub fn auth_method(&self) -> AuthMethod {
        AuthMethod::from_u8(self.head.auth_method)
    }
    /// TLS of the client connection.
    pub fn tls_version(&self) -> TlsVersion {
        TlsVersion::from_u8(self.head.tls_version)
    }
}

/// Whether the lengths of a run add up.
pub(crate) fn is_whole(run: &[u8]) -> bool {
    let mut entries = Entries { rest: run };
    while entries.next().is_some() {}
    entries.rest.is_empty()
}

struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (fixed, rest) = self.rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((fixed[0], value))
    }
}

fn attempt(value: &[u8]) -> Attempt<'_> {
    let (fixed, addr) = value.split_at(ATTEMPT_FIXED_BYTES);
    let u32_at = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Attempt {
        addr,
        start_us: u32_at(0),
        duration_us: u32_at(4),
        status: u16::from_le_bytes([fixed[8], fixed[9]]),
        error: AttemptError::from_u8(fixed[10]),
        reused: fixed[11] == 1,
        span_id: fixed[12..20].try_into().expect("eight bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_is_read() {
        let mut draft = Draft::new();
        draft.reset(7);
        draft.text(Text::Path, b"/first");
        draft.text(Text::Path, b"/a\r\n\x1b\xff");
        draft.text(Text::Host, &[b'h'; 5000]);
        draft.extra(b"key", b"");
        let tried = Attempt {
            addr: b"127.0.0.1:80",
            status: 502,
            error: AttemptError::Reset,
            start_us: 1,
            duration_us: 2,
            reused: true,
            span_id: *b"abcdefgh",
        };
        for _ in 0..20 {
            draft.attempt(&tried);
        }
        let event = RequestEvent::of_draft("node", 3, 9, &draft);
        assert_eq!(event.text(Text::Path), Some(&b"/a\r\n\x1b\xff"[..]));
        assert_eq!(event.str(Text::Path).unwrap(), "/a\r\n\x1b\u{fffd}");
        assert_eq!(event.text(Text::Host).unwrap().len(), crate::TEXT_BYTES_MAX);
        assert_eq!(event.text(Text::Route), None);
        assert_eq!(event.attempts().collect::<Vec<_>>(), vec![tried; crate::ATTEMPTS_MAX]);
        assert_eq!(event.extra().collect::<Vec<_>>(), vec![(&b"key"[..], &b""[..])]);
        assert_eq!(event.head.time_us, 7);
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let head = Head::new(0);
        for parts in [&[1, 0, 5, 0, 1][..], &[1, 0], &[TAG_ATTEMPT, 0, 1, 0, 9], &[TAG_EXTRA, 0, 1, 0, 9]] {
            assert!(RequestEvent::decode("n", 0, 1, &head, [b"", b"", parts], None).is_none(), "{parts:?}");
        }
        for runs in [[&[1, 0, 5, 0, 1][..], b"", b""], [b"", &[0, 0], b""]] {
            assert!(RequestEvent::decode("n", 0, 1, &head, runs, None).is_none(), "{runs:?}");
            let shapes = &mut Shapes::new();
            assert!(RequestEvent::decode("n", 0, 1, &head, runs, Some(shapes)).is_none(), "{runs:?}");
        }
    }
}
