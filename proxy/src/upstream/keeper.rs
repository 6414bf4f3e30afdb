//! The one thread in the background: looks names up when their answers run out, and makes health checks. It goes over to
//! a new plan without asking anew for what it knows.

use super::Upstreams;
use super::book::Book;
use super::dns::{DnsPlan, Found, Names};
use super::probe;
use crate::core::Phase;
use crate::plan::{Plan, TargetPlan, UpstreamPlan};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, LocalSet};

/// What the system says of names besides its name servers.
const SYSTEM_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// How often it is looked whether an ejected address may come back, at least and at most.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// The thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    thread: std::thread::JoinHandle<()>,
    newest: watch::Sender<Arc<Upstreams>>,
}

impl Keeper {
    /// Goes over to the upstreams of a new plan.
    pub fn renew(&self, upstreams: &Arc<Upstreams>) {
        self.newest.send_replace(Arc::clone(upstreams));
    }

    /// The thread, to be waited for once everything is cut.
    pub fn into_thread(self) -> std::thread::JoinHandle<()> {
        self.thread
    }
}

/// Starts the thread, unless there is nothing to do for it. It ends when everything is cut.
pub(crate) fn start(
    upstreams: &Arc<Upstreams>,
    mut phase: watch::Receiver<Phase>,
) -> std::io::Result<Option<Keeper>> {
    let plan = &upstreams.plan;
    if probed(plan).next().is_none() && judged(plan).next().is_none() && named(plan).next().is_none() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let newest = watch::Sender::new(Arc::clone(upstreams));
    let mut turns = newest.subscribe();
    let thread = std::thread::Builder::new().name("upstreams".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            let mut work = Work::default();
            loop {
                let upstreams = Arc::clone(&turns.borrow_and_update());
                work.turn(&upstreams);
                drop(upstreams);
                tokio::select! {
                    // The sender goes with the proxy.
                    _cut = phase.wait_for(|phase| *phase == Phase::Cut) => return,
                    turned = turns.changed() => if turned.is_err() { return },
                }
            }
        });
    })?;
    Ok(Some(Keeper { thread, newest }))
}

/// Upstreams with active checks.
fn probed(plan: &Plan) -> impl Iterator<Item = usize> {
    let checks =
        |upstream: &UpstreamPlan| upstream.health.as_ref().is_some_and(|health| health.active.is_some());
    (0..plan.upstreams.len()).filter(move |at| checks(&plan.upstreams[*at]))
}

/// Upstreams with outlier detection.
fn judged(plan: &Plan) -> impl Iterator<Item = usize> {
    (0..plan.upstreams.len()).filter(|at| plan.upstreams[*at].outlier.is_some())
}

/// Looks which of an upstream's ejected addresses may come back, for ever. Each address knows when it was last looked
/// at, which may have been under an earlier plan.
async fn bring_back(plan: Arc<Plan>, upstreams: Arc<Upstreams>, upstream: usize) {
    let Some(outlier) = &plan.upstreams[upstream].outlier else { return };
    let groups = upstreams.watch(upstream);
    let mut ticks = tokio::time::interval((outlier.interval / 4).clamp(LOOK_MIN, LOOK_MAX));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        groups.borrow().members.iter().for_each(|member| member.peer.look_again_after(outlier.interval));
    }
}

/// Targets that have a name to be looked up.
fn named(plan: &Plan) -> impl Iterator<Item = &TargetPlan> {
    plan.targets.iter().filter(|target| target.addr.is_none())
}

/// What the thread is at.
#[derive(Default)]
struct Work {
    names: Option<Rc<Names>>,
    /// What the names were made of.
    dns: Option<(DnsPlan, Vec<Option<Vec<u8>>>)>,
    tasks: JoinSet<()>,
    /// Of each name, by its target's text.
    lookups: HashMap<String, AbortHandle>,
    /// Health checks, and what brings ejected addresses back.
    probes: JoinSet<()>,
}

impl Work {
    /// Goes on with these upstreams: names that stay keep their answers and the time of their next look.
    fn turn(&mut self, upstreams: &Arc<Upstreams>) {
        let plan = &upstreams.plan;
        let wanted: BTreeMap<&str, &TargetPlan> =
            named(plan).map(|target| (target.text.as_str(), target)).collect();
        if !wanted.is_empty() {
            self.ask_anew_if_changed(&plan.dns);
        }
        self.lookups.retain(|target, task| {
            let stays = wanted.contains_key(target.as_str());
            if !stays {
                task.abort();
                upstreams.book.forget(target);
            }
            stays
        });
        // What has ended was aborted.
        while self.tasks.try_join_next().is_some() {}
        for (text, target) in wanted {
            if self.lookups.contains_key(text) {
                continue;
            }
            let (names, dns, book) = (self.names.clone(), plan.dns.clone(), Arc::clone(&upstreams.book));
            let name = (text.to_owned(), target.host.clone(), target.port);
            let task = self.tasks.spawn_local(async move {
                loop {
                    let wait = look(&dns, names.as_deref(), &name, &book).await;
                    tokio::time::sleep(wait).await;
                }
            });
            self.lookups.insert(text.to_owned(), task);
        }
        self.probes = JoinSet::new();
        for upstream in probed(plan) {
            self.probes.spawn_local(probe::run(Arc::clone(plan), Arc::clone(upstreams), upstream));
        }
        for upstream in judged(plan) {
            self.probes.spawn_local(bring_back(Arc::clone(plan), Arc::clone(upstreams), upstream));
        }
    }

    /// Where names are asked otherwise than before, all are looked up again at once; until they are, the last answers
    /// are good.
    fn ask_anew_if_changed(&mut self, plan: &DnsPlan) {
        let system = SYSTEM_FILES.map(|path| std::fs::read(path).ok()).to_vec();
        let of = (plan.clone(), system);
        if self.dns.as_ref() == Some(&of) {
            return;
        }
        self.dns = Some(of);
        self.names = match Names::new(plan) {
            Ok(names) => Some(Rc::new(names)),
            Err(error) => {
                tracing::error!(%error, "names cannot be looked up");
                None
            }
        };
        self.lookups.drain().for_each(|(_, task)| task.abort());
    }
}

/// Looks one name up; says when to look again. A name that was known stays known when the servers do not answer.
async fn look(
    plan: &DnsPlan,
    names: Option<&Names>,
    (text, host, port): &(String, String, u16),
    book: &Book,
) -> Duration {
    let answer = match names {
        Some(names) => names.lookup(plan, host, *port).await.map_err(|error| error.to_string()),
        None => Err("no resolver".to_owned()),
    };
    book.answered(text, answer.is_err());
    match answer {
        Ok(answer) => {
            let left = answer.valid_until.saturating_duration_since(Instant::now());
            book.note(text, Found::Addresses(answer.addresses));
            left.clamp(plan.ttl_min, plan.ttl_max)
        }
        Err(error) => {
            let known = book.knows(text);
            tracing::warn!(host, %error, known, "name lookup failed");
            if !known {
                book.note(text, Found::Failed);
            }
            plan.retry_interval
        }
    }
}
