//! `goals.toml`: the ratios that are promised.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Upper limits on ours/reference, by suite.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Goals(BTreeMap<String, SuiteGoals>);

/// Upper limits of one suite, by case and metric.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct SuiteGoals(BTreeMap<String, BTreeMap<String, f64>>);

impl Goals {
    /// Reads and checks the file: every goal is a positive ratio.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the goals from {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Parses the file's text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let goals: Self = toml::from_str(text)?;
        for (suite, cases) in &goals.0 {
            for (case, metric, limit) in cases.iter() {
                if !(limit.is_finite() && limit > 0.0) {
                    bail!("{suite}.{case}.{metric}: {limit} is not a positive ratio");
                }
            }
        }
        Ok(goals)
    }

    /// The goals of one suite; none when the file doesn't name it.
    pub(crate) fn suite(&self, name: &str) -> SuiteGoals {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

impl SuiteGoals {
    /// The limit for one metric of one case.
    pub(crate) fn limit(&self, case: &str, metric: &str) -> Option<f64> {
        self.0.get(case)?.get(metric).copied()
    }

    /// Every goal as (case, metric, limit).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.0.iter().flat_map(|(case, metrics)| {
            metrics
                .iter()
                .map(move |(metric, limit)| (case.as_str(), metric.as_str(), *limit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_found_by_case_and_metric() {
        let goals = Goals::parse("[bgp.load]\ncpu_seconds = 1.2\n")
            .unwrap()
            .suite("bgp");
        assert_eq!(goals.limit("load", "cpu_seconds"), Some(1.2));
        assert_eq!(goals.limit("load", "wall_seconds"), None);
        assert_eq!(goals.limit("other", "cpu_seconds"), None);
    }

    #[test]
    fn a_goal_that_is_not_a_positive_ratio_is_refused_by_name() {
        let error = Goals::parse("[bgp.load]\ncpu_seconds = 0.0\n").unwrap_err();
        assert!(
            error.to_string().contains("bgp.load.cpu_seconds"),
            "{error}"
        );
    }

    #[test]
    fn the_goals_of_the_repository_parse() {
        let goals = Goals::read(Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/goals.toml"
        )));
        assert!(goals.unwrap().suite("bgp").iter().count() > 0);
    }
}
