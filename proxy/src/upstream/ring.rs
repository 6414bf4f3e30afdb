//! The ring of consistent hashing (ketama): each member has points on it by its weight, and a request belongs to the
//! first point at or after its hash. When a member goes, only its own requests move.

use twox_hash::XxHash3_64;

/// Points of the members, in order.
#[derive(Debug)]
pub(crate) struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of members, each known by a text of its own and its weight, with at most `slots` points or one for each.
    pub fn new(members: impl Iterator<Item = (String, u32)>, slots: usize) -> Self {
        let members: Vec<_> = members.collect();
        let total: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum();
        // A power of two for each unit of weight: the members that stay keep their points when one comes or goes,
        // unless their sum passes a power of two.
        let scale = (slots as f64 / total.max(1) as f64).log2().floor().exp2();
        let mut points = Vec::with_capacity(slots);
        for (at, (key, weight)) in members.iter().enumerate() {
            let count = ((f64::from(*weight) * scale) as usize).max(1);
            let seed = XxHash3_64::oneshot(key.as_bytes());
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            points.extend((0..count).map(|number| (hash(&[seed, number as u64]), at)));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The members that a hash belongs to: the first, then the ones that stand in for it, each at least once.
    pub fn members(&self, hash: u64) -> impl Iterator<Item = usize> {
        let first = self.points.partition_point(|(point, _)| *point < hash);
        self.points[first..].iter().chain(&self.points[..first]).map(|(_, member)| *member as usize)
    }
}

fn hash(words: &[u64; 2]) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_le_bytes());
    bytes[8..].copy_from_slice(&words[1].to_le_bytes());
    XxHash3_64::oneshot(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;

    fn owners(members: &[(String, u32)], slots: usize) -> Vec<String> {
        let ring = Ring::new(members.iter().cloned(), slots);
        let key = |number: u64| XxHash3_64::oneshot(&number.to_le_bytes());
        (0..KEYS).map(|number| members[ring.members(key(number)).next().unwrap()].0.clone()).collect()
    }

    fn members(weights: &[u32]) -> Vec<(String, u32)> {
        weights.iter().enumerate().map(|(at, weight)| (format!("10.0.0.{at}:80"), *weight)).collect()
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [&[100, 100, 100][..], &[1, 2, 5], &[300, 100], &[7; 20]] {
            let (members, total) = (members(weights), weights.iter().sum::<u32>());
            let owners = owners(&members, 10_000);
            for (name, weight) in &members {
                let share = owners.iter().filter(|owner| *owner == name).count() as f64 / KEYS as f64;
                let due = f64::from(*weight) / f64::from(total);
                assert!((share / due - 1.0).abs() < 0.2, "{name} of {weights:?}: {share} for {due}");
            }
        }
    }

    #[test]
    fn when_a_member_goes_only_its_keys_move() {
        for count in [2, 3, 5, 9, 16, 30] {
            let all = members(&vec![100; count]);
            for gone in [0, count / 2, count - 1] {
                let mut left = all.clone();
                left.remove(gone);
                let (before, after) = (owners(&all, 10_000), owners(&left, 10_000));
                let pairs = before.iter().zip(&after);
                let moved = pairs.filter(|(before, after)| before != after).count() as f64 / KEYS as f64;
                // Its own share, and where the number of points doubles a share more of that size.
                assert!(moved < 2.6 / count as f64, "{moved} of {count} without {gone}");
                let must = before.iter().filter(|owner| **owner == all[gone].0).count() as f64 / KEYS as f64;
                assert!(moved >= must);
            }
        }
    }

    #[test]
    fn every_member_stands_in_for_the_others() {
        let ring = Ring::new(members(&[1, 65_535, 1]).into_iter(), 10);
        let mut all: Vec<_> = ring.members(u64::MAX).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, [0, 1, 2], "weights beyond the slots still leave each a point");
    }
}
