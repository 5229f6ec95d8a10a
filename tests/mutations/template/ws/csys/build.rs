//! Compiles C by hand, as -sys crates do, and tells dependents with DEP_CSYS_….
use std::{env, path::Path, process::Command};

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let object = Path::new(&out).join("csys.o");
    let library = Path::new(&out).join("libcsys.a");
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-env-changed=CSYS_CFLAGS");
    let flags = env::var("CSYS_CFLAGS").unwrap_or_default();
    run(Command::new("cc")
        .args(["-c", "-O1", "-fPIC", "c/csys.c", "-o"])
        .arg(&object)
        .args(flags.split_whitespace()));
    let _ = std::fs::remove_file(&library);
    run(Command::new("ar").arg("crsD").arg(&library).arg(&object));
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-lib=static=csys");
    println!("cargo::metadata=level={}", std::fs::read_to_string("c/level.txt").unwrap().trim());
}
