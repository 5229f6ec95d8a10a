//! Arguments for the linker, a library that was there before, and what csys says of itself.
use std::{env, fs};

fn main() {
    let package = env::var("CARGO_MANIFEST_DIR").unwrap();
    for file in ["link.txt", "extra.ld", "../native/libplain.a"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let chosen = fs::read_to_string("link.txt").unwrap();
    println!("cargo::rustc-link-arg-bins=-Wl,--defsym=chosen={}", chosen.trim());
    println!("cargo::rustc-link-arg-bins={package}/extra.ld");
    println!("cargo::rustc-link-search=native={package}/../native");
    println!("cargo::rustc-link-lib=static=plain");
    println!("cargo::rustc-env=CSYS_LEVEL={}", env::var("DEP_CSYS_LEVEL").unwrap());
}
