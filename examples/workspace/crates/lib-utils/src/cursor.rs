//! A cursor over the characters of a text that knows its place.

use std::iter::Peekable;
use std::str::CharIndices;

use lib_common::Span;

#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, rest: text.char_indices().peekable() }
    }

    /// The byte offset of the next character, or the length of the text at its end.
    pub fn offset(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |&(at, _)| at)
    }

    pub fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|&(_, c)| c)
    }

    pub fn bump(&mut self) -> Option<char> {
        self.rest.next().map(|(_, c)| c)
    }

    /// Takes characters while `wanted` holds; the text and where it stands.
    pub fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> (&'a str, Span) {
        let start = self.offset();
        while self.rest.next_if(|&(_, c)| wanted(c)).is_some() {}
        let end = self.offset();
        (&self.text[start..end], Span::new(start, end))
    }

    pub fn skip_whitespace(&mut self) {
        self.take_while(char::is_whitespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_words_with_their_places() {
        let mut cursor = Cursor::new("  äb1+");
        cursor.skip_whitespace();
        let (word, span) = cursor.take_while(char::is_alphanumeric);
        assert_eq!((word, span), ("äb1", Span::new(2, 6)));
        assert_eq!(cursor.peek(), Some('+'));
        assert_eq!(cursor.bump(), Some('+'));
        assert_eq!(cursor.bump(), None);
        assert_eq!(cursor.offset(), 7);
    }
}
