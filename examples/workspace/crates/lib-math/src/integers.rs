//! Whole numbers: factorials, binomials, primes.

use lib_common::{gcd, ErrorKind, Result};

/// `n!`
pub fn factorial(n: u32) -> Result<i128> {
    (1..=i128::from(n))
        .try_fold(1_i128, i128::checked_mul)
        .ok_or_else(|| ErrorKind::Overflow.into())
}

/// How many ways there are to choose `k` of `n`.
pub fn binomial(n: u32, k: u32) -> Result<i128> {
    if k > n {
        return Ok(0);
    }
    (0..k.min(n - k)).try_fold(1_i128, |product, i| {
        // The product is divisible at every step: it is binomial(n, i + 1).
        product
            .checked_mul(i128::from(n - i))
            .map(|value| value / i128::from(i + 1))
            .ok_or_else(|| ErrorKind::Overflow.into())
    })
}

/// The least common multiple.
pub fn lcm(a: u128, b: u128) -> Result<u128> {
    match gcd(a, b) {
        0 => Ok(0),
        common => (a / common).checked_mul(b).ok_or_else(|| ErrorKind::Overflow.into()),
    }
}

/// The `n`th Fibonacci number, from `fibonacci(0) == 0`.
pub fn fibonacci(n: u32) -> Result<i128> {
    let mut pair = (0_i128, 1_i128);
    for _ in 0..n {
        let next = pair.0.checked_add(pair.1).ok_or(ErrorKind::Overflow)?;
        pair = (pair.1, next);
    }
    Ok(pair.0)
}

/// The primes in ascending order.
pub fn primes() -> impl Iterator<Item = u64> {
    let mut known: Vec<u64> = Vec::new();
    (2..).filter(move |&candidate| {
        let prime = known
            .iter()
            .take_while(|&&p| p * p <= candidate)
            .all(|&p| !candidate.is_multiple_of(p));
        if prime {
            known.push(candidate);
        }
        prime
    })
}

/// The prime factors of `n` in ascending order, each as often as it divides.
pub fn factors(mut n: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut divisor = 2;
    while divisor * divisor <= n {
        while n.is_multiple_of(divisor) {
            found.push(divisor);
            n /= divisor;
        }
        divisor += if divisor == 2 { 1 } else { 2 };
    }
    if n > 1 {
        found.push(n);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factorials_and_binomials() {
        assert_eq!(factorial(5), Ok(120));
        assert!(factorial(40).is_err());
        assert_eq!(binomial(10, 3), Ok(120));
        assert_eq!(binomial(3, 10), Ok(0));
        let row: i128 = (0..=12).map(|k| binomial(12, k).unwrap()).sum();
        assert_eq!(row, 1 << 12);
    }

    #[test]
    fn multiples_and_sequences() {
        assert_eq!(lcm(4, 6), Ok(12));
        assert_eq!(lcm(0, 0), Ok(0));
        let first: Vec<_> = (0..8).map(|n| fibonacci(n).unwrap()).collect();
        assert_eq!(first, [0, 1, 1, 2, 3, 5, 8, 13]);
    }

    #[test]
    fn primes_divide() {
        assert_eq!(primes().take(8).collect::<Vec<_>>(), [2, 3, 5, 7, 11, 13, 17, 19]);
        assert_eq!(factors(360), [2, 2, 2, 3, 3, 5]);
        assert_eq!(factors(97), [97]);
        assert!(factors(1).is_empty());
    }
}
