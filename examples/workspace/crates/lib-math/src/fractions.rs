//! Continued fractions and what they are good for.

use lib_common::{ErrorKind, Rational, Result};

/// The terms of the continued fraction of `value`, the first of which may be negative.
pub fn terms(value: Rational) -> Vec<i128> {
    let (mut a, mut b) = (value.numerator(), value.denominator());
    let mut found = Vec::new();
    while b != 0 {
        found.push(a.div_euclid(b));
        (a, b) = (b, a.rem_euclid(b));
    }
    found
}

/// The fractions that the terms approach one after the other.
pub fn convergents(terms: &[i128]) -> Result<Vec<Rational>> {
    let step = |term: i128, last: i128, before: i128| {
        term.checked_mul(last)
            .and_then(|product| product.checked_add(before))
            .ok_or(ErrorKind::Overflow)
    };
    let (mut h, mut k) = ((1, 0), (0, 1));
    terms
        .iter()
        .map(|&term| {
            h = (step(term, h.0, h.1)?, h.0);
            k = (step(term, k.0, k.1)?, k.0);
            Rational::new(h.0, k.0)
        })
        .collect()
}

/// The last convergent whose denominator is at most `limit`.
pub fn simplest_within(value: Rational, limit: i128) -> Result<Rational> {
    let all = convergents(&terms(value))?;
    let fitting = all.iter().rev().find(|candidate| candidate.denominator() <= limit);
    Ok(fitting.copied().unwrap_or(value))
}

/// A fraction close to the square root of `n`, by `steps` of Newton's method.
pub fn square_root(n: u32, steps: u32) -> Result<Rational> {
    let n = Rational::integer(n.into());
    if n == Rational::ZERO {
        return Ok(n);
    }
    let half = Rational::new(1, 2)?;
    (0..steps).try_fold(n, |guess, _| guess.checked_add(n.checked_div(guess)?)?.checked_mul(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_and_back() {
        let value = Rational::new(-415, 93).unwrap();
        let all = terms(value);
        assert_eq!(convergents(&all).unwrap().last(), Some(&value));
    }

    #[test]
    fn pi_by_small_fractions() {
        let pi = Rational::new(314_159_265, 100_000_000).unwrap();
        assert_eq!(simplest_within(pi, 10), Rational::new(22, 7));
        assert_eq!(simplest_within(pi, 200), Rational::new(355, 113));
    }

    #[test]
    fn newton_comes_close() {
        let root = square_root(2, 4).unwrap();
        assert_eq!(root.to_decimal(5), "1.41421…");
        assert_eq!(square_root(0, 3), Ok(Rational::ZERO));
    }
}
