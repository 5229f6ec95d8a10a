//! Writes a module, sets environment and cfg; reads files in the package and beside it.
use std::{env, fs, path::Path};

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
