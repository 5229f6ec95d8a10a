//! The operators, generated from `operators.txt` by the build script.

use std::fmt;

struct Row {
    symbol: char,
    operator: Operator,
    precedence: u8,
    right: bool,
}

include!(concat!(env!("OUT_DIR"), "/operators.rs"));

impl Operator {
    pub fn from_symbol(symbol: char) -> Option<Self> {
        ROWS.iter().find(|row| row.symbol == symbol).map(|row| row.operator)
    }

    pub fn symbol(self) -> char {
        self.row().symbol
    }

    /// How tightly it binds; more is tighter.
    pub fn precedence(self) -> u8 {
        self.row().precedence
    }

    pub fn is_right_associative(self) -> bool {
        self.row().right
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.symbol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for row in ROWS {
            assert_eq!(row.operator.symbol(), row.symbol);
            assert_eq!(Operator::from_symbol(row.symbol), Some(row.operator));
        }
        assert_eq!(Operator::from_symbol('?'), None);
        assert!(Operator::Power.is_right_associative());
        assert!(Operator::Multiply.precedence() > Operator::Add.precedence());
    }
}
