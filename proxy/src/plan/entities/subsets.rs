//! Subsets of an upstream: which of its targets have the labels.

use super::Checker;
use crate::config::Upstream;
use crate::plan::SubsetPlan;
use std::collections::HashSet;

impl Checker<'_> {
    /// The subsets of an upstream whose targets are these: each by its number, with its place in the file.
    pub(super) fn subsets(
        &mut self,
        upstream: &Upstream,
        targets: &[(usize, usize)],
        path: &str,
    ) -> Vec<SubsetPlan> {
        let mut names = HashSet::new();
        let mut plans = Vec::new();
        for (at, subset) in upstream.subsets.iter().enumerate() {
            let path = format!("{path}.subsets[{at}]");
            if subset.name.is_empty() {
                self.problem(format!("{path}.name"), "is missing");
            } else if !names.insert(subset.name.as_str()) {
                self.problem(format!("{path}.name"), format!("`{}` is given twice", subset.name));
            }
            let has = |place: &usize| {
                let labels = &upstream.targets[*place].labels;
                subset.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
            };
            let members: Vec<usize> =
                targets.iter().filter(|(_, place)| has(place)).map(|(target, _)| *target).collect();
            if subset.labels.is_empty() {
                self.problem_hint(format!("{path}.labels"), "is missing", "like {version: v2}");
            } else if members.is_empty() {
                self.problem_hint(
                    format!("{path}.labels"),
                    "no target that takes requests has them",
                    "give a target these `labels`",
                );
            }
            plans.push(SubsetPlan { name: subset.name.clone(), targets: members });
        }
        plans
    }
}
