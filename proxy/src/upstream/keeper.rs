//! The one thread in the background: looks names up when their answers run out, and makes health checks.

use super::Upstreams;
use super::dns::{Found, Names};
use super::probe;
use crate::core::Phase;
use crate::plan::{Plan, UpstreamPlan};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

/// The thread.
pub(crate) type Keeper = std::thread::JoinHandle<()>;

/// Starts the thread, unless there is nothing to do for it. It ends when everything is cut.
pub(crate) fn start(
    plan: Arc<Plan>,
    upstreams: Arc<Upstreams>,
    mut phase: watch::Receiver<Phase>,
) -> std::io::Result<Option<Keeper>> {
    let checks =
        |upstream: &UpstreamPlan| upstream.health.as_ref().is_some_and(|health| health.active.is_some());
    let probed: Vec<_> = (0..plan.upstreams.len()).filter(|at| checks(&plan.upstreams[*at])).collect();
    let judged: Vec<_> =
        (0..plan.upstreams.len()).filter(|at| plan.upstreams[*at].outlier.is_some()).collect();
    if probed.is_empty() && judged.is_empty() && plan.targets.iter().all(|target| target.addr.is_some()) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("upstreams".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            let mut tasks = JoinSet::new();
            names(&plan, &upstreams, &mut tasks);
            for upstream in probed {
                tasks.spawn_local(probe::run(Arc::clone(&plan), Arc::clone(&upstreams), upstream));
            }
            for upstream in judged {
                tasks.spawn_local(bring_back(Arc::clone(&plan), Arc::clone(&upstreams), upstream));
            }
            // The sender goes with the proxy.
            let _cut = phase.wait_for(|phase| *phase == Phase::Cut).await;
        });
    })?;
    Ok(Some(thread))
}

/// Looks at its intervals which of an upstream's ejected addresses may come back, for ever.
async fn bring_back(plan: Arc<Plan>, upstreams: Arc<Upstreams>, upstream: usize) {
    let Some(outlier) = &plan.upstreams[upstream].outlier else { return };
    let groups = upstreams.watch(upstream);
    let mut ticks = tokio::time::interval(outlier.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        groups.borrow().members.iter().for_each(|member| member.peer.look_again());
    }
}

/// Starts looking after each name.
fn names(plan: &Arc<Plan>, upstreams: &Arc<Upstreams>, tasks: &mut JoinSet<()>) {
    let names = match Names::new(&plan.dns) {
        Ok(names) => Some(Rc::new(names)),
        Err(error) => {
            tracing::error!(%error, "names cannot be looked up");
            None
        }
    };
    let found = Rc::new(RefCell::new(vec![Found::Waiting; plan.targets.len()]));
    for target in (0..plan.targets.len()).filter(|target| plan.targets[*target].addr.is_none()) {
        let (plan, upstreams) = (Arc::clone(plan), Arc::clone(upstreams));
        let (names, found) = (names.clone(), Rc::clone(&found));
        tasks.spawn_local(async move {
            loop {
                let wait = look(&plan, names.as_deref(), target, &upstreams, &found).await;
                tokio::time::sleep(wait).await;
            }
        });
    }
}

/// Looks one name up; says when to look again. A name that was known stays known when the servers do not answer.
async fn look(
    plan: &Plan,
    names: Option<&Names>,
    target: usize,
    upstreams: &Upstreams,
    found: &RefCell<Vec<Found>>,
) -> Duration {
    let name = &plan.targets[target];
    let answer = match names {
        Some(names) => {
            names.lookup(&plan.dns, &name.host, name.port).await.map_err(|error| error.to_string())
        }
        None => Err("no resolver".to_owned()),
    };
    upstreams.answered(target, answer.is_err());
    let (next, wait) = match answer {
        Ok(answer) => {
            let left = answer.valid_until.saturating_duration_since(Instant::now());
            (Found::Addresses(answer.addresses), left.clamp(plan.dns.ttl_min, plan.dns.ttl_max))
        }
        Err(error) => {
            let known = matches!(found.borrow()[target], Found::Addresses(_));
            tracing::warn!(host = name.host, %error, known, "name lookup failed");
            if known {
                return plan.dns.retry_interval;
            }
            (Found::Failed, plan.dns.retry_interval)
        }
    };
    let changed = {
        let mut found = found.borrow_mut();
        std::mem::replace(&mut found[target], next.clone()) != next
    };
    if changed {
        tracing::debug!(host = name.host, ?next, "addresses");
        upstreams.found(plan, target, &found.borrow());
    }
    wait
}
