//! Samples to figures. Knows no units.

/// What many samples of one thing say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) mean: f64,
    /// Of the samples about their mean, with n - 1; 0 for one sample.
    pub(crate) deviation: f64,
    pub(crate) median: f64,
}

impl Statistics {
    /// Of at least one sample.
    pub(crate) fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        let deviation = if samples.len() > 1 {
            (squares / (count - 1.0)).sqrt()
        } else {
            0.0
        };
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Self {
            mean,
            deviation,
            median,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Statistics;

    #[test]
    fn figures_are_those_of_the_textbook() {
        let odd = Statistics::of(&[9.0, 1.0, 2.0]);
        assert_eq!((odd.mean, odd.median), (4.0, 2.0));
        assert!((odd.deviation - 19_f64.sqrt()).abs() < 1e-12, "{odd:?}");
        let even = Statistics::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((even.mean, even.median), (2.5, 2.5));
        let one = Statistics::of(&[7.0]);
        assert_eq!((one.mean, one.median, one.deviation), (7.0, 7.0, 0.0));
    }
}
