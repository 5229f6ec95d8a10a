//! Macros that read what rustc does not see.
use proc_macro::{Literal, TokenStream, TokenTree};
use std::path::Path;

fn word(input: TokenStream) -> String {
    input.to_string().trim_matches('"').to_string()
}

fn text(value: &str) -> TokenStream {
    TokenTree::Literal(Literal::string(value)).into()
}

/// The text of a file of the package that calls.
#[proc_macro]
pub fn read_file(input: TokenStream) -> TokenStream {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let path = Path::new(&package).join(word(input));
    text(std::fs::read_to_string(path).unwrap_or_else(|_| "no such file".into()).trim())
}

/// The names in a directory of the package that calls.
#[proc_macro]
pub fn list_files(input: TokenStream) -> TokenStream {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let mut names: Vec<String> = std::fs::read_dir(Path::new(&package).join(word(input)))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    text(&names.join(","))
}

/// A variable of the environment, read behind rustc's back.
#[proc_macro]
pub fn read_env(input: TokenStream) -> TokenStream {
    text(&std::env::var(word(input)).unwrap_or_else(|_| "unset".into()))
}

/// A variable of the environment, declared to rustc.
#[proc_macro]
pub fn tracked_env(input: TokenStream) -> TokenStream {
    format!("option_env!({input})").parse().unwrap()
}

/// A constant of this macro's own.
#[proc_macro]
pub fn constant(_: TokenStream) -> TokenStream {
    text("the macro's constant")
}
