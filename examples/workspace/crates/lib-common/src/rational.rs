//! Exact fractions of 128-bit integers; every operation says when it would overflow.

use std::cmp::Ordering;
use std::fmt;

use crate::{gcd, ErrorKind, Result};

/// A fraction in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    pub fn new(numerator: i128, denominator: i128) -> Result<Self> {
        if denominator == 0 {
            return Err(ErrorKind::DivisionByZero.into());
        }
        let common = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        let magnitude = |value: i128| {
            i128::try_from(value.unsigned_abs() / common).map_err(|_| ErrorKind::Overflow)
        };
        let sign = numerator.signum() * denominator.signum();
        Ok(Self { numerator: sign * magnitude(numerator)?, denominator: magnitude(denominator)? })
    }

    pub const fn integer(value: i128) -> Self {
        Self { numerator: value, denominator: 1 }
    }

    pub const fn numerator(self) -> i128 {
        self.numerator
    }

    pub const fn denominator(self) -> i128 {
        self.denominator
    }

    /// The value as an integer, if it is one.
    pub const fn to_integer(self) -> Option<i128> {
        if self.denominator == 1 {
            Some(self.numerator)
        } else {
            None
        }
    }

    pub fn checked_add(self, other: Self) -> Result<Self> {
        let common = gcd(self.denominator.unsigned_abs(), other.denominator.unsigned_abs());
        let common = i128::try_from(common).map_err(|_| ErrorKind::Overflow)?;
        let left = mul(self.numerator, other.denominator / common)?;
        let right = mul(other.numerator, self.denominator / common)?;
        let sum = left.checked_add(right).ok_or(ErrorKind::Overflow)?;
        Self::new(sum, mul(self.denominator, other.denominator / common)?)
    }

    pub fn checked_neg(self) -> Result<Self> {
        let numerator = self.numerator.checked_neg().ok_or(ErrorKind::Overflow)?;
        Ok(Self { numerator, ..self })
    }

    pub fn checked_sub(self, other: Self) -> Result<Self> {
        self.checked_add(other.checked_neg()?)
    }

    pub fn checked_mul(self, other: Self) -> Result<Self> {
        // Reducing crosswise first keeps the products as small as they can be.
        let a = Self::new(self.numerator, other.denominator)?;
        let b = Self::new(other.numerator, self.denominator)?;
        Self::new(mul(a.numerator, b.numerator)?, mul(a.denominator, b.denominator)?)
    }

    pub fn checked_div(self, other: Self) -> Result<Self> {
        self.checked_mul(Self::new(other.denominator, other.numerator)?)
    }

    /// `self` to a whole power; a negative one inverts.
    pub fn checked_pow(self, exponent: i128) -> Result<Self> {
        let mut base = if exponent < 0 { Self::ONE.checked_div(self)? } else { self };
        let mut left = exponent.unsigned_abs();
        let mut product = Self::ONE;
        loop {
            if left & 1 == 1 {
                product = product.checked_mul(base)?;
            }
            left >>= 1;
            if left == 0 {
                return Ok(product);
            }
            base = base.checked_mul(base)?;
        }
    }

    /// The decimal text, cut after `digits` places and marked with `…` if it goes on.
    pub fn to_decimal(self, digits: usize) -> String {
        let denominator = self.denominator.unsigned_abs();
        let magnitude = self.numerator.unsigned_abs();
        let sign = if self.numerator < 0 { "-" } else { "" };
        let mut text = format!("{sign}{}", magnitude / denominator);
        let mut rest = magnitude % denominator;
        for place in 0..digits {
            if rest == 0 {
                return text;
            }
            if place == 0 {
                text.push('.');
            }
            let Some(scaled) = rest.checked_mul(10) else { break };
            text.push(char::from(b'0' + u8::try_from(scaled / denominator).unwrap_or(0)));
            rest = scaled % denominator;
        }
        if rest != 0 {
            text.push('…');
        }
        text
    }
}

fn mul(a: i128, b: i128) -> Result<i128> {
    a.checked_mul(b).ok_or_else(|| ErrorKind::Overflow.into())
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        // By continued fractions, so that comparing never overflows.
        let (mut a, mut b, mut c, mut d) =
            (self.numerator, self.denominator, other.numerator, other.denominator);
        loop {
            match a.div_euclid(b).cmp(&c.div_euclid(d)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
            let (left, right) = (a.rem_euclid(b), c.rem_euclid(d));
            if left == 0 || right == 0 {
                return left.cmp(&right);
            }
            // Inverting both remainders turns the order round: swap the sides.
            (a, b, c, d) = (d, right, b, left);
        }
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<i64> for Rational {
    fn from(value: i64) -> Self {
        Self::integer(value.into())
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denominator == 1 {
            return self.numerator.fmt(f);
        }
        f.pad(&format!("{}/{}", self.numerator, self.denominator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(n: i128, d: i128) -> Rational {
        Rational::new(n, d).unwrap()
    }

    #[test]
    fn lowest_terms_and_sign() {
        assert_eq!(r(6, -4), r(-3, 2));
        assert_eq!(r(0, -5), Rational::ZERO);
        assert!(Rational::new(1, 0).is_err());
    }

    #[test]
    fn arithmetic_is_exact() {
        assert_eq!(r(1, 3).checked_add(r(1, 6)), Ok(r(1, 2)));
        assert_eq!(r(1, 3).checked_sub(r(1, 2)), Ok(r(-1, 6)));
        assert_eq!(r(2, 3).checked_mul(r(9, 4)), Ok(r(3, 2)));
        assert_eq!(r(2, 3).checked_div(r(4, 3)), Ok(r(1, 2)));
        assert_eq!(r(2, 3).checked_pow(-3), Ok(r(27, 8)));
        assert_eq!(r(2, 3).checked_pow(0), Ok(Rational::ONE));
    }

    #[test]
    fn overflow_is_an_error() {
        let huge = Rational::integer(i128::MAX);
        assert_eq!(huge.checked_add(Rational::ONE), Err(ErrorKind::Overflow.into()));
        assert!(Rational::integer(2).checked_pow(200).is_err());
    }

    #[test]
    fn order_of_huge_and_negative_values() {
        assert!(r(i128::MAX - 1, i128::MAX) > r(i128::MAX - 2, i128::MAX - 1));
        let mut values = [r(1, 2), r(-1, 3), r(2, 5), r(-1, 2), r(3, 1)];
        values.sort();
        assert_eq!(values, [r(-1, 2), r(-1, 3), r(2, 5), r(1, 2), r(3, 1)]);
    }

    #[test]
    fn decimals() {
        assert_eq!(r(1, 4).to_decimal(6), "0.25");
        assert_eq!(r(-1, 3).to_decimal(4), "-0.3333…");
        assert_eq!(r(7, 1).to_decimal(4), "7");
    }
}
