//! Tables of text in aligned columns.

use std::fmt;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    #[default]
    Left,
    Right,
}

/// Rows of cells below a header; cells a row lacks are empty.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = (S, Align)>) -> Self {
        let columns = columns.into_iter().map(|(name, align)| (name.into(), align)).collect();
        Self { columns, rows: Vec::new() }
    }

    pub fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |text: &String| text.chars().count();
        self.columns
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(i));
                cells.map(width).max().unwrap_or(0).max(width(name))
            })
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let header: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        let mut line = |cells: Vec<&str>| {
            let mut text = String::new();
            for (i, (&width, (_, align))) in widths.iter().zip(&self.columns).enumerate() {
                let cell = cells.get(i).copied().unwrap_or("");
                text += if i == 0 { "" } else { "  " };
                text += &match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                };
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(header)?;
        line(rules.iter().map(String::as_str).collect())?;
        self.rows.iter().try_for_each(|row| line(row.iter().map(String::as_str).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new([("name", Align::Left), ("value", Align::Right)]);
        assert!(table.is_empty());
        table.push(["a", "1"]);
        table.push(["größer", "-22/7"]);
        table.push(["short"]);
        assert_eq!(table.len(), 3);
        let lines = ["name    value", "------  -----", "a           1", "größer  -22/7", "short"];
        assert_eq!(table.to_string(), lines.join("\n") + "\n");
    }
}
