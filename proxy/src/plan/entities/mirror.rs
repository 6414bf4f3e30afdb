//! Mirrors: where copies of a route's requests go.

use super::Checker;
use super::destinations::{From, Named};
use crate::config::Route;
use crate::route::{MirrorPlan, Share};

impl Checker<'_> {
    pub(super) fn mirror(&mut self, route: &Route, from: From, path: &str) -> Option<MirrorPlan> {
        let mirror = route.mirror.as_ref()?;
        let path = format!("{path}.mirror");
        if route.redirect.is_some() {
            self.problem_hint(
                path.clone(),
                "is not read: the route sends its clients away",
                "leave one of them out",
            );
        }
        let share = match mirror.percentage {
            None => Share::of(100.0),
            given => self.share(given, &format!("{path}.percentage")),
        };
        if mirror.service.is_none() && mirror.upstream.is_none() && mirror.subset.is_none() {
            self.problem_hint(path, "leads nowhere", "give it a service, an upstream or a subset");
            return None;
        }
        let named = Named { service: &mirror.service, upstream: &mirror.upstream, subset: &mirror.subset };
        Some(MirrorPlan { destination: self.destination(&named, from, &path)?, share: share? })
    }
}
