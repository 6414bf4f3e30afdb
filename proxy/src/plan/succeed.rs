//! How a plan takes over from the one before it. What both have keeps its number where a number outlives a request: the
//! listeners, which connections point at, and the targets, which peers point at. TLS that is the same stays the same, so
//! that sessions are resumed across a reload.

use super::{ListenPlan, Plan, TargetPlan, UpstreamPlan};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

impl Plan {
    /// Takes over from `before`. Afterwards the listeners stand in its order; those that are no more are closed, new
    /// ones come last.
    pub(crate) fn succeed(&mut self, before: &Self) {
        self.succeed_listeners(before);
        self.came_from = came_from(self, before);
        self.succeed_targets(before);
        for link in &mut self.links {
            if let Some(known) = before.links.iter().find(|known| known.id == link.id) {
                link.tls.clone_from(&known.tls);
            }
        }
    }

    fn succeed_listeners(&mut self, before: &Self) {
        let mut all = Vec::with_capacity(self.listeners.len());
        for known in &before.listeners {
            let same = |new: &ListenPlan| new.name == known.name && new.addr == known.addr;
            all.push(match self.listeners.iter().position(same) {
                Some(at) => {
                    let mut new = self.listeners.remove(at);
                    if let (Some(ours), Some(theirs)) = (&new.tls, &known.tls)
                        && ours.is_same(theirs)
                    {
                        new.tls = Some(Arc::clone(theirs));
                    }
                    new
                }
                None => ListenPlan { open: false, ..known.clone() },
            });
        }
        all.append(&mut self.listeners);
        self.listeners = all;
    }

    /// Gives the targets that stay their numbers of before, and the others those that are free.
    fn succeed_targets(&mut self, before: &Self) {
        let mut numbers: Vec<Option<usize>> = vec![None; self.targets.len()];
        for (upstream, from) in self.upstreams.iter().zip(&self.came_from) {
            let Some(from) = from else { continue };
            let mut known: HashMap<&str, Vec<usize>> = HashMap::new();
            for part in before.upstreams[*from].targets.iter().rev() {
                known.entry(&before.targets[part.target].text).or_default().push(part.target);
            }
            for part in &upstream.targets {
                if let Some(kept) = known.get_mut(&*self.targets[part.target].text) {
                    numbers[part.target] = kept.pop();
                }
            }
        }
        let taken: BTreeSet<usize> = numbers.iter().copied().flatten().collect();
        let mut free = (0..).filter(|number| !taken.contains(number));
        let mut targets: Vec<Option<TargetPlan>> = Vec::new();
        let mut renumbered = Vec::with_capacity(numbers.len());
        for (number, target) in numbers.into_iter().zip(self.targets.drain(..)) {
            // There is always a further number.
            let number = number.or_else(|| free.next()).unwrap_or_default();
            if targets.len() <= number {
                targets.resize_with(number + 1, || None);
            }
            targets[number] = Some(target);
            renumbered.push(number);
        }
        self.targets = targets.into_iter().map(|target| target.unwrap_or_else(nobody)).collect();
        for upstream in &mut self.upstreams {
            for part in &mut upstream.targets {
                part.target = renumbered[part.target];
            }
            for subset in &mut upstream.subsets {
                subset.targets.iter_mut().for_each(|target| *target = renumbered[*target]);
                subset.targets.sort_unstable();
            }
        }
    }
}

/// What stands at a number that no target has.
fn nobody() -> TargetPlan {
    TargetPlan {
        host: String::new(),
        port: 0,
        text: String::new(),
        addr: Some(SocketAddr::from(([0, 0, 0, 0], 0))),
        host_header: http::HeaderValue::from_static(""),
    }
}

/// Which upstream of the plan before each one was: that of the same name, or for a service with a plain host that of the
/// same host. Of several the first for the first.
fn came_from(plan: &Plan, before: &Plan) -> Vec<Option<usize>> {
    let mut known: HashMap<(bool, String), Vec<usize>> = HashMap::new();
    for (at, upstream) in before.upstreams.iter().enumerate().rev() {
        known.entry(identity(before, upstream)).or_default().push(at);
    }
    let same = |upstream| known.get_mut(&identity(plan, upstream)).and_then(Vec::pop);
    plan.upstreams.iter().map(same).collect()
}

fn identity(plan: &Plan, upstream: &UpstreamPlan) -> (bool, String) {
    let hosts = || upstream.targets.iter().map(|part| &*plan.targets[part.target].text).collect();
    (upstream.name.is_some(), upstream.name.clone().unwrap_or_else(hosts))
}
