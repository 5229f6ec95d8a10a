//! A smaller tree of the same value.

use lib_common::Rational;
use lib_parser::{Expression, Node, Operator};

use crate::evaluate::apply;

/// Folds constants and drops what changes nothing (`x + 0`, `1 * x`, `x ^ 1`, `--x`).
///
/// What fails to evaluate stays as it is, so that evaluating still tells why.
#[must_use]
pub fn simplify(expression: &Expression) -> Expression {
    let span = expression.span;
    let node = match &expression.node {
        Node::Number(_) | Node::Name(_) => expression.node.clone(),
        Node::Factorial(inner) => Node::Factorial(simplify(inner).into()),
        Node::Call(name, arguments) => {
            Node::Call(name.clone(), arguments.iter().map(simplify).collect())
        }
        Node::Negate(inner) => negate(simplify(inner)),
        Node::Binary(operator, left, right) => binary(*operator, simplify(left), simplify(right)),
    };
    Expression::new(node, span)
}

fn number(expression: &Expression) -> Option<Rational> {
    match expression.node {
        Node::Number(value) => Some(value),
        _ => None,
    }
}

fn negate(inner: Expression) -> Node {
    match inner.node {
        Node::Negate(twice) => twice.node,
        Node::Number(value) => match value.checked_neg() {
            Ok(negative) => Node::Number(negative),
            Err(_) => Node::Negate(inner.into()),
        },
        _ => Node::Negate(inner.into()),
    }
}

fn binary(operator: Operator, left: Expression, right: Expression) -> Node {
    let (a, b) = (number(&left), number(&right));
    if let (Some(a), Some(b)) = (a, b) {
        if let Ok(value) = apply(operator, a, b) {
            return Node::Number(value);
        }
    }
    let (zero, one) = (Some(Rational::ZERO), Some(Rational::ONE));
    match operator {
        Operator::Add if a == zero => right.node,
        Operator::Multiply if a == one => right.node,
        Operator::Add | Operator::Subtract if b == zero => left.node,
        Operator::Multiply | Operator::Divide | Operator::Power if b == one => left.node,
        _ => Node::Binary(operator, left.into(), right.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lib_parser::parse;

    fn simple(source: &str) -> String {
        simplify(&parse(source).unwrap()).to_string()
    }

    #[test]
    fn constants_are_folded() {
        assert_eq!(simple("2 * 3 + x"), "(6 + x)");
        assert_eq!(simple("max(1 + 1, x)"), "max(2, x)");
        assert_eq!(simple("--(4 / 6)"), "2/3");
    }

    #[test]
    fn neutral_operations_go() {
        assert_eq!(simple("0 + 1 * x ^ 1 / 1 - 0"), "x");
        assert_eq!(simple("--x"), "x");
    }

    #[test]
    fn failures_stay() {
        assert_eq!(simple("1 / 0"), "(1 / 0)");
        assert_eq!(simple("2 ^ 0.5"), "(2 ^ 1/2)");
    }
}
