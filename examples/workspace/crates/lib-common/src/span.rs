//! Where in the source text something stands.

use std::fmt;

/// A half-open range of byte offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that covers both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }

    /// The text below `source` that points at this span, such as `"    ^^^"`.
    pub fn underline(self, source: &str) -> String {
        let before = source[..self.start.min(source.len())].chars().count();
        let inside = source.get(self.start..self.end).map_or(0, |text| text.chars().count());
        format!("{}{}", " ".repeat(before), "^".repeat(inside.max(1)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn joins_and_underlines() {
        let both = Span::new(4, 6).join(Span::new(2, 5));
        assert_eq!(both, Span::new(2, 6));
        assert_eq!(both.underline("a + bc"), "  ^^^^");
        assert_eq!(Span::new(1, 1).underline("x"), " ^");
    }
}
