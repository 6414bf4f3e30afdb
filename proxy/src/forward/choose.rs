//! The algorithms: which member of a group is next. `weight` is 0 for one that cannot take the request.

/// Smooth weighted round-robin, as nginx has it. `current` holds what each member is owed.
pub(super) fn round_robin(current: &mut [i64], weight: impl Fn(usize) -> u64) -> Option<usize> {
    let mut best = None;
    let mut total = 0;
    for at in 0..current.len() {
        let weight = i64::try_from(weight(at)).unwrap_or(i64::MAX);
        if weight == 0 {
            continue;
        }
        current[at] += weight;
        total += weight;
        if best.is_none_or(|best: usize| current[at] > current[best]) {
            best = Some(at);
        }
    }
    let best = best?;
    current[best] -= total;
    Some(best)
}

/// By chance, by weight. `below` gives a number below its argument.
pub(super) fn random(
    count: usize,
    weight: impl Fn(usize) -> u64,
    below: impl FnOnce(u64) -> u64,
) -> Option<usize> {
    let total = (0..count).map(&weight).sum::<u64>();
    let mut left = if total == 0 { return None } else { below(total) };
    (0..count).find(|at| {
        let weight = weight(*at);
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    })
}

/// The member with the fewest requests for its weight; of equals the first at or after `from`.
pub(super) fn least(
    count: usize,
    from: usize,
    weight: impl Fn(usize) -> u64,
    active: impl Fn(usize) -> u32,
) -> Option<usize> {
    let order = (from..count).chain(0..from.min(count)).filter(|at| weight(*at) > 0);
    order.min_by(|one, other| {
        // (active + 1) / weight, compared without a division.
        let left = (u64::from(active(*one)) + 1) * weight(*other);
        left.cmp(&((u64::from(active(*other)) + 1) * weight(*one)))
    })
}

/// Of two taken by chance, the one that costs less for its weight.
pub(super) fn cheaper(
    count: usize,
    weight: impl Fn(usize) -> u64,
    cost: impl Fn(usize) -> f32,
    below: impl Fn(u64) -> u64,
) -> Option<usize> {
    let usable = (0..count).filter(|at| weight(*at) > 0).count() as u64;
    let nth = |number: u64| (0..count).filter(|at| weight(*at) > 0).nth(number as usize);
    if usable < 2 {
        return nth(0);
    }
    let first = below(usable);
    let second = (first + 1 + below(usable - 1)) % usable;
    let (first, second) = (nth(first)?, nth(second)?);
    let due = |at| cost(at) / weight(at) as f32;
    Some(if due(second) < due(first) { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use std::cell::RefCell;

    const PICKS: usize = 20_000;
    const WEIGHTS: [&[u64]; 4] = [&[100, 100], &[5, 1, 1, 0], &[1, 2, 3, 4], &[65_535, 1, 300]];

    fn assert_shares(weights: &[u64], picks: impl Iterator<Item = usize>, tolerance: f64) {
        let mut counts = vec![0u64; weights.len()];
        picks.for_each(|pick| counts[pick] += 1);
        let (total, all) = (weights.iter().sum::<u64>() as f64, counts.iter().sum::<u64>() as f64);
        for (weight, count) in weights.iter().zip(&counts) {
            let (share, due) = (*count as f64 / all, *weight as f64 / total);
            assert!((share - due).abs() <= tolerance, "{counts:?} for {weights:?}");
            assert!(*weight > 0 || *count == 0);
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let random_numbers = RefCell::new(rand::rngs::StdRng::seed_from_u64(7));
        let below = |end| random_numbers.borrow_mut().random_range(0..end);
        for weights in WEIGHTS {
            let mut current = vec![0; weights.len()];
            let turns = (0..PICKS).map(|_| round_robin(&mut current, |at| weights[at]).unwrap());
            assert_shares(weights, turns, 0.001);
            let chances = (0..PICKS).map(|_| random(weights.len(), |at| weights[at], below).unwrap());
            assert_shares(weights, chances, 0.02);
            // Requests that never end: as many as the weights let them be.
            let mut active = vec![0; weights.len()];
            let held = (0..PICKS).map(|turn| {
                let pick = least(weights.len(), turn % weights.len(), |at| weights[at], |at| active[at]);
                active[pick.unwrap()] += 1;
                pick.unwrap()
            });
            assert_shares(weights, held.collect::<Vec<_>>().into_iter(), 0.001);
        }
    }

    #[test]
    fn round_robin_is_smooth() {
        let mut current = vec![0; 4];
        let picks: Vec<_> =
            (0..7).map(|_| round_robin(&mut current, |at| [5, 1, 1, 0][at]).unwrap()).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn of_two_the_cheaper_is_taken_and_the_dearest_of_all_never() {
        let random_numbers = RefCell::new(rand::rngs::StdRng::seed_from_u64(7));
        let below = |end| random_numbers.borrow_mut().random_range(0..end);
        let costs = [1.0, 2.0, 3.0];
        let mut counts = [0; 3];
        for _ in 0..3_000 {
            counts[cheaper(3, |_| 1, |at| costs[at], below).unwrap()] += 1;
        }
        assert!(counts[2] == 0 && counts[0] > 1_800 && counts[1] > 800, "{counts:?}");
    }

    #[test]
    fn nobody_is_chosen_of_none() {
        for count in [0, 3] {
            assert_eq!(round_robin(&mut vec![0; count], |_| 0), None);
            assert_eq!(random(count, |_| 0, |_| 0), None);
            assert_eq!(least(count, 0, |_| 0, |_| 0), None);
            assert_eq!(cheaper(count, |_| 0, |_| 0.0, |_| 0), None);
        }
        assert_eq!(cheaper(3, |at| (at == 1).into(), |_| 0.0, |_| 0), Some(1));
    }
}
