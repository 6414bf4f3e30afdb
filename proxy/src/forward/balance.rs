//! Which target is next (smooth weighted round-robin, as nginx has it) and which address it has (looked up, cached,
//! the last good answer kept).

use crate::core::Core;
use crate::plan::Plan;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

pub(crate) struct Balance {
    /// Per upstream, the current weight of each target.
    current: Vec<RefCell<Vec<i64>>>,
    /// Per target.
    names: Vec<Name>,
}

#[derive(Default)]
struct Name {
    addrs: RefCell<Vec<SocketAddr>>,
    looked_up_ms: Cell<u64>,
    refreshing: Cell<bool>,
    next: Cell<usize>,
}

impl Balance {
    pub fn new(plan: &Plan) -> Self {
        Self {
            current: plan.upstreams.iter().map(|up| RefCell::new(vec![0; up.targets.len()])).collect(),
            names: plan.targets.iter().map(|_| Name::default()).collect(),
        }
    }

    /// The next target of an upstream; none when it has no targets.
    pub fn pick(&self, plan: &Plan, upstream: usize) -> Option<usize> {
        let targets = &plan.upstreams[upstream].targets;
        if let [(target, _)] = targets[..] {
            return Some(target);
        }
        let mut current = self.current[upstream].borrow_mut();
        let mut best = None;
        for (at, (_, weight)) in targets.iter().enumerate() {
            current[at] += weight;
            if best.is_none_or(|best: usize| current[at] > current[best]) {
                best = Some(at);
            }
        }
        let best = best?;
        current[best] -= targets.iter().map(|(_, weight)| weight).sum::<i64>();
        Some(targets[best].0)
    }
}

/// An address of a target. Waits only for the first answer; later ones come in the background.
///
/// `looked_up` says whether a lookup was waited for.
pub(crate) async fn address(core: &Rc<Core>, target: usize, looked_up: &mut bool) -> Option<SocketAddr> {
    let plan = &core.plan.targets[target];
    if plan.addr.is_some() {
        return plan.addr;
    }
    let name = &core.balance.names[target];
    if name.addrs.borrow().is_empty() {
        *looked_up = true;
        refresh(core, target).await;
    } else if core.clock.now_ms() >= name.looked_up_ms.get() + core.plan.timeouts.dns_ttl_ms
        && !name.refreshing.replace(true)
    {
        let core = Rc::clone(core);
        tokio::task::spawn_local(async move {
            refresh(&core, target).await;
            core.balance.names[target].refreshing.set(false);
        });
    }
    let addrs = name.addrs.borrow();
    let next = name.next.get();
    name.next.set(next.wrapping_add(1));
    (!addrs.is_empty()).then(|| addrs[next % addrs.len()])
}

async fn refresh(core: &Core, target: usize) {
    let plan = &core.plan.targets[target];
    let found = tokio::net::lookup_host((plan.host.as_str(), plan.port)).await;
    let name = &core.balance.names[target];
    name.looked_up_ms.set(core.clock.now_ms());
    match found {
        Ok(found) => {
            let found: Vec<_> = found.collect();
            if !found.is_empty() {
                name.addrs.replace(found);
            }
        }
        Err(error) => tracing::warn!(host = plan.host, %error, "name lookup failed"),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Entities, GatewayConfig, Service, Target, Upstream};

    #[test]
    fn weights_are_kept_smoothly() {
        let target = |port: u16, weight| Target {
            target: format!("127.0.0.1:{port}"),
            weight: Some(weight),
            ..Default::default()
        };
        let entities = Entities {
            services: vec![Service { host: Some("up".into()), ..Default::default() }],
            upstreams: vec![Upstream {
                name: "up".into(),
                targets: vec![target(1, 5), target(2, 1), target(3, 1), target(4, 0)],
                ..Default::default()
            }],
            ..Default::default()
        };
        let plan = crate::validate(&GatewayConfig::default(), &entities).unwrap();
        let balance = super::Balance::new(&plan);
        let picks: Vec<_> = (0..7).map(|_| plan.targets[balance.pick(&plan, 0).unwrap()].port).collect();
        assert_eq!(picks, [1, 1, 2, 1, 3, 1, 1]);
    }
}
