//! What all threads share about the upstreams: which addresses each has, and how these do. The threads read it by
//! atomics and by groups that are swapped whole; a thread in the background looks names up and changes groups.

mod peer;

mod usage;

mod ring;

mod health;

mod outlier;

mod warmth;

mod probe;

mod dns;

mod book;

mod keeper;

mod report;

mod publish;

pub(crate) use dns::DnsPlan;
pub(crate) use health::{ActivePlan, HealthPlan, Probe, ProbeTls, Rules, Shown};
pub(crate) use keeper::{Keeper, start};
pub(crate) use outlier::OutlierPlan;
pub(crate) use peer::{By, Failure, Peer, SrvName, Traffic};
pub(crate) use publish::Publisher;
pub(crate) use usage::{CircuitPlan, Held, Resource, Usage};
pub(crate) use warmth::SlowStartPlan;

use crate::config::Algorithm;
use crate::plan::{Part, Plan, UpstreamPlan};
use book::{Book, Pages};
use dns::{Address, Found};
use ring::Ring;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use twox_hash::XxHash3_64;

/// The addresses of an upstream, at one time.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub members: Vec<Member>,
    /// Of consistent hashing only.
    pub ring: Option<Ring>,
    pub known: Known,
}

/// One address of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub peer: Arc<Peer>,
    pub weight: u32,
    /// Only asked when no other is fit.
    pub failover: bool,
}

/// Whether the names of a group's targets were looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Known {
    /// At least one target has addresses, or there is none.
    #[default]
    Addresses,
    /// The first answer is still to come.
    Waiting,
    /// There was none.
    Failed,
}

/// All upstreams of a plan, by its numbers.
#[derive(Debug)]
pub(crate) struct Upstreams {
    plan: Arc<Plan>,
    begun: Instant,
    /// The same moment, microseconds since 1970.
    begun_us: i64,
    groups: Vec<watch::Sender<Arc<Group>>>,
    usages: Vec<Arc<Usage>>,
    book: Arc<Book>,
}

impl Upstreams {
    /// Those of a first plan.
    pub fn new(plan: Arc<Plan>) -> Arc<Self> {
        Self::begin(plan, None)
    }

    /// Those of a plan that has taken over from this one's: what stays is as busy and as healthy as it was.
    pub fn renew(&self, plan: Arc<Plan>) -> Arc<Self> {
        Self::begin(plan, Some(self))
    }

    fn begin(plan: Arc<Plan>, before: Option<&Self>) -> Arc<Self> {
        let book = before.map_or_else(Arc::default, |before| Arc::clone(&before.book));
        // Held until the new one hears of changes itself.
        let mut pages = book.open();
        let from = |at: usize| before.zip(plan.came_from.get(at).copied().flatten());
        let groups = plan.upstreams.iter().enumerate().map(|(at, upstream)| {
            let known = from(at).map(|(before, from)| before.groups[from].borrow().kept(&before.plan, &plan));
            watch::Sender::new(Arc::new(Group::new(&plan, upstream, &pages, known.as_ref())))
        });
        let groups = groups.collect();
        let usage =
            |at| from(at).map_or_else(Arc::default, |(before, from)| Arc::clone(&before.usages[from]));
        let usages = (0..plan.upstreams.len()).map(usage).collect();
        let begun = before.map_or_else(Instant::now, |before| before.begun);
        let begun_us = before.map_or_else(crate::clock::wall_us, |before| before.begun_us);
        let all = Arc::new(Self { plan, begun, begun_us, groups, usages, book: Arc::clone(&book) });
        pages.add(Arc::downgrade(&all));
        drop(pages);
        all
    }

    /// Milliseconds since the first upstreams of this process were made.
    pub fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }

    /// The group of an upstream, and the ones to come.
    pub fn watch(&self, upstream: usize) -> watch::Receiver<Arc<Group>> {
        self.groups[upstream].subscribe()
    }

    /// What an upstream is busy with.
    pub fn usage(&self, upstream: usize) -> &Arc<Usage> {
        &self.usages[upstream]
    }

    /// Makes the groups anew that have a target.
    fn found(&self, target: &str, pages: &Pages) {
        for (upstream, group) in self.plan.upstreams.iter().zip(&self.groups) {
            if upstream.targets.iter().any(|part| self.plan.targets[part.target].text == target) {
                let next = Group::new(&self.plan, upstream, pages, Some(&group.borrow()));
                group.send_replace(Arc::new(next));
            }
        }
    }
}

/// What names an address in a cookie: the same in every life and process, and of no use for another upstream.
fn token(upstream: &UpstreamPlan, target: &str, addr: SocketAddr) -> u64 {
    let text = format!("{} {target} {addr}", upstream.name.as_deref().unwrap_or_default());
    XxHash3_64::oneshot(text.as_bytes())
}

impl Group {
    /// The members whose targets are the same in another plan. What stays has its number there, but not every number
    /// stands for what it did.
    fn kept(&self, plan: &Plan, other: &Plan) -> Self {
        let same = |member: &&Member| {
            let text = |plan: &Plan| plan.targets.get(member.peer.target).map(|target| target.text.clone());
            text(plan) == text(other)
        };
        let members = self.members.iter().filter(same).cloned().collect();
        Self { members, ring: None, known: self.known }
    }

    /// What the targets' addresses make; the peers that were there before stay the same.
    fn new(plan: &Plan, upstream: &UpstreamPlan, pages: &Pages, before: Option<&Self>) -> Self {
        let mut members: Vec<Member> = Vec::new();
        let (mut waiting, mut failed) = (false, false);
        let mut add = |part: Part, addr, weight, host: Option<&str>| {
            let srv = host.filter(|_| upstream.use_srv_name).and_then(|host| SrvName::new(host, addr));
            let before = before.iter().flat_map(|group| &group.members).find(|member| {
                member.peer.target == part.target && member.peer.addr == addr && member.peer.srv == srv
            });
            let peer = match before {
                Some(member) => Arc::clone(&member.peer),
                None => {
                    let token = token(upstream, &plan.targets[part.target].text, addr);
                    Arc::new(Peer::new(part.target, addr).named(token, srv))
                }
            };
            members.push(Member { peer, weight, failover: part.failover });
        };
        for &part in &upstream.targets {
            let Part { target, weight, .. } = part;
            match (plan.targets[target].addr, pages.of(&plan.targets[target].text)) {
                (Some(addr), _) => add(part, addr, weight, None),
                (None, Found::Waiting) => waiting = true,
                (None, Found::Failed) => failed = true,
                (None, Found::Addresses(addresses)) => {
                    for Address { addr, weight: own_weight, host } in addresses {
                        add(part, *addr, own_weight.unwrap_or(weight), host.as_deref());
                    }
                }
            }
        }
        let known = match (members.is_empty(), waiting, failed) {
            (true, true, _) => Known::Waiting,
            (true, false, true) => Known::Failed,
            _ => Known::Addresses,
        };
        let ring = (upstream.algorithm == Algorithm::ConsistentHashing).then(|| {
            let keys = members
                .iter()
                .map(|one| (format!("{} {}", plan.targets[one.peer.target].text, one.peer.addr), one.weight));
            Ring::new(keys, upstream.hash.slots)
        });
        Self { members, ring, known }
    }
}
