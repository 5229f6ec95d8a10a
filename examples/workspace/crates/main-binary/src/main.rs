//! Evaluates the expressions given as arguments, or a demonstration, and prints a table.

use std::env;
use std::process::ExitCode;

use lib_advanced::{Evaluator, Report, FUNCTION_NAMES};
use lib_common::{Rational, Result};
use lib_math::fractions;
use lib_utils::table::{Align, Table};

const DEMONSTRATION: [&str; 8] = [
    "1/3 + 1/6",
    "0.1 + 0.2",
    "2 ^ 10 - 4!",
    "-(2/3) ^ -3",
    "near(pi, 200)",
    "choose(49, 6)",
    "mean(1, 1/2, 1/4, 1/8)",
    "sqrt(2) * 1 + 0",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--help" | "-h") => help(),
        Some("--terms") => terms(&arguments[1..]),
        Some(_) => run(&arguments),
        None => run(&DEMONSTRATION),
    }
}

fn help() -> ExitCode {
    println!("usage: main-binary [--terms] [EXPRESSION]...");
    println!("functions: {}", FUNCTION_NAMES.join(", "));
    println!("constants: pi, e (as fractions)");
    ExitCode::SUCCESS
}

fn evaluator() -> Result<Evaluator> {
    let pi = Rational::new(3_141_592_653_589_793, 1_000_000_000_000_000)?;
    let e = Rational::new(2_718_281_828_459_045, 1_000_000_000_000_000)?;
    Ok(Evaluator::new().with("pi", pi).with("e", e))
}

fn run<S: AsRef<str>>(sources: &[S]) -> ExitCode {
    let evaluator = match evaluator() {
        Ok(evaluator) => evaluator,
        Err(error) => return fail(&error),
    };
    let report = Report::of(&evaluator, sources);
    print!("{report}");
    let errors: Vec<String> = report.errors().collect();
    for error in &errors {
        eprintln!("{error}");
    }
    if errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The continued fraction of each expression.
fn terms(sources: &[String]) -> ExitCode {
    let mut table = Table::new([("expression", Align::Left), ("terms", Align::Left)]);
    for source in sources {
        let value =
            lib_parser::parse(source).and_then(|expression| evaluator()?.evaluate(&expression));
        match value {
            Ok(value) => {
                let terms: Vec<String> =
                    fractions::terms(value).iter().map(ToString::to_string).collect();
                table.push([source.clone(), terms.join(" ")]);
            }
            Err(error) => return fail(&error),
        }
    }
    print!("{table}");
    ExitCode::SUCCESS
}

fn fail(error: &lib_common::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
