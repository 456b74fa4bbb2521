//! What is quoted of repeated runs: median and spread.

/// The runs of one metric on one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// One run.
    pub(crate) fn of(value: f64) -> Self {
        Self(vec![value])
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle value; the mean of the two middle ones for an even number of runs.
    pub(crate) fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            n if n % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// The value below which `percent` of the samples lie (nearest rank).
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let sorted = self.sorted();
        let last = sorted.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 0 and the number of samples"
        )]
        let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
        Some(sorted[rank.saturating_sub(1).min(last)])
    }

    /// (max − min) / median: 0 when all runs agree, nothing when they don't and the median is 0.
    pub(crate) fn spread(&self) -> Option<f64> {
        let median = self.median()?;
        let sorted = self.sorted();
        let range = sorted.last()? - sorted.first()?;
        match (range, median) {
            (0.0, _) => Some(0.0),
            (_, 0.0) => None,
            _ => Some(range / median),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn the_median_ignores_an_outlier() {
        assert_eq!(samples(&[3.0, 1.0, 900.0]).median(), Some(3.0));
        assert_eq!(samples(&[1.0, 2.0]).median(), Some(1.5));
        assert_eq!(samples(&[]).median(), None);
    }

    #[test]
    fn the_spread_is_the_range_over_the_median() {
        assert_eq!(samples(&[2.0, 1.0, 3.0]).spread(), Some(1.0));
        assert_eq!(samples(&[0.0, 0.0]).spread(), Some(0.0));
        assert_eq!(samples(&[0.0, 0.0, 1.0]).spread(), None);
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(samples(&hundred).percentile(50.0), Some(50.0));
        assert_eq!(samples(&hundred).percentile(99.0), Some(99.0));
        assert_eq!(samples(&[7.0]).percentile(99.0), Some(7.0));
    }
}
