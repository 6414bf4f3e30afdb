//! Sets of time: spans `[from, until)` in microseconds since 1970, in order, none of which touches the next.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ident, lit};

/// A set of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spans(Vec<(i64, i64)>);

impl Spans {
    /// All time.
    pub(crate) fn all() -> Self {
        Self(vec![(i64::MIN, i64::MAX)])
    }

    /// One span.
    pub(super) fn one(from_us: i64, until_us: i64) -> Self {
        Self::of([(from_us, until_us)].into())
    }

    /// Spans in any order.
    pub(super) fn of(mut spans: Vec<(i64, i64)>) -> Self {
        spans.retain(|(from, until)| from < until);
        spans.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::with_capacity(spans.len());
        for (from, until) in spans {
            match joined.last_mut() {
                Some((_, end)) if *end >= from => *end = until.max(*end),
                _ => joined.push((from, until)),
            }
        }
        Self(joined)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            both.push((a.max(c), b.min(d)));
            if b < d {
                left.next();
            } else {
                right.next();
            }
        }
        Self::of(both)
    }

    /// What is in this one only.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut gaps = Vec::with_capacity(other.0.len() + 1);
        let mut at = i64::MIN;
        for &(from, until) in &other.0 {
            gaps.push((at, from));
            at = until;
        }
        gaps.push((at, i64::MAX));
        self.and(&Self::of(gaps))
    }

    /// The whole steps in each span.
    pub(super) fn within(&self, step_us: i64) -> Self {
        let up = |us: i64| match us {
            i64::MIN => us,
            us => us.saturating_add(step_us - 1).div_euclid(step_us) * step_us,
        };
        let down = |us: i64| match us {
            i64::MAX => us,
            us => us.div_euclid(step_us).saturating_mul(step_us),
        };
        Self::of(self.0.iter().map(|&(from, until)| (up(from), down(until))).collect())
    }

    /// Whether a time of `[first, last]` is in it.
    pub(crate) fn meets(&self, first_us: i64, last_us: i64) -> bool {
        self.0.iter().any(|&(from, until)| from <= last_us && first_us < until)
    }

    /// Whether all times of `[first, last]` are in it.
    pub(crate) fn holds(&self, first_us: i64, last_us: i64) -> bool {
        self.0.iter().any(|&(from, until)| from <= first_us && last_us < until)
    }

    /// The condition on `time`; none for all time.
    pub(super) fn condition(&self) -> Option<Expr> {
        let at = |us| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        let each = self.0.iter().map(|&(from, until)| {
            let from = (from > i64::MIN).then(|| ident("time").gt_eq(at(from)));
            let until = (until < i64::MAX).then(|| ident("time").lt(at(until)));
            from.into_iter().chain(until).reduce(Expr::and)
        });
        let each = each.collect::<Option<Vec<_>>>()?;
        Some(each.into_iter().reduce(Expr::or).unwrap_or_else(|| lit(false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(spans: &Spans) -> Vec<i64> {
        (-50..50).filter(|at| spans.meets(*at, *at)).collect()
    }

    #[test]
    fn spans_are_sets() {
        let mut state = 7_u64;
        let mut next = |below: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as i64 % below
        };
        for _ in 0..2_000 {
            let mut some = || {
                let count = next(4);
                Spans::of((0..count).map(|_| (next(80) - 40, next(80) - 40)).collect())
            };
            let (one, other) = (some(), some());
            let has = |spans: &Spans, at: &i64| spans.meets(*at, *at);
            let both: Vec<i64> = times(&one).into_iter().filter(|at| has(&other, at)).collect();
            let only: Vec<i64> = times(&one).into_iter().filter(|at| !has(&other, at)).collect();
            assert_eq!(times(&one.and(&other)), both, "{one:?} {other:?}");
            assert_eq!(times(&one.without(&other)), only, "{one:?} {other:?}");
            let (first, last) = (next(80) - 40, next(80) - 40);
            if first <= last {
                let all = (first..=last).all(|at| has(&one, &at));
                assert_eq!(one.holds(first, last), all, "{one:?} {first} {last}");
            }
            let whole = |at: &i64| (0..7).all(|add| has(&one, &(at.div_euclid(7) * 7 + add)));
            assert_eq!(
                times(&one.within(7)),
                times(&one).into_iter().filter(whole).collect::<Vec<_>>(),
                "{one:?}"
            );
        }
        assert_eq!(
            Spans::all().within(60).without(&Spans::one(3, 5)),
            Spans(vec![(i64::MIN, 3), (5, i64::MAX)])
        );
        assert_eq!(Spans::all().condition(), None);
        assert_eq!(Spans::default().condition(), Some(lit(false)));
    }
}
