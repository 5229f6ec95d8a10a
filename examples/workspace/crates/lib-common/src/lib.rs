//! What every other crate of the workspace shares: exact rationals, spans and errors.

mod error;
mod rational;
mod span;

pub use error::{Error, ErrorKind, Result};
pub use rational::Rational;
pub use span::Span;

/// The greatest common divisor; `gcd(0, 0)` is 0.
pub const fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::gcd;

    #[test]
    fn gcd_of_zero_is_the_other() {
        assert_eq!(gcd(0, 0), 0);
        assert_eq!(gcd(0, 9), 9);
        assert_eq!(gcd(12, 18), 6);
    }
}
