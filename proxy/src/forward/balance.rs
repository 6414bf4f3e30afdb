//! Which target is next: one thread's view of the upstreams, with its connections.

use super::choose;
use super::http2::Shared;
use super::pool::Lease;
use super::tally::{Tally, Trying};
use crate::config::Algorithm;
use crate::core::Core;
use crate::error::Fault;
use crate::plan::Plan;
use crate::upstream::{Group, Known, Member, OutlierPlan, Peer, Upstreams};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::watch;

/// An address, and this thread's connections to it, of the idle ones the last used on top.
pub(crate) struct Endpoint {
    pub peer: Arc<Peer>,
    /// What this thread counts of it.
    pub tally: Rc<Tally>,
    #[expect(clippy::vec_box, reason = "a lease moves with its request, and is large")]
    pub idle: RefCell<Vec<Box<Lease>>>,
    /// Its connections of HTTP/2, idle or not.
    pub shared: RefCell<Vec<Rc<Shared>>>,
    /// Its address is no longer one of the upstream's.
    pub retired: Cell<bool>,
}

/// What is asked of an upstream: where a request belongs, and who has had it already.
#[derive(Default)]
pub(super) struct Ask {
    pub hash: Option<u64>,
    /// Number of the subset, if it is to be one.
    pub subset: Option<usize>,
    pub tried: SmallVec<[usize; 4]>,
}

/// One thread's balancers.
pub(crate) struct Balance {
    views: Vec<RefCell<View>>,
}

/// One upstream, as this thread sees it.
struct View {
    groups: watch::Receiver<Arc<Group>>,
    group: Arc<Group>,
    endpoints: Vec<Rc<Endpoint>>,
    /// What round-robin owes each: among all, then in each subset.
    current: Vec<Vec<i64>>,
    /// How many subsets there are.
    subsets: usize,
    turn: usize,
    /// Whether the health of addresses counts.
    watched: bool,
    /// Whether there are addresses for when no other is fit.
    fails_over: bool,
    /// There is nothing to choose.
    single: bool,
}

/// What an upstream had on this thread before its group or its plan changed.
#[derive(Clone, Copy, Default)]
struct Before<'a> {
    endpoints: &'a [Rc<Endpoint>],
    current: &'a [Vec<i64>],
    turn: usize,
}

/// A request under way at an address, also counted for all threads where the algorithm asks for it.
pub(crate) struct Load {
    _trying: Trying,
    shared: Option<Arc<Peer>>,
}

impl Load {
    pub fn new(endpoint: &Endpoint, counts: bool) -> Self {
        let shared = counts.then(|| Arc::clone(&endpoint.peer));
        if let Some(peer) = &shared {
            peer.active.fetch_add(1, Relaxed);
        }
        Self { _trying: Trying::new(&endpoint.tally), shared }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(peer) = &self.shared {
            peer.active.fetch_sub(1, Relaxed);
        }
    }
}

impl Balance {
    pub fn new(plan: &Plan, upstreams: &Upstreams) -> Self {
        let views = (0..plan.upstreams.len()).map(|upstream| View::new(plan, upstreams, upstream, None));
        Self { views: views.map(RefCell::new).collect() }
    }

    /// That of the next plan: an upstream that stays keeps its connections and whose turn it is.
    pub fn renew(&self, before: &Plan, plan: &Plan, upstreams: &Upstreams) -> Self {
        let mut views = Vec::with_capacity(plan.upstreams.len());
        for upstream in 0..plan.upstreams.len() {
            let from = plan.came_from.get(upstream).copied().flatten();
            let Some(from) = from else {
                views.push(RefCell::new(View::new(plan, upstreams, upstream, None)));
                continue;
            };
            // Connections to somebody with another name are not for this one.
            let same = before.upstreams[from].server_name == plan.upstreams[upstream].server_name;
            let from = self.views[from].borrow();
            let renamed = || from.endpoints.iter().map(|one| Endpoint::new(&one.peer, &one.tally)).collect();
            let known = if same { from.endpoints.clone() } else { renamed() };
            let known = Before { endpoints: &known, current: &from.current, turn: from.turn };
            views.push(RefCell::new(View::new(plan, upstreams, upstream, Some(known))));
        }
        // What no upstream has taken over takes no connection back.
        let kept: HashSet<*const Endpoint> = views
            .iter()
            .flat_map(|view| view.borrow().endpoints.iter().map(Rc::as_ptr).collect::<Vec<_>>())
            .collect();
        for view in &self.views {
            let view = view.borrow();
            view.endpoints.iter().filter(|one| !kept.contains(&Rc::as_ptr(one))).for_each(|one| one.retire());
        }
        Self { views }
    }

