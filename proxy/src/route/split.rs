//! Where a route's requests go, where that is several places: each has its share, by chance or by what a request says of
//! its caller.

use super::compact::Number;
use super::fault::Share;
use crate::auth::Identity;
use crate::cookies;
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;
use twox_hash::XxHash3_64;

/// A service, whole or one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    service: Number,
    subset: Option<Number>,
}

impl Destination {
    /// The service, and the number among the subsets of its upstream.
    pub fn new(service: usize, subset: Option<usize>) -> Self {
        Self { service: Number::new(service), subset: subset.map(Number::new) }
    }

    pub fn service(self) -> usize {
        self.service.get()
    }

    pub fn subset(self) -> Option<usize> {
        self.subset.map(Number::get)
    }
}

/// Where copies of requests go.
#[derive(Debug)]
pub(crate) struct MirrorPlan {
    pub destination: Destination,
    /// Of the requests that have one.
    pub share: Share,
}

/// Several destinations.
#[derive(Debug)]
pub(crate) struct Split {
    shares: Vec<(Destination, u32)>,
    total: u64,
    sticky: Option<StickyKey>,
}

/// What of a request is hashed.
#[derive(Debug)]
pub(crate) enum StickyKey {
    Consumer,
    Header(HeaderName),
    Cookie(String),
}

impl Split {
    /// At least one share must be above 0.
    pub fn new(shares: Vec<(Destination, u32)>, sticky: Option<StickyKey>) -> Self {
        let total = shares.iter().map(|(_, weight)| u64::from(*weight)).sum();
        Self { shares, total, sticky }
    }

    /// The destination that stands first.
    pub fn first(&self) -> Option<Destination> {
        self.shares.first().map(|(destination, _)| *destination)
    }

    /// The destination of a request. `below` gives a number below its argument by chance.
    pub fn choose(
        &self,
        headers: &HeaderMap,
        identity: Option<&Identity>,
        below: impl FnOnce(u64) -> u64,
    ) -> Destination {
        let hash = self.sticky.as_ref().and_then(|sticky| sticky.hash(headers, identity));
        let mut left = match hash {
            // The high half of the product spreads the hash evenly over the weights.
            Some(hash) => ((u128::from(hash) * u128::from(self.total)) >> 64) as u64,
            None => below(self.total),
        };
        for (destination, weight) in &self.shares {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return *destination,
            }
        }
        self.shares[0].0
    }
}

impl StickyKey {
    fn hash(&self, headers: &HeaderMap, identity: Option<&Identity>) -> Option<u64> {
        let mut bytes: SmallVec<[u8; 128]> = SmallVec::new();
        match self {
            Self::Consumer => bytes.extend_from_slice(identity?.consumer.as_bytes()),
            Self::Cookie(name) => {
                bytes.extend_from_slice(cookies::values(headers, name).find(|value| !value.is_empty())?);
            }
            Self::Header(name) => {
                headers.get(name)?;
                for value in headers.get_all(name) {
                    bytes.extend_from_slice(value.as_bytes());
                }
            }
        }
        Some(XxHash3_64::oneshot(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::collections::HashMap;

    const SHARES: [(usize, u32); 4] = [(7, 0), (1, 90), (2, 10), (3, 0)];

    fn split(sticky: Option<StickyKey>) -> Split {
        let shares = SHARES.iter().map(|(service, weight)| (Destination::new(*service, None), *weight));
        Split::new(shares.collect(), sticky)
    }

    #[test]
    fn shares_follow_the_weights_by_chance_and_by_hash() {
        let by_chance = split(None);
        let mut counts = HashMap::<usize, u32>::new();
        for lot in 0..100 {
            let chosen = by_chance.choose(&HeaderMap::new(), None, |end| {
                assert_eq!(end, 100);
                lot
            });
            *counts.entry(chosen.service()).or_default() += 1;
        }
        assert_eq!(counts, HashMap::from([(1, 90), (2, 10)]));
        let sticky = split(Some(StickyKey::Cookie("sid".into())));
        let mut canary = 0;
        for number in 0..5_000 {
            let cookie = HeaderValue::from_str(&format!("a=b; sid=client-{number}")).unwrap();
            let headers = HeaderMap::from_iter([(http::header::COOKIE, cookie)]);
            let mut chosen = [0; 3].map(|_| sticky.choose(&headers, None, |_| unreachable!()).service());
            chosen.sort_unstable();
            assert!(chosen[0] == chosen[2] && [1, 2].contains(&chosen[0]));
            canary += u32::from(chosen[0] == 2);
        }
        assert!((400..600).contains(&canary), "{canary} of 5000");
        assert_eq!(
            sticky.choose(&HeaderMap::new(), None, |_| 95).service(),
            2,
            "without the cookie by chance"
        );
    }
}
