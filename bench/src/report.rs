//! Results: rows, their table and JSON forms, and the closing line.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::goals::SuiteGoals;
use crate::stats::Samples;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// One object per line.
    Json,
}

/// One metric of one case, ours beside one reference. Lower is better.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    suite: &'static str,
    case: String,
    metric: &'static str,
    unit: &'static str,
    /// Median of our runs; null when ours was not run or its output was wrong.
    ours: Option<f64>,
    /// Name and version of what we are compared with.
    reference: String,
    /// Median of the reference's runs.
    reference_value: Option<f64>,
    /// ours / `reference_value`; null beside a reference of 0.
    ratio: Option<f64>,
    /// Upper limit on the ratio; null when the row is for information.
    goal: Option<f64>,
    /// The goal is met, or there is none.
    ok: bool,
    /// Runs behind the median (the smaller number of the two sides).
    runs: usize,
    /// (max − min) / median, the larger of the two sides.
    spread: Option<f64>,
    commit: String,
}

/// The rows of one suite.
#[derive(Debug)]
pub(crate) struct Report {
    suite: &'static str,
    format: Format,
    commit: String,
    goals: SuiteGoals,
    /// Cases of this run; their goals count.
    cases: BTreeSet<String>,
    rows: Vec<Row>,
}

/// What one side measured for one metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison<'a> {
    pub(crate) case: &'a str,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    /// Absent when ours was not part of the run.
    pub(crate) ours: Option<&'a Samples>,
    pub(crate) reference: &'a str,
    pub(crate) reference_value: Option<&'a Samples>,
    /// Goals hold against this reference; other references are for information.
    pub(crate) binding: bool,
}

impl Report {
    pub(crate) fn new(
        suite: &'static str,
        format: Format,
        commit: &str,
        goals: SuiteGoals,
    ) -> Self {
        let report = Self {
            suite,
            format,
            commit: commit.to_owned(),
            goals,
            cases: BTreeSet::new(),
            rows: Vec::new(),
        };
        if format == Format::Table {
            println!(
                "{:<24} {:<20} {:>10} {:>10} {:>7} {:>6} {:<4} {:>4} {:>6}  reference",
                "case", "metric", "ours", "reference", "ratio", "goal", "", "runs", "spread"
            );
        }
        report
    }

    /// Says that a case belongs to this run.
    pub(crate) fn expect_case(&mut self, case: &str) {
        self.cases.insert(case.to_owned());
    }

    /// Adds one row and prints it.
    pub(crate) fn add(&mut self, comparison: Comparison<'_>) {
        let row = self.row(comparison);
        match self.format {
            Format::Table => println!("{}", row.table_line()),
            Format::Json => println!("{}", row.json_line()),
        }
        self.rows.push(row);
    }

    /// Writes `SUITE.jsonl` into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(format!("{}.jsonl", self.suite));
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&row.json_line());
            text.push('\n');
        }
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("write the results to {}", path.display()))
    }

    /// Prints goals met / total and the worst case; true when every goal is met.
    pub(crate) fn print_summary(&self) -> bool {
        let summary = self.summary();
        println!("{}", summary.text);
        summary.met
    }

    fn row(&self, comparison: Comparison<'_>) -> Row {
        let Comparison {
            case,
            metric,
            unit,
            ours,
            reference,
            reference_value,
            binding,
        } = comparison;
        let our_median = ours.and_then(Samples::median);
        let reference_median = reference_value.and_then(Samples::median);
        let ratio = our_median
            .zip(reference_median)
            .map(|(ours, reference)| ours / reference)
            .filter(|ratio| ratio.is_finite());
        let goal = if binding {
            self.goals.limit(case, metric)
        } else {
            None
        };
        let sides = || [ours, reference_value].into_iter().flatten();
        Row {
            suite: self.suite,
            case: case.to_owned(),
            metric,
            unit,
            ours: our_median,
            reference: reference.to_owned(),
            reference_value: reference_median,
            ratio,
            goal,
            ok: goal.is_none_or(|goal| ratio.is_some_and(|ratio| ratio <= goal)),
            runs: sides().map(Samples::len).min().unwrap_or(0),
            spread: sides().filter_map(Samples::spread).max_by(f64::total_cmp),
            commit: self.commit.clone(),
        }
    }

    /// A goal of a case of this run that has no row counts as missed: a run without results must not pass `--check`.
    fn summary(&self) -> Summary {
        let measured: Vec<&Row> = self.rows.iter().filter(|row| row.goal.is_some()).collect();
        let total = self
            .goals
            .iter()
            .filter(|(case, ..)| self.cases.contains(*case))
            .count();
        let met = measured.iter().filter(|row| row.ok).count();

        let mut text = format!("goals met: {met}/{total}");
        let worst = measured
            .iter()
            .filter_map(|row| Some((row, row.ratio?, row.goal?)))
            .max_by(|a, b| (a.1 / a.2).total_cmp(&(b.1 / b.2)));
        if let Some((row, ratio, goal)) = worst {
            let Row { case, metric, .. } = row;
            let _ = write!(
                text,
                "; worst: {case} {metric} ratio {ratio:.2} (goal {goal:.2})"
            );
        }
        let without_result = total - measured.iter().filter(|row| row.ratio.is_some()).count();
        if without_result > 0 {
            let _ = write!(text, "; without a result: {without_result}");
        }
        Summary {
            text,
            met: met == total && !self.cases.is_empty(),
        }
    }
}