    /// The next address of an upstream.
    pub(super) fn pick(&self, core: &Core, upstream: usize, ask: &mut Ask) -> Result<Rc<Endpoint>, Fault> {
        let mut view = self.views[upstream].borrow_mut();
        if view.groups.has_changed().unwrap_or(false) {
            let next = Arc::clone(&view.groups.borrow_and_update());
            view.group = next;
            view.renew();
        }
        if view.single && ask.subset.is_none() {
            return Ok(Rc::clone(&view.endpoints[0]));
        }
        let is_fit = view.is_fit(core, upstream, ask.subset);
        if !is_fit && !view.fails_over {
            return Err(Fault::NoTarget);
        }
        // A target that failed is asked again when there is no other.
        let mut any = |failover| {
            let found = view.choose(core, upstream, failover, ask, &ask.tried);
            found.or_else(|| view.choose(core, upstream, failover, ask, &[]))
        };
        let found = if is_fit { any(false) } else { None };
        let found = found.or_else(|| any(true));
        match found {
            Some(at) => {
                ask.tried.push(at);
                Ok(Rc::clone(&view.endpoints[at]))
            }
            None if view.group.known == Known::Failed => Err(Fault::Dns),
            None => Err(Fault::NoTarget),
        }
    }

    /// Whether the first answer of the name servers is still to come.
    pub(super) fn is_waiting(&self, upstream: usize) -> bool {
        let view = self.views[upstream].borrow();
        view.endpoints.is_empty() && view.groups.borrow().known == Known::Waiting
    }

    /// Waits for the first answer of the name servers.
    pub(super) async fn answered(&self, upstream: usize) {
        let mut groups = self.views[upstream].borrow().groups.clone();
        // It is only closed when everything ends.
        let _closed = groups.wait_for(|group| group.known != Known::Waiting).await;
    }

    /// Takes an address out that has failed too often.
    pub(super) fn eject(&self, core: &Core, upstream: usize, outlier: &OutlierPlan, peer: &Peer) {
        self.views[upstream].borrow().group.eject(outlier, core.upstreams.usage(upstream), peer);
    }

    /// Hands over what was counted, and closes connections that the upstream has closed or that were idle for too long.
    pub fn sweep(&self, core: &Core) {
        let since = core.clock.now_ms().saturating_sub(core.plan.timeouts.upstream_idle_timeout_ms);
        for view in &self.views {
            for endpoint in &view.borrow().endpoints {
                endpoint.idle.borrow_mut().retain_mut(|lease| lease.is_kept(since));
                endpoint.shared.borrow_mut().retain(|shared| shared.stays(since));
                endpoint.tally.hand_over(&endpoint.peer.traffic);
            }
        }
    }
}

impl Endpoint {
    fn new(peer: &Arc<Peer>, tally: &Rc<Tally>) -> Rc<Self> {
        let (peer, tally) = (Arc::clone(peer), Rc::clone(tally));
        let (idle, shared, retired) = (RefCell::default(), RefCell::default(), Cell::new(false));
        Rc::new(Self { peer, tally, idle, shared, retired })
    }

    /// Closes what is idle, and what comes back.
    fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        // Streams that are open end on them; nobody joins.
        self.shared.borrow_mut().clear();
    }
}

impl View {
    /// That of an upstream, with what it had under the plan before.
    fn new(plan: &Plan, upstreams: &Upstreams, upstream: usize, before: Option<Before<'_>>) -> Self {
        let groups = upstreams.watch(upstream);
        let group = Arc::clone(&groups.borrow());
        let plan = &plan.upstreams[upstream];
        let watched = plan.health.is_some() || plan.outlier.is_some();
        let (endpoints, current, subsets) = (Vec::new(), Vec::new(), plan.subsets.len());
        let before = before.unwrap_or_default();
        let mut view = Self {
            groups,
            group,
            endpoints,
            current,
            subsets,
            turn: before.turn,
            watched,
            fails_over: false,
            single: false,
        };
        view.take_over(before);
        view
    }

