//! The value of a syntax tree.

use std::collections::BTreeMap;

use lib_common::{Error, ErrorKind, Rational, Result};
use lib_math::integers;
use lib_parser::{Expression, Node, Operator};
use lib_utils::spelling;

use crate::functions::{self, FUNCTION_NAMES};

/// Evaluates expressions under a set of named values.
#[derive(Clone, Debug, Default)]
pub struct Evaluator {
    names: BTreeMap<String, Rational>,
}

impl Evaluator {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: Rational) -> Self {
        self.names.insert(name.to_owned(), value);
        self
    }

    /// The value, or an error that points into the expression.
    pub fn evaluate(&self, expression: &Expression) -> Result<Rational> {
        self.value(expression).map_err(|error| error.or_at(expression.span))
    }

    fn value(&self, expression: &Expression) -> Result<Rational> {
        match &expression.node {
            Node::Number(value) => Ok(*value),
            Node::Name(name) => self.names.get(name).copied().ok_or_else(|| self.unknown(name)),
            Node::Negate(inner) => self.evaluate(inner)?.checked_neg(),
            Node::Factorial(inner) => factorial(self.evaluate(inner)?),
            Node::Binary(operator, left, right) => {
                apply(*operator, self.evaluate(left)?, self.evaluate(right)?)
            }
            Node::Call(name, arguments) => {
                let values =
                    arguments.iter().map(|a| self.evaluate(a)).collect::<Result<Vec<_>>>()?;
                functions::call(name, &values).unwrap_or_else(|| Err(self.unknown(name)))
            }
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let known = self.names.keys().map(String::as_str).chain(FUNCTION_NAMES);
        let suggestion = spelling::suggest(name, known).map(str::to_owned);
        ErrorKind::UnknownName { name: name.to_owned(), suggestion }.into()
    }
}

fn factorial(value: Rational) -> Result<Rational> {
    let n = value.to_integer().ok_or(ErrorKind::NotAnInteger)?;
    let n = u32::try_from(n).map_err(|_| ErrorKind::Overflow)?;
    integers::factorial(n).map(Rational::integer)
}

/// `left operator right`, exactly.
pub(crate) fn apply(operator: Operator, left: Rational, right: Rational) -> Result<Rational> {
    match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => left.checked_div(right),
        Operator::Remainder => {
            let quotient = left.checked_div(right)?;
            let floor = quotient.numerator().div_euclid(quotient.denominator());
            left.checked_sub(right.checked_mul(Rational::integer(floor))?)
        }
        Operator::Power => left.checked_pow(right.to_integer().ok_or(ErrorKind::NotAnInteger)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lib_parser::parse;

    fn value(source: &str) -> Result<String> {
        let evaluator = Evaluator::new().with("half", Rational::new(1, 2)?);
        Ok(evaluator.evaluate(&parse(source)?)?.to_string())
    }

    #[test]
    fn exact_values() {
        assert_eq!(value("1/3 + 1/6").as_deref(), Ok("1/2"));
        assert_eq!(value("0.1 + 0.2").as_deref(), Ok("3/10"));
        assert_eq!(value("-7 % 3").as_deref(), Ok("2"));
        assert_eq!(value("half ^ -3").as_deref(), Ok("8"));
        assert_eq!(value("sum(1, 2, 3)!").as_deref(), Ok("720"));
    }

    #[test]
    fn errors_point_at_the_place() {
        let error = value("1 + 2 / (3 - 3)").unwrap_err();
        assert_eq!(error.kind, ErrorKind::DivisionByZero);
        assert_eq!(error.span.unwrap().to_string(), "4..15");
        let message = value("maen(1)").unwrap_err().to_string();
        assert_eq!(message, "unknown name maen");
        let message = value("halff").unwrap_err().to_string();
        assert_eq!(message, "unknown name halff; did you mean half?");
    }
}
