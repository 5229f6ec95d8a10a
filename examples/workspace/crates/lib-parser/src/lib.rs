//! Tokens, syntax tree and parser of arithmetic expressions.

mod ast;
mod lexer;
mod operators;
mod parser;

pub use ast::{Expression, Node};
pub use lexer::{tokenise, Token, TokenKind};
pub use operators::Operator;
pub use parser::parse;
