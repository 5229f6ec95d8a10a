//! The syntax tree.

use std::fmt;

use lib_common::{Rational, Span};

use crate::Operator;

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Number(Rational),
    Name(String),
    Negate(Box<Expression>),
    Factorial(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(String, Vec<Expression>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    pub node: Node,
    pub span: Span,
}

impl Expression {
    pub fn new(node: Node, span: Span) -> Self {
        Self { node, span }
    }

    /// How many nodes the tree has.
    pub fn size(&self) -> usize {
        1 + match &self.node {
            Node::Number(_) | Node::Name(_) => 0,
            Node::Negate(inner) | Node::Factorial(inner) => inner.size(),
            Node::Binary(_, left, right) => left.size() + right.size(),
            Node::Call(_, arguments) => arguments.iter().map(Self::size).sum(),
        }
    }
}

/// Writes every operation in brackets, so that the structure shows.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Number(value) => write!(f, "{value}"),
            Node::Name(name) => f.write_str(name),
            Node::Negate(inner) => write!(f, "(-{inner})"),
            Node::Factorial(inner) => write!(f, "({inner}!)"),
            Node::Binary(operator, left, right) => write!(f, "({left} {operator} {right})"),
            Node::Call(name, arguments) => {
                let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
                write!(f, "{name}({})", arguments.join(", "))
            }
        }
    }
}
