//! The one error type of the workspace.

use std::fmt;

use crate::Span;

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, without where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    UnexpectedCharacter(char),
    UnexpectedToken { found: String, wanted: &'static str },
    UnknownName { name: String, suggestion: Option<String> },
    WrongArguments { function: String, wanted: &'static str, got: usize },
    NotAnInteger,
    DivisionByZero,
    Overflow,
}

/// What went wrong and, when it is known, where in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorKind,
    pub span: Option<Span>,
}

impl Error {
    pub const fn at(kind: ErrorKind, span: Span) -> Self {
        Self { kind, span: Some(span) }
    }

    /// Adds a place to an error that has none yet.
    #[must_use]
    pub fn or_at(self, span: Span) -> Self {
        Self { span: self.span.or(Some(span)), ..self }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, span: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::UnexpectedCharacter(c) => write!(f, "unexpected character {c:?}"),
            ErrorKind::UnexpectedToken { found, wanted } => {
                write!(f, "expected {wanted}, found {found}")
            }
            ErrorKind::UnknownName { name, suggestion: None } => write!(f, "unknown name {name}"),
            ErrorKind::UnknownName { name, suggestion: Some(close) } => {
                write!(f, "unknown name {name}; did you mean {close}?")
            }
            ErrorKind::WrongArguments { function, wanted, got } => {
                write!(f, "{function} takes {wanted}, got {got}")
            }
            ErrorKind::NotAnInteger => f.write_str("a whole number is needed here"),
            ErrorKind::DivisionByZero => f.write_str("division by zero"),
            ErrorKind::Overflow => f.write_str("the number does not fit"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_stays() {
        let error = Error::from(ErrorKind::Overflow).or_at(Span::new(1, 2));
        assert_eq!(error.clone().or_at(Span::new(5, 6)), error);
    }

    #[test]
    fn messages_name_the_suggestion() {
        let kind = ErrorKind::UnknownName { name: "men".into(), suggestion: Some("mean".into()) };
        assert_eq!(Error::from(kind).to_string(), "unknown name men; did you mean mean?");
    }
}
