//! The pace of a client that takes or sends bytes: how long it may still be waited for. It may pause for a while, and on
//! the whole of a wait without a break it must keep to a least rate, so that a byte now and then holds nothing open.

/// One wait of a client, which may bring bytes without ending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pause_ms: u64,
    /// Bytes each second; 0 for no rate.
    rate_min: u64,
    /// When the wait began, and how many bytes there were by then.
    since: Option<(u64, u64)>,
}

impl Pace {
    pub fn new(pause_ms: u64, rate_min: u64) -> Self {
        Self { pause_ms, rate_min, since: None }
    }

    /// Somebody else is waited for: what follows is a new wait.
    pub fn rests(&mut self) {
        self.since = None;
    }

    /// The client has brought `bytes` so far, and is waited for again: for how long.
    pub fn waits_ms(&mut self, now_ms: u64, bytes: u64) -> u64 {
        let (began_ms, before) = *self.since.get_or_insert((now_ms, bytes));
        if self.rate_min == 0 {
            return self.pause_ms;
        }
        let earned_ms = bytes.saturating_sub(before).saturating_mul(1000) / self.rate_min;
        let spent_ms = now_ms.saturating_sub(began_ms);
        self.pause_ms.saturating_add(earned_ms).saturating_sub(spent_ms).min(self.pause_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_not_enough_and_a_rest_forgets() {
        let mut pace = Pace::new(1000, 100);
        assert_eq!(pace.waits_ms(5_000, 0), 1000);
        assert_eq!(pace.waits_ms(5_900, 1), 110);
        assert_eq!(pace.waits_ms(6_005, 2), 15);
        assert_eq!(pace.waits_ms(6_020, 2), 0);
        assert_eq!(pace.waits_ms(7_000, 1_000), 1000, "a burst is a pause earned, and no longer one");
        pace.rests();
        assert_eq!(pace.waits_ms(90_000, 1_001), 1000);
        let mut any = Pace::new(1000, 0);
        assert_eq!((any.waits_ms(0, 0), any.waits_ms(1 << 40, 1)), (1000, 1000));
    }
}
