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
use dns::{Address, Found};
use ring::Ring;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
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
    begun: Instant,
    /// The same moment, microseconds since 1970.
    begun_us: i64,
    groups: Vec<watch::Sender<Arc<Group>>>,
    usages: Vec<Arc<Usage>>,
    /// By target: since when its name servers fail, microseconds since 1970; 0 while they do not.
    failing_since_us: Vec<AtomicI64>,
}

impl Upstreams {
    pub fn new(plan: &Plan) -> Self {
        let nothing = vec![Found::Waiting; plan.targets.len()];
        let group = |upstream| watch::Sender::new(Arc::new(Group::new(plan, upstream, &nothing, None)));
        Self {
            begun: Instant::now(),
            begun_us: crate::clock::wall_us(),
            groups: plan.upstreams.iter().map(group).collect(),
            usages: plan.upstreams.iter().map(|_| Arc::default()).collect(),
            failing_since_us: plan.targets.iter().map(|_| AtomicI64::new(0)).collect(),
        }
    }

    /// Milliseconds since the upstreams were made.
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

    /// Notes whether the name servers fail for a target.
    fn answered(&self, target: usize, failed: bool) {
        let since = &self.failing_since_us[target];
        if !failed {
            since.store(0, Relaxed);
        } else if since.load(Relaxed) == 0 {
            since.store(crate::clock::wall_us(), Relaxed);
        }
    }

    /// Makes the groups anew that have a target.
    fn found(&self, plan: &Plan, target: usize, found: &[Found]) {
        for (upstream, group) in plan.upstreams.iter().zip(&self.groups) {
            if upstream.targets.iter().any(|part| part.target == target) {
                let next = Group::new(plan, upstream, found, Some(&group.borrow()));
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
    /// What the targets' addresses make; the peers that were there before stay the same.
    fn new(plan: &Plan, upstream: &UpstreamPlan, found: &[Found], before: Option<&Self>) -> Self {
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
            match (plan.targets[target].addr, &found[target]) {
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
