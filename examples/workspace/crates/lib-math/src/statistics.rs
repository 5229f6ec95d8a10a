//! Exact statistics; every function wants at least one value.

use std::collections::BTreeMap;

use lib_common::{ErrorKind, Rational, Result};

pub fn sum(values: &[Rational]) -> Result<Rational> {
    values.iter().try_fold(Rational::ZERO, |total, &v| total.checked_add(v))
}

pub fn product(values: &[Rational]) -> Result<Rational> {
    values.iter().try_fold(Rational::ONE, |total, &v| total.checked_mul(v))
}

pub fn mean(values: &[Rational]) -> Result<Rational> {
    sum(values)?.checked_div(count(values)?)
}

/// The middle value, or the mean of the two middle ones.
pub fn median(values: &[Rational]) -> Result<Rational> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => Err(ErrorKind::DivisionByZero.into()),
        n if n % 2 == 1 => Ok(sorted[middle]),
        _ => mean(&sorted[middle - 1..=middle]),
    }
}

/// The mean squared distance from the mean.
pub fn variance(values: &[Rational]) -> Result<Rational> {
    let centre = mean(values)?;
    let squares =
        values.iter().map(|v| v.checked_sub(centre)?.checked_pow(2)).collect::<Result<Vec<_>>>()?;
    mean(&squares)
}

/// The values that occur most often, in ascending order.
pub fn modes(values: &[Rational]) -> Vec<Rational> {
    let mut counts = BTreeMap::<Rational, usize>::new();
    for &value in values {
        *counts.entry(value).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    counts.into_iter().filter(|&(_, n)| n == most).map(|(value, _)| value).collect()
}

fn count(values: &[Rational]) -> Result<Rational> {
    let n = i128::try_from(values.len()).map_err(|_| ErrorKind::Overflow)?;
    Ok(Rational::integer(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(values: &[i64]) -> Vec<Rational> {
        values.iter().copied().map(Rational::from).collect()
    }

    #[test]
    fn of_a_few_integers() {
        let values = integers(&[2, 4, 4, 4, 5, 5, 7, 9]);
        assert_eq!(mean(&values), Ok(Rational::from(5)));
        assert_eq!(variance(&values), Ok(Rational::from(4)));
        assert_eq!(median(&values), Rational::new(9, 2));
        assert_eq!(modes(&values), integers(&[4]));
        assert_eq!(product(&integers(&[2, 3, 7])), Ok(Rational::from(42)));
    }

    #[test]
    fn of_nothing() {
        assert!(mean(&[]).is_err());
        assert!(median(&[]).is_err());
        assert!(modes(&[]).is_empty());
    }
}
