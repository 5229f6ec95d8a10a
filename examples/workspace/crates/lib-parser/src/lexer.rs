//! From text to tokens.

use std::fmt;

use lib_common::{Error, ErrorKind, Rational, Result, Span};
use lib_utils::cursor::Cursor;

use crate::Operator;

#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    Number(Rational),
    Name(String),
    Operator(Operator),
    Factorial,
    Open,
    Close,
    Comma,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => write!(f, "the number {value}"),
            Self::Name(name) => write!(f, "the name {name}"),
            Self::Operator(operator) => write!(f, "{operator}"),
            Self::Factorial => f.write_str("!"),
            Self::Open => f.write_str("("),
            Self::Close => f.write_str(")"),
            Self::Comma => f.write_str("a comma"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// All tokens of `source`; the last one is always `End`.
pub fn tokenise(source: &str) -> Result<Vec<Token>> {
    let mut cursor = Cursor::new(source);
    let mut tokens = Vec::new();
    loop {
        cursor.skip_whitespace();
        let start = cursor.offset();
        let Some(c) = cursor.peek() else {
            tokens.push(Token { kind: TokenKind::End, span: Span::new(start, start) });
            return Ok(tokens);
        };
        let kind = match c {
            '0'..='9' | '.' => number(&mut cursor)?,
            c if c.is_alphabetic() => {
                let (name, _) = cursor.take_while(|c| c.is_alphanumeric() || c == '_');
                TokenKind::Name(name.to_owned())
            }
            c => {
                cursor.bump();
                let span = Span::new(start, cursor.offset());
                punctuation(c).ok_or(Error::at(ErrorKind::UnexpectedCharacter(c), span))?
            }
        };
        tokens.push(Token { kind, span: Span::new(start, cursor.offset()) });
    }
}

fn punctuation(c: char) -> Option<TokenKind> {
    match c {
        '(' => Some(TokenKind::Open),
        ')' => Some(TokenKind::Close),
        ',' => Some(TokenKind::Comma),
        '!' => Some(TokenKind::Factorial),
        _ => Operator::from_symbol(c).map(TokenKind::Operator),
    }
}

/// A decimal such as `12`, `0.25` or `.5`, kept exactly.
fn number(cursor: &mut Cursor<'_>) -> Result<TokenKind> {
    let (text, span) = cursor.take_while(|c| c.is_ascii_digit() || c == '.');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || fraction.contains('.') {
        return Err(Error::at(ErrorKind::UnexpectedCharacter('.'), span));
    }
    let overflow = || Error::at(ErrorKind::Overflow, span);
    let numerator = digits.parse::<i128>().map_err(|_| overflow())?;
    let places = u32::try_from(fraction.len()).map_err(|_| overflow())?;
    let denominator = 10_i128.checked_pow(places).ok_or_else(overflow)?;
    Ok(TokenKind::Number(Rational::new(numerator, denominator)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_places() {
        let tokens = tokenise("max( .25,x1)").unwrap();
        let kinds: Vec<_> = tokens.iter().map(|token| token.kind.to_string()).collect();
        let wanted =
            ["the name max", "(", "the number 1/4", "a comma", "the name x1", ")", "the end"];
        assert_eq!(kinds, wanted);
        assert_eq!(tokens[2].span, Span::new(5, 8));
    }

    #[test]
    fn bad_characters_are_pointed_at() {
        let error = tokenise("1 + #").unwrap_err();
        assert_eq!(error, Error::at(ErrorKind::UnexpectedCharacter('#'), Span::new(4, 5)));
        assert!(tokenise("1.2.3").is_err());
        assert!(tokenise(".").is_err());
    }
}