#[derive(Debug)]
struct Summary {
    text: String,
    met: bool,
}

impl Row {
    fn json_line(&self) -> String {
        serde_json::to_string(self).expect("a row has only strings and numbers")
    }

    fn table_line(&self) -> String {
        let verdict = match (self.goal, self.ok) {
            (None, _) => "",
            (Some(_), true) => "ok",
            (Some(_), false) => "MISS",
        };
        format!(
            "{:<24} {:<20} {:>10} {:>10} {:>7} {:>6} {:<4} {:>4} {:>6}  {}",
            self.case,
            self.metric,
            figure(self.ours),
            figure(self.reference_value),
            self.ratio
                .map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            self.goal
                .map_or("-".to_owned(), |goal| format!("{goal:.2}")),
            verdict,
            self.runs,
            self.spread
                .map_or("-".to_owned(), |spread| format!("{:.0}%", spread * 100.0)),
            self.reference,
        )
    }
}

/// Three significant digits or whole numbers.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goals;

    fn report(goals: &str) -> Report {
        let goals = Goals::parse(goals).unwrap().suite("bgp");
        let mut report = Report::new("bgp", Format::Json, "abc", goals);
        report.expect_case("load");
        report
    }

    fn samples(value: f64) -> Samples {
        let mut samples = Samples::default();
        samples.push(value);
        samples
    }

    fn add(report: &mut Report, ours: Option<f64>, reference: f64, binding: bool) {
        let ours = ours.map(samples);
        report.add(Comparison {
            case: "load",
            metric: "cpu_seconds",
            unit: "s",
            ours: ours.as_ref(),
            reference: "BIRD 2",
            reference_value: Some(&samples(reference)),
            binding,
        });
    }

    #[test]
    fn goals_are_met_missed_or_unmeasured() {
        let goals = "[bgp.load]\ncpu_seconds = 1.2\n[bgp.other]\ncpu_seconds = 1.2\n";
        let mut met = report(goals);
        add(&mut met, Some(1.2), 1.0, true);
        assert!(met.summary().met);
        assert!(
            met.summary().text.starts_with("goals met: 1/1"),
            "{}",
            met.summary().text
        );

        let mut missed = report(goals);
        add(&mut missed, Some(1.3), 1.0, true);
        assert!(!missed.summary().met);
        assert!(
            missed.summary().text.contains("ratio 1.30"),
            "{}",
            missed.summary().text
        );

        let mut without_result = report(goals);
        add(&mut without_result, None, 1.0, true);
        assert!(!without_result.summary().met);

        assert!(
            !report(goals).summary().met,
            "a case without a row is not met"
        );
    }

    #[test]
    fn a_reference_for_information_binds_no_goal() {
        let mut report = report("[bgp.load]\ncpu_seconds = 1.2\n");
        add(&mut report, Some(9.0), 1.0, false);
        assert_eq!(report.rows[0].goal, None);
        assert!(report.rows[0].ok);
    }

    #[test]
    fn a_json_row_has_every_field_of_the_contract() {
        let mut report = report("[bgp.load]\ncpu_seconds = 1.2\n");
        add(&mut report, Some(1.0), 2.0, true);
        let json: serde_json::Value = serde_json::from_str(&report.rows[0].json_line()).unwrap();
        for field in [
            "suite",
            "case",
            "metric",
            "unit",
            "ours",
            "reference",
            "reference_value",
            "ratio",
            "goal",
            "ok",
            "runs",
            "spread",
            "commit",
        ] {
            assert!(json.get(field).is_some(), "{field} is missing");
        }
        assert_eq!(json["ratio"], 0.5);
    }
}
