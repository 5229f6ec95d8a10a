//! What came of a list of expressions, as a table and a summary.

use std::fmt;

use lib_common::{Rational, Result};
use lib_math::statistics;
use lib_parser::parse;
use lib_utils::table::{Align, Table};

use crate::{simplify, Evaluator};

const DECIMALS: usize = 8;

/// One expression: its simplified form and its value, or why there is none.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub source: String,
    pub result: Result<(String, Rational)>,
}

/// The outcomes of several expressions in their order.
#[derive(Clone, Debug)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
}

impl Report {
    pub fn of<S: AsRef<str>>(evaluator: &Evaluator, sources: &[S]) -> Self {
        let outcome = |source: &S| {
            let source = source.as_ref();
            let result = parse(source).and_then(|expression| {
                let value = evaluator.evaluate(&expression)?;
                Ok((simplify(&expression).to_string(), value))
            });
            Outcome { source: source.to_owned(), result }
        };
        Self { outcomes: sources.iter().map(outcome).collect() }
    }

    pub fn values(&self) -> Vec<Rational> {
        let values = self.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        values.map(|&(_, value)| value).collect()
    }

    /// The errors with the expression and a line that points at the place.
    pub fn errors(&self) -> impl Iterator<Item = String> + '_ {
        self.outcomes.iter().filter_map(|outcome| {
            let error = outcome.result.as_ref().err()?;
            let span = error.span.unwrap_or_default();
            let underline = span.underline(&outcome.source);
            Some(format!("error: {error}\n  {}\n  {underline}", outcome.source))
        })
    }

    /// Mean, median and variance of the values, as far as they fit.
    pub fn summary(&self) -> Vec<(&'static str, Rational)> {
        type Statistic = fn(&[Rational]) -> Result<Rational>;
        let wanted: [(&str, Statistic); 3] = [
            ("mean", statistics::mean),
            ("median", statistics::median),
            ("variance", statistics::variance),
        ];
        let values = self.values();
        let computed = wanted.into_iter().map(|(name, of)| (name, of(&values)));
        computed.filter_map(|(name, result)| result.ok().map(|value| (name, value))).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            ("expression", Align::Left),
            ("simplified", Align::Left),
            ("exact", Align::Right),
            ("decimal", Align::Right),
        ]);
        for outcome in &self.outcomes {
            if let Ok((simplified, value)) = &outcome.result {
                let decimal = value.to_decimal(DECIMALS);
                table.push([&outcome.source, simplified, &value.to_string(), &decimal]);
            }
        }
        if !table.is_empty() {
            write!(f, "{table}")?;
        }
        let summary = self.summary();
        if table.len() > 1 && !summary.is_empty() {
            let parts: Vec<String> = summary
                .iter()
                .map(|(name, value)| format!("{name} {}", value.to_decimal(DECIMALS)))
                .collect();
            writeln!(f, "\n{}", parts.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_what_worked() {
        let report = Report::of(&Evaluator::new(), &["1/3", "1 +", "2/3"]);
        assert_eq!(report.values().len(), 2);
        let text = report.to_string();
        assert!(text.contains("mean 0.5, median 0.5, variance 0.02777777…"), "{text}");
        let errors: Vec<String> = report.errors().collect();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].ends_with("\n  1 +\n     ^"), "{}", errors[0]);
    }

    #[test]
    fn nothing_of_nothing() {
        let report = Report::of::<&str>(&Evaluator::new(), &[]);
        assert_eq!(report.to_string(), "");
        assert!(report.summary().is_empty());
    }
}
