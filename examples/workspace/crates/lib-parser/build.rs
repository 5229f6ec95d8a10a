//! Turns operators.txt into the `Operator` enum and its table.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

const SOURCE: &str = "operators.txt";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SOURCE}");
    let source = fs::read_to_string(SOURCE)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("operators.rs"), generate(&source)?)?;
    Ok(())
}

fn generate(source: &str) -> Result<String, Box<dyn Error>> {
    let mut variants = String::new();
    let mut rows = String::new();
    for line in source.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[symbol, name, precedence, associativity] = fields.as_slice() else {
            return Err(format!("not four fields: {line:?}").into());
        };
        let right = associativity == "right";
        let symbol = symbol.chars().next().ok_or("an operator needs a symbol")?;
        let precedence: u8 = precedence.parse()?;
        writeln!(variants, "    {name},")?;
        writeln!(
            rows,
            "    Row {{ symbol: {symbol:?}, operator: Operator::{name}, \
             precedence: {precedence}, right: {right} }},"
        )?;
    }
    Ok(format!(
        "/// An operator between two expressions.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]\n\
         pub enum Operator {{\n{variants}}}\n\n\
         const ROWS: &[Row] = &[\n{rows}];\n"
    ))
}
