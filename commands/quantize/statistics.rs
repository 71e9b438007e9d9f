//! Two models' chances for one next token, and means over many. Knows no models.

/// What is compared of one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token {
    /// How far the second model's chances are from the first's (Kullback and Leibler 1951), in nats.
    pub(super) divergence: f64,
    /// Both find the same token likeliest.
    pub(super) agrees: bool,
    /// What each gives the token that comes: the negative logarithm of its chance.
    pub(super) losses: [f64; 2],
}

/// Compares the logits of two models before the token `next`; `None` where they are not finite.
pub(super) fn compare(first: &[f32], second: &[f32], next: usize) -> Option<Token> {
    let [a, b] = [first, second].map(logarithm_of_sum);
    let mut divergence = 0.0;
    for (&first, &second) in first.iter().zip(second) {
        let chance = f64::from(first) - a;
        divergence += chance.exp() * (chance - (f64::from(second) - b));
    }
    let losses = [
        a - f64::from(*first.get(next)?),
        b - f64::from(*second.get(next)?),
    ];
    let is_finite = divergence.is_finite() && losses.iter().all(|loss| loss.is_finite());
    is_finite.then(|| Token {
        // Rounding may leave less than nothing.
        divergence: divergence.max(0.0),
        agrees: likeliest(first) == likeliest(second),
        losses,
    })
}

fn logarithm_of_sum(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - most).exp())
        .sum();
    most + sum.ln()
}

fn likeliest(logits: &[f32]) -> Option<usize> {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(id, _)| id)
}

/// A mean, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    /// The standard error of the mean.
    error: f64,
    /// The largest value.
    pub(super) most: f64,
}

impl Estimate {
    /// Of values that are taken for independent.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let squares: f64 = values.clone().map(|value| (value - mean).powi(2)).sum();
        Self {
            mean,
            error: (squares / (count - 1.0).max(1.0) / count).sqrt(),
            most: values.fold(0.0, f64::max),
        }
    }

    /// Where the mean of 95 of 100 such samples is.
    pub(super) fn interval(&self) -> (f64, f64) {
        /// Of a normal distribution, 95 % are within so many standard deviations.
        const DEVIATIONS: f64 = 1.96;
        let off = DEVIATIONS * self.error;
        (self.mean - off, self.mean + off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_chances_differ_as_the_formula_says() {
        // Chances of 3/4 and 1/4 against 1/2 each.
        let first = [3_f32.ln() + 5.0, 5.0];
        let token = compare(&first, &[1.0, 1.0], 1).unwrap();
        let wanted = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((token.divergence - wanted).abs() < 1e-6);
        assert!(
            (token.losses[0] - 4_f64.ln()).abs() < 1e-6
                && (token.losses[1] - 2_f64.ln()).abs() < 1e-6
        );
        let same = compare(&first, &first, 0).unwrap();
        assert!(same.divergence < 1e-12 && same.agrees);
        assert!(!compare(&[0.0, 1.0], &[1.0, 0.0], 0).unwrap().agrees);
        assert_eq!(compare(&[f32::NAN, 0.0], &[0.0, 0.0], 0), None);
        assert_eq!(compare(&[0.0], &[0.0], 1), None);
    }

    #[test]
    fn a_mean_is_as_sure_as_its_values_are_alike_and_many() {
        let estimate = Estimate::of([1.0, 3.0].into_iter());
        assert!((estimate.mean - 2.0).abs() < 1e-12 && (estimate.most - 3.0).abs() < 1e-12);
        // A deviation of the root of 2, over the root of 2 values.
        assert!((estimate.interval().1 - 3.96).abs() < 1e-9);
        let sure = Estimate::of(std::iter::repeat_n(7.0, 10));
        assert_eq!(sure.interval(), (7.0, 7.0));
    }
}
