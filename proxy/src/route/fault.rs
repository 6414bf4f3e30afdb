//! Faults that a route is given on purpose, after Istio: what its clients do with them is what is tried.

use std::time::Duration;

/// What happens to some requests of a route.
#[derive(Debug, Default)]
pub(crate) struct FaultPlan {
    /// They wait.
    pub delay: Option<(Share, Duration)>,
    /// They are answered with this status.
    pub abort: Option<(Share, u16)>,
}

/// A share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    millionths: u32,
}

impl Share {
    const WHOLE: u32 = 1_000_000;

    /// Of a percentage from 0 to 100.
    pub fn of(percentage: f64) -> Option<Self> {
        (0.0..=100.0)
            .contains(&percentage)
            .then(|| Self { millionths: (percentage * f64::from(Self::WHOLE) / 100.0).round() as u32 })
    }

    /// Whether this request is of it. `below` gives a number below its argument by chance.
    pub fn takes(self, below: impl FnOnce(u64) -> u64) -> bool {
        self.millionths == Self::WHOLE || below(u64::from(Self::WHOLE)) < u64::from(self.millionths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_as_many_as_it_says() {
        for (percentage, taken) in [(0.0, 0), (0.0001, 1), (12.5, 125_000), (100.0, 1_000_000)] {
            let share = Share::of(percentage).unwrap();
            assert_eq!((0..1_000_000).filter(|lot| share.takes(|_| *lot)).count(), taken, "{percentage}");
        }
        for percentage in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::of(percentage), None);
        }
    }
}
