//! Outlier ejection, as Envoy has it: an address that fails so many times in a row is taken out for a time that grows
//! with each ejection. Whichever thread sees the last failure takes it out; the thread in the background brings back.

use super::health::EJECTED;
use super::peer::Peer;
use super::{Group, Usage};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};
use std::time::Duration;

/// When an address is an outlier, and for how long it is out.
#[derive(Debug)]
pub(crate) struct OutlierPlan {
    pub consecutive_5xx: u32,
    pub interval: Duration,
    pub base_ms: u64,
    pub longest_ms: u64,
    pub percent_max: u32,
}

/// What was counted of an address.
#[derive(Debug, Default)]
pub(super) struct Outlier {
    /// Failures in a row.
    pub consecutive: AtomicU32,
    /// Ejections that are not forgotten.
    remembered: AtomicU32,
    /// All ejections.
    pub total: AtomicU64,
    /// When it may come back: on the peer's own clock, and in microseconds since 1970.
    until_ms: AtomicU64,
    /// When it was last looked at, on the peer's own clock.
    looked_ms: AtomicU64,
    pub until_us: AtomicI64,
}

impl Peer {
    /// Notes an answer that is no failure.
    pub fn did_well(&self) {
        // Written only where it changes something: threads share it.
        if self.outlier.consecutive.load(Relaxed) > 0 {
            self.outlier.consecutive.store(0, Relaxed);
        }
    }

    /// Notes a failure; whether they are too many now.
    pub fn did_badly(&self, plan: &OutlierPlan) -> bool {
        let before = self.outlier.consecutive.load(Relaxed);
        // Not beyond its bound: it would wrap in the course of years.
        before >= plan.consecutive_5xx
            || self.outlier.consecutive.fetch_add(1, Relaxed) + 1 >= plan.consecutive_5xx
    }

    /// Looks at it, if that was not done for so long.
    pub(super) fn look_again_after(&self, interval: Duration) {
        let (now_ms, last_ms) = (self.now_ms(), self.outlier.looked_ms.load(Relaxed));
        if u128::from(now_ms.saturating_sub(last_ms)) >= interval.as_millis() {
            self.outlier.looked_ms.store(now_ms, Relaxed);
            self.look_again();
        }
    }

    /// Brings it back when its time is over, or forgets an ejection when it is in.
    fn look_again(&self) {
        let outlier = &self.outlier;
        if !self.is_ejected() {
            let forget = |count: u32| count.checked_sub(1);
            // There may be nothing to forget.
            let _none = outlier.remembered.fetch_update(Relaxed, Relaxed, forget);
        } else if self.now_ms() >= outlier.until_ms.load(Relaxed) && self.turn(EJECTED, false) {
            tracing::info!(addr = %self.addr, "the target is back from its ejection");
        }
    }
}

impl Group {
    /// Takes an address out that has failed too often, if the bounds allow it.
    pub fn eject(&self, plan: &OutlierPlan, usage: &Usage, peer: &Peer) {
        // One at a time, or two threads would go beyond the bound. Who comes second tries again with its next failure.
        if usage.ejecting.compare_exchange(false, true, Acquire, Relaxed).is_err() {
            return;
        }
        self.eject_alone(plan, peer);
        usage.ejecting.store(false, Release);
    }

    fn eject_alone(&self, plan: &OutlierPlan, peer: &Peer) {
        let others = self.members.iter().filter(|member| !std::ptr::eq(&*member.peer, peer));
        let out = self.members.iter().filter(|member| member.peer.is_ejected()).count();
        let share = self.members.len() * plan.percent_max as usize / 100;
        let bound = share.max(usize::from(plan.percent_max > 0));
        let is_last = !others.into_iter().any(|member| member.weight > 0 && member.peer.is_fit());
        if peer.is_ejected() || out >= bound || is_last {
            return;
        }
        let outlier = &peer.outlier;
        let times = outlier.remembered.load(Relaxed).saturating_add(1);
        let for_ms = plan.base_ms.saturating_mul(u64::from(times)).min(plan.longest_ms);
        outlier.remembered.store(times, Relaxed);
        outlier.consecutive.store(0, Relaxed);
        outlier.total.fetch_add(1, Relaxed);
        outlier.until_ms.store(peer.now_ms().saturating_add(for_ms), Relaxed);
        let for_us = i64::try_from(for_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        outlier.until_us.store(crate::clock::wall_us().saturating_add(for_us), Relaxed);
        peer.turn(EJECTED, true);
        tracing::warn!(addr = %peer.addr, for_ms, times, "the target is ejected: it failed again and again");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Known, Member};
    use super::*;
    use std::sync::Arc;

    fn plan(percent_max: u32) -> OutlierPlan {
        let interval = Duration::from_secs(10);
        OutlierPlan { consecutive_5xx: 3, interval, base_ms: 0, longest_ms: 10_000, percent_max }
    }

    fn group(count: usize) -> Group {
        let member = |_| Member {
            peer: Arc::new(Peer::new(0, "127.0.0.1:1".parse().unwrap())),
            weight: 1,
            failover: false,
        };
        Group { members: (0..count).map(member).collect(), ring: None, known: Known::Addresses }
    }

    fn out(group: &Group) -> usize {
        group.members.iter().filter(|member| !member.peer.is_fit()).count()
    }

    #[test]
    fn failures_must_be_in_a_row() {
        let (group, plan) = (group(2), plan(100));
        let peer = &group.members[0].peer;
        for _ in 0..5 {
            assert!(!peer.did_badly(&plan) && !peer.did_badly(&plan));
            peer.did_well();
        }
        assert!(!peer.did_badly(&plan) && !peer.did_badly(&plan) && peer.did_badly(&plan));
        assert!(peer.did_badly(&plan), "and stay too many until one is good");
    }

    #[test]
    fn no_more_are_out_than_the_share_allows_and_never_the_last() {
        for (count, percent, expected) in [
            (1, 100, 0),
            (2, 100, 1),
            (10, 100, 9),
            (2, 10, 1),
            (10, 10, 1),
            (20, 10, 2),
            (29, 10, 2),
            (9, 0, 0),
        ] {
            let group = group(count);
            for member in &group.members {
                group.eject(&plan(percent), &Usage::default(), &member.peer);
            }
            assert_eq!(out(&group), expected, "{count} members, {percent} percent");
        }
    }

    #[test]
    fn an_address_comes_back_and_its_time_grows_with_each_ejection() {
        let group = group(2);
        let plan = OutlierPlan { base_ms: 60_000, longest_ms: 150_000, ..plan(100) };
        let peer = &group.members[0].peer;
        for minutes in [1.0, 2.0, 2.5, 2.5] {
            group.eject(&plan, &Usage::default(), peer);
            peer.look_again();
            assert!(!peer.is_fit(), "its time is not over");
            let left_ms = peer.outlier.until_ms.load(Relaxed) as f64 - peer.now_ms() as f64;
            assert!((left_ms / 60_000.0 - minutes).abs() < 0.1, "{left_ms} for {minutes}");
            peer.outlier.until_ms.store(0, Relaxed);
            peer.look_again();
            assert!(peer.is_fit());
        }
        assert_eq!(peer.outlier.total.load(Relaxed), 4);
        for left in [3, 2, 1, 0, 0] {
            peer.look_again();
            assert_eq!(peer.outlier.remembered.load(Relaxed), left);
        }
    }
}
