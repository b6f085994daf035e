//! Statistics of repeated measurements: the median, the spread, and whether two builds differ.

use statlink_tests::observe::quantile;

/// Measurements of one thing, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

/// Two builds' measurements, made alternately: each pair under the same load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Comparison {
    /// The median ratio.
    pub(crate) ratio: f64,
    /// Whether nearly all pairs agree: the first and the last decile are on one side of 1.
    ///
    /// For equal builds, all five of five pairs fall on one side in one run of sixteen; fourteen of
    /// fifteen do in one of a thousand.
    pub(crate) is_clear: bool,
}

impl Samples {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// By nearest rank; `None` without samples.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        quantile(&mut self.0.clone(), q)
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// The first and the last decile.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        Some((self.quantile(0.1)?, self.quantile(0.9)?))
    }

    /// The ratio of these to `other`'s, pair by pair. `None` without pairs, or if a divisor is 0.
    pub(crate) fn beside(&self, other: &Self) -> Option<Comparison> {
        let pairs = self.0.iter().zip(&other.0);
        let ratios = pairs.map(|(this, other)| ratio(*this, *other));
        let ratios = Self(ratios.collect::<Option<_>>()?);
        let (low, high) = ratios.spread()?;
        Some(Comparison {
            ratio: ratios.median()?,
            is_clear: high < 1.0 || low > 1.0,
        })
    }
}

impl From<Vec<f64>> for Samples {
    fn from(values: Vec<f64>) -> Self {
        Self(values)
    }
}

fn ratio(this: f64, other: f64) -> Option<f64> {
    if this == other {
        return Some(1.0);
    }
    (other != 0.0).then_some(this / other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.to_vec().into()
    }

    #[test]
    fn the_middle_is_a_measurement_and_not_the_mean() {
        let all = samples(&[9.0, 1.0, 2.0, 100.0, 3.0]);
        assert_eq!(all.median(), Some(3.0));
        assert_eq!(all.spread(), Some((1.0, 100.0)));
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn one_strange_round_of_twenty_is_not_in_the_spread() {
        let mut values: Vec<f64> = (1..20).map(f64::from).collect();
        values.push(1e9);
        assert_eq!(Samples::from(values).spread(), Some((2.0, 18.0)));
    }

    #[test]
    fn of_nothing_there_is_no_middle() {
        let none = Samples::default();
        assert_eq!(none.median(), None);
        assert_eq!(none.spread(), None);
        assert_eq!(none.beside(&none), None);
    }

    #[test]
    fn builds_are_compared_pair_by_pair() {
        // A load that doubles both during the run hides nothing: in each pair, this one is a tenth
        // lower.
        let other = samples(&[100.0, 200.0, 300.0, 400.0, 500.0]);
        let this = samples(&[90.0, 180.0, 270.0, 360.0, 450.0]);
        let comparison = this.beside(&other).unwrap();
        assert!((comparison.ratio - 0.9).abs() < 1e-9, "{comparison:?}");
        assert!(comparison.is_clear);
    }

    #[test]
    fn pairs_that_disagree_settle_nothing() {
        let comparison = samples(&[90.0, 110.0, 90.0]).beside(&samples(&[100.0; 3]));
        assert!(!comparison.unwrap().is_clear);
        let same = samples(&[5.0]).beside(&samples(&[5.0])).unwrap();
        assert_eq!((same.ratio, same.is_clear), (1.0, false));
    }

    #[test]
    fn nothing_is_no_part_of_nothing_more() {
        assert_eq!(samples(&[1.0]).beside(&samples(&[0.0])), None);
        let both = samples(&[0.0]).beside(&samples(&[0.0])).unwrap();
        assert_eq!(both.ratio, 1.0);
    }
}