    /// Takes the next group over: addresses that stay keep their connections, those of others are closed.
    fn renew(&mut self) {
        let (before, current) = (std::mem::take(&mut self.endpoints), std::mem::take(&mut self.current));
        self.take_over(Before { endpoints: &before, current: &current, turn: self.turn });
        for endpoint in before {
            if !self.endpoints.iter().any(|stays| Rc::ptr_eq(stays, &endpoint)) {
                endpoint.retire();
            }
        }
    }

    /// Fills the places of the group with those of before that have the same peer. Where nothing has changed, each is
    /// owed what it was.
    fn take_over(&mut self, Before { endpoints: before, current: owed, .. }: Before<'_>) {
        for member in &self.group.members {
            let known = before.iter().find(|endpoint| Arc::ptr_eq(&endpoint.peer, &member.peer));
            let fresh = || Endpoint::new(&member.peer, &Rc::default());
            self.endpoints.push(known.map_or_else(fresh, Rc::clone));
        }
        let same = before.len() == self.endpoints.len()
            && owed.len() == 1 + self.subsets
            && before.iter().zip(&self.endpoints).all(|(before, now)| Rc::ptr_eq(before, now));
        self.current =
            if same { owed.to_vec() } else { vec![vec![0; self.endpoints.len()]; 1 + self.subsets] };
        self.fails_over = self.group.members.iter().any(|member| member.failover);
        self.single = self.endpoints.len() == 1 && !self.watched;
    }

    /// Whether enough of the weight is fit, where a threshold is given.
    fn is_fit(&self, core: &Core, upstream: usize, subset: Option<usize>) -> bool {
        let plan = &core.plan.upstreams[upstream];
        let Some(health) = plan.health.as_deref() else { return true };
        if health.threshold <= 0.0 {
            return true;
        }
        let weights = |fit_only: bool| {
            let subset = subset.map(|subset| &plan.subsets[subset]);
            let asked = |member: &&Member| subset.is_none_or(|subset| subset.has(member.peer.target));
            let members = self.group.members.iter().filter(|member| !member.failover).filter(asked);
            let members = members.filter(|member| !fit_only || member.peer.is_healthy());
            members.map(|member| f64::from(member.weight)).sum::<f64>()
        };
        weights(true) * 100.0 >= weights(false) * health.threshold
    }

    /// One of those that stand in for the others, or of the others.
    fn choose(
        &mut self,
        core: &Core,
        upstream: usize,
        failover: bool,
        ask: &Ask,
        tried: &[usize],
    ) -> Option<usize> {
        let Self { group, current, turn, watched, .. } = self;
        let members = &group.members;
        let watched = *watched;
        let plan = &core.plan.upstreams[upstream];
        let (slow_start, now) = (plan.slow_start.as_deref(), core.clock.swept());
        let subset = ask.subset.map(|subset| &plan.subsets[subset]);
        let current = &mut current[ask.subset.map_or(0, |subset| subset + 1)];
        let weight = |at: usize| {
            let peer = &members[at].peer;
            let out = members[at].failover != failover
                || tried.contains(&at)
                || (watched && !peer.is_fit())
                || subset.is_some_and(|subset| !subset.has(peer.target));
            let share = u64::from(members[at].weight);
            match slow_start {
                _ if out => 0,
                None => share,
                Some(slow) => share * slow.share(peer, now),
            }
        };
        let below = |end| core.random_below(end);
        match (plan.algorithm, &group.ring, ask.hash) {
            (Algorithm::ConsistentHashing, Some(ring), Some(hash)) => {
                ring.members(hash).find(|at| weight(*at) > 0)
            }
            (Algorithm::StickySessions, _, Some(token)) => {
                let named = |at: &usize| members[*at].peer.token == token && weight(*at) > 0;
                (0..members.len()).find(named).or_else(|| choose::round_robin(current, weight))
            }
            (Algorithm::StickySessions | Algorithm::ConsistentHashing | Algorithm::RoundRobin, ..) => {
                choose::round_robin(current, weight)
            }
            (Algorithm::Random, ..) => choose::random(members.len(), weight, below),
            (Algorithm::LeastConnections, ..) => {
                *turn = (*turn + 1) % members.len().max(1);
                choose::least(members.len(), *turn, weight, |at| members[at].peer.active.load(Relaxed))
            }
            (Algorithm::Latency, ..) => {
                let now_ms = core.upstreams.ms(core.clock.swept());
                let cost = |at: usize| members[at].peer.cost(now_ms);
                choose::cheaper(members.len(), weight, cost, below)
            }
        }
    }
}
