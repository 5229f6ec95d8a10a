//! Precedence climbing over the tokens.

use lib_common::{Error, ErrorKind, Result};

use crate::lexer::{tokenise, Token, TokenKind};
use crate::{Expression, Node, Operator};

/// A minus sign binds tighter than `*` and looser than `^`.
const NEGATION: u8 = 3;

/// The expression that the whole of `source` is.
pub fn parse(source: &str) -> Result<Expression> {
    let tokens = tokenise(source)?;
    let mut parser = Parser { tokens: &tokens };
    let expression = parser.expression(0)?;
    parser.expect(&TokenKind::End, "an operator or the end")?;
    Ok(expression)
}

struct Parser<'a> {
    /// Never empty: the last token is `End`.
    tokens: &'a [Token],
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a Token {
        &self.tokens[0]
    }

    fn advance(&mut self) -> &'a Token {
        let token = self.peek();
        if token.kind != TokenKind::End {
            self.tokens = &self.tokens[1..];
        }
        token
    }

    fn expect(&mut self, kind: &TokenKind, wanted: &'static str) -> Result<&'a Token> {
        if self.peek().kind == *kind {
            return Ok(self.advance());
        }
        Err(self.unexpected(wanted))
    }

    fn unexpected(&self, wanted: &'static str) -> Error {
        let token = self.peek();
        let found = token.kind.to_string();
        Error::at(ErrorKind::UnexpectedToken { found, wanted }, token.span)
    }

    fn expression(&mut self, minimum: u8) -> Result<Expression> {
        let mut left = self.prefix()?;
        while let TokenKind::Operator(operator) = self.peek().kind {
            if operator.precedence() < minimum {
                break;
            }
            self.advance();
            let tighter = u8::from(!operator.is_right_associative());
            let right = self.expression(operator.precedence() + tighter)?;
            let span = left.span.join(right.span);
            left = Expression::new(Node::Binary(operator, left.into(), right.into()), span);
        }
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Expression> {
        if self.peek().kind == TokenKind::Operator(Operator::Subtract) {
            let start = self.advance().span;
            let inner = self.expression(NEGATION)?;
            let span = start.join(inner.span);
            return Ok(Expression::new(Node::Negate(inner.into()), span));
        }
        let mut inner = self.primary()?;
        while self.peek().kind == TokenKind::Factorial {
            let span = inner.span.join(self.advance().span);
            inner = Expression::new(Node::Factorial(inner.into()), span);
        }
        Ok(inner)
    }

    fn primary(&mut self) -> Result<Expression> {
        let token = self.peek();
        match &token.kind {
            TokenKind::Number(value) => {
                self.advance();
                Ok(Expression::new(Node::Number(*value), token.span))
            }
            TokenKind::Name(name) => {
                self.advance();
                self.name_or_call(name, token)
            }
            TokenKind::Open => {
                self.advance();
                let inner = self.expression(0)?;
                let end = self.expect(&TokenKind::Close, "a closing bracket")?;
                Ok(Expression { span: token.span.join(end.span), ..inner })
            }
            _ => Err(self.unexpected("a number, a name or a bracket")),
        }
    }

    fn name_or_call(&mut self, name: &str, token: &Token) -> Result<Expression> {
        if self.peek().kind != TokenKind::Open {
            return Ok(Expression::new(Node::Name(name.to_owned()), token.span));
        }
        self.advance();
        let mut arguments = Vec::new();
        if self.peek().kind != TokenKind::Close {
            arguments.push(self.expression(0)?);
            while self.peek().kind == TokenKind::Comma {
                self.advance();
                arguments.push(self.expression(0)?);
            }
        }
        let end = self.expect(&TokenKind::Close, "a comma or a closing bracket")?;
        let span = token.span.join(end.span);
        Ok(Expression::new(Node::Call(name.to_owned(), arguments), span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(source: &str) -> String {
        parse(source).unwrap().to_string()
    }

    #[test]
    fn precedence_and_associativity() {
        assert_eq!(shape("1 + 2 * 3 - 4"), "((1 + (2 * 3)) - 4)");
        assert_eq!(shape("2 ^ 3 ^ 2"), "(2 ^ (3 ^ 2))");
        assert_eq!(shape("-2 ^ 2"), "(-(2 ^ 2))");
        assert_eq!(shape("2 ^ -1"), "(2 ^ (-1))");
        assert_eq!(shape("-3! * 2"), "((-(3!)) * 2)");
        assert_eq!(shape("(1 + 2) * max(3, x)"), "((1 + 2) * max(3, x))");
    }

    #[test]
    fn spans_cover_the_whole() {
        let expression = parse(" (1 + 2) * x ").unwrap();
        assert_eq!(expression.span.to_string(), "1..12");
        assert_eq!(expression.size(), 5);
    }

    #[test]
    fn errors_say_what_was_wanted() {
        let message = |source| parse(source).unwrap_err().to_string();
        assert_eq!(message("1 +"), "expected a number, a name or a bracket, found the end");
        assert_eq!(message("(1"), "expected a closing bracket, found the end");
        assert_eq!(message("1 2"), "expected an operator or the end, found the number 2");
        assert_eq!(message("f(1 2)"), "expected a comma or a closing bracket, found the number 2");
    }
}
