//! Writes a module, sets environment and cfg; reads files in the package and beside it.
use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

fn main() {
    let out = env::var("OUT_DIR").unwrap();
    println!("cargo::rerun-if-changed=data/table.txt");
    println!("cargo::rerun-if-changed=../assets/schema.txt");
    println!("cargo::rerun-if-env-changed=GEN_LEVEL");
    println!("cargo::rustc-check-cfg=cfg(gen_high)");
    let table = fs::read_to_string("data/table.txt").unwrap();
    let schema = fs::read_to_string("../assets/schema.txt").unwrap();
    let level = env::var("GEN_LEVEL").unwrap_or_else(|_| "none".into());
    println!("cargo::rustc-env=GEN_LEVEL_SEEN={level}");
    println!("cargo::rustc-env=GEN_OPT_LEVEL={}", env::var("OPT_LEVEL").unwrap());
    println!("cargo::rustc-env=GEN_QUIET_SEEN={}", quiet(&out));
    if level == "high" {
        println!("cargo::rustc-cfg=gen_high");
    }
    let code = format!(
        "pub const TABLE: &str = {:?};\npub const SCHEMA: &str = {:?};\n\
         pub fn place() -> String {{ format!(\"{{}}:{{}}\", file!(), line!()) }}\n",
        table.trim(),
        schema.trim()
    );
    fs::write(Path::new(&out).join("generated.rs"), code).unwrap();
    fs::create_dir_all(Path::new(&out).join("more")).unwrap();
    fs::write(Path::new(&out).join("more/words.txt"), table).unwrap();
}

/// What it tells cargo nothing of: files, a listing, a variable, a program, a link, git's state.
fn quiet(out: &str) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or("none".into()).trim().to_owned();
    let mut names: Vec<_> = fs::read_dir("quiet").unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    symlink(format!("{}/quiet", env::var("CARGO_MANIFEST_DIR").unwrap()), format!("{out}/link")).unwrap();
    let helper = Command::new("gen-helper").output().map(|done| done.stdout).unwrap_or_default();
    let parts = [
        read("quiet/a.txt"),
        read("quiet/deep/absent.txt"),
        format!("{names:?}"),
        env::var("GEN_UNDECLARED").unwrap_or_default(),
        String::from_utf8(helper).unwrap().trim().to_owned(),
        read(&format!("{out}/link/b.txt")),
        read("../.git/HEAD"),
    ];
    parts.join("|")
}
