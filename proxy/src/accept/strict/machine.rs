//! The sequence of messages on a connection: head, body, head, body, until a rule is broken or an upgrade is asked
//! for. Knows nothing of sockets: it is shown bytes and says how many of them are clean.

use super::StrictLimits;
use super::body::{self, Body};
use super::head::{self, Framing, Head};
use super::violation::{METHOD_KEPT_BYTES_MAX, Rule, TARGET_KEPT_BYTES_MAX, Violation};

/// Hyper takes no longer target, so no longer request line is of use.
const REQUEST_LINE_BYTES_MAX: usize = 65_534;

/// The state of a connection's bytes.
#[derive(Debug)]
pub struct Machine {
    limits: StrictLimits,
    stage: Stage,
    head: Head,
    upgrade: bool,
    heads_seen: u64,
}

#[derive(Debug)]
enum Stage {
    Head,
    Body(Body),
    /// After a request that asked for an upgrade.
    Upgrade,
    Refused,
}

/// What [`Machine::scan`] says of a window.
#[derive(Debug)]
pub struct Scan {
    /// How many bytes from the window's start may be handed on.
    pub clean: usize,
    /// What was refused after them.
    pub violation: Option<Box<Violation>>,
}

impl Machine {
    /// A machine before the first byte of a connection.
    pub fn new(limits: StrictLimits) -> Self {
        let limits = StrictLimits {
            request_line_bytes_max: limits.request_line_bytes_max.min(REQUEST_LINE_BYTES_MAX),
            ..limits
        };
        Self { limits, stage: Stage::Head, head: Head::default(), upgrade: false, heads_seen: 0 }
    }

    /// How many heads were clean.
    pub fn heads_seen(&self) -> u64 {
        self.heads_seen
    }

    /// Whether what follows waits for [`Machine::resume`], because it may be no HTTP.
    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Upgrade)
    }

    /// Whether a head has begun and is not complete, given that `pending` bytes are neither clean nor judged.
    pub fn in_head(&self, pending: usize) -> bool {
        matches!(self.stage, Stage::Head) && pending > 0
    }

    /// The upgrade was not made: what follows is the next request.
    pub fn resume(&mut self) {
        if self.is_held() {
            self.stage = Stage::Head;
        }
    }

    /// Looks at `window`: all bytes that arrived and that no earlier scan called clean.
    pub fn scan(&mut self, window: &[u8]) -> Scan {
        let mut clean = 0;
        // Where the head of the current message starts, if it was found in this very window: nobody has it yet.
        let mut head_at = None;
        loop {
            let rest = &window[clean..];
            match &mut self.stage {
                Stage::Head if self.head.is_fresh(rest) => return Scan { clean, violation: None },
                Stage::Head => match self.head.read(rest, &self.limits) {
                    head::Step::More => return Scan { clean, violation: None },
                    head::Step::Refused(rule) => return self.refuse(rule, window, clean, Some(clean)),
                    head::Step::Done { len, framing, upgrade } => {
                        self.heads_seen += 1;
                        self.upgrade = upgrade;
                        head_at = Some(clean);
                        clean += len;
                        if framing == Framing::Length(0) {
                            self.end_message();
                        } else {
                            self.stage = Stage::Body(Body::new(framing));
                        }
                    }
                },
                Stage::Body(body) => match body.read(rest, &self.limits) {
                    body::Step::More { clean: more } => return Scan { clean: clean + more, violation: None },
                    body::Step::Done { clean: more } => {
                        clean += more;
                        self.end_message();
                    }
                    body::Step::Refused { clean: more, rule } => {
                        if head_at.is_some() {
                            self.heads_seen -= 1;
                        }
                        return self.refuse(rule, window, clean + more, head_at);
                    }
                },
                Stage::Upgrade | Stage::Refused => return Scan { clean, violation: None },
            }
        }
    }

    fn end_message(&mut self) {
        self.head = Head::default();
        self.stage = if self.upgrade { Stage::Upgrade } else { Stage::Head };
    }

    fn refuse(&mut self, rule: Rule, window: &[u8], clean: usize, head_at: Option<usize>) -> Scan {
        self.stage = Stage::Refused;
        let kept = |range: &Option<std::ops::Range<usize>>, bytes_max: usize| {
            let (head_at, range) = (head_at?, range.clone()?);
            let bytes = &window[head_at + range.start..head_at + range.end];
            Some(bytes[..bytes.len().min(bytes_max)].to_vec())
        };
        let violation = Violation {
            rule,
            in_body: head_at.is_none(),
            method: kept(&self.head.method, METHOD_KEPT_BYTES_MAX),
            target: kept(&self.head.target, TARGET_KEPT_BYTES_MAX),
        };
        Scan { clean: head_at.unwrap_or(clean), violation: Some(Box::new(violation)) }
    }
}
