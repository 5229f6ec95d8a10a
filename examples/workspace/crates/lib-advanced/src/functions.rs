//! The functions an expression may call.

use lib_common::{gcd, ErrorKind, Rational, Result};
use lib_math::{fractions, integers, statistics};

/// Every name that [`call`] knows, in the order of the help text.
pub const FUNCTION_NAMES: [&str; 15] = [
    "abs", "choose", "fib", "gcd", "lcm", "max", "mean", "median", "min", "near", "prime",
    "product", "sqrt", "sum", "variance",
];

/// The value of `name(arguments)`, or `None` if there is no such function.
pub fn call(name: &str, arguments: &[Rational]) -> Option<Result<Rational>> {
    Some(match (name, arguments) {
        ("abs", &[value]) => {
            if value < Rational::ZERO {
                value.checked_neg()
            } else {
                Ok(value)
            }
        }
        ("choose", &[n, k]) => choose(n, k),
        ("fib", &[n]) => small(n).and_then(integers::fibonacci).map(Rational::integer),
        ("gcd", &[a, b]) => whole_pair(a, b, |a, b| Ok(gcd(a, b))),
        ("lcm", &[a, b]) => whole_pair(a, b, integers::lcm),
        ("max", &[first, ref rest @ ..]) => Ok(rest.iter().copied().fold(first, Rational::max)),
        ("min", &[first, ref rest @ ..]) => Ok(rest.iter().copied().fold(first, Rational::min)),
        ("mean", &[_, ..]) => statistics::mean(arguments),
        ("median", &[_, ..]) => statistics::median(arguments),
        ("variance", &[_, ..]) => statistics::variance(arguments),
        ("sum", _) => statistics::sum(arguments),
        ("product", _) => statistics::product(arguments),
        ("near", &[value, limit]) => near(value, limit),
        ("prime", &[n]) => prime(n),
        ("sqrt", &[n]) => small(n).and_then(|n| fractions::square_root(n, 4)),
        (name, _) if FUNCTION_NAMES.contains(&name) => Err(wrong_arguments(name, arguments.len())),
        _ => return None,
    })
}

fn wrong_arguments(name: &str, got: usize) -> lib_common::Error {
    let wanted = match name {
        "choose" | "gcd" | "lcm" | "near" => "two arguments",
        "abs" | "fib" | "prime" | "sqrt" => "one argument",
        _ => "at least one argument",
    };
    ErrorKind::WrongArguments { function: name.to_owned(), wanted, got }.into()
}

fn whole(value: Rational) -> Result<i128> {
    value.to_integer().ok_or_else(|| ErrorKind::NotAnInteger.into())
}

fn small(value: Rational) -> Result<u32> {
    u32::try_from(whole(value)?).map_err(|_| ErrorKind::Overflow.into())
}

fn choose(n: Rational, k: Rational) -> Result<Rational> {
    integers::binomial(small(n)?, small(k)?).map(Rational::integer)
}

fn whole_pair(
    a: Rational,
    b: Rational,
    operation: impl Fn(u128, u128) -> Result<u128>,
) -> Result<Rational> {
    let value = operation(whole(a)?.unsigned_abs(), whole(b)?.unsigned_abs())?;
    let value = i128::try_from(value).map_err(|_| ErrorKind::Overflow)?;
    Ok(Rational::integer(value))
}

fn near(value: Rational, limit: Rational) -> Result<Rational> {
    fractions::simplest_within(value, whole(limit)?)
}

/// The `n`th prime, from `prime(1) == 2`.
fn prime(n: Rational) -> Result<Rational> {
    let index = small(n)?.checked_sub(1).ok_or(ErrorKind::Overflow)?;
    let found = integers::primes().nth(usize::try_from(index).map_err(|_| ErrorKind::Overflow)?);
    found.map(|value| Rational::integer(value.into())).ok_or_else(|| ErrorKind::Overflow.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, arguments: &[i64]) -> Result<Rational> {
        let arguments: Vec<_> = arguments.iter().copied().map(Rational::from).collect();
        call(name, &arguments).unwrap()
    }

    #[test]
    fn every_name_is_known_and_sorted() {
        assert!(FUNCTION_NAMES.is_sorted());
        assert!(FUNCTION_NAMES.iter().all(|name| call(name, &[]).is_some()));
        assert!(call("nothing", &[]).is_none());
    }

    #[test]
    fn values() {
        assert_eq!(value("gcd", &[-12, 18]), Ok(6.into()));
        assert_eq!(value("lcm", &[4, 6]), Ok(12.into()));
        assert_eq!(value("prime", &[10]), Ok(29.into()));
        assert_eq!(value("fib", &[10]), Ok(55.into()));
        assert_eq!(value("choose", &[5, 2]), Ok(10.into()));
        assert_eq!(value("abs", &[-3]), Ok(3.into()));
        assert_eq!(value("max", &[1, 3, 2]), Ok(3.into()));
        assert_eq!(value("min", &[1, -3, 2]), Ok((-3).into()));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let message = value("gcd", &[1]).unwrap_err().to_string();
        assert_eq!(message, "gcd takes two arguments, got 1");
        assert!(value("prime", &[0]).is_err());
    }
}
