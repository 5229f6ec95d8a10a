#[test]
fn runs_the_program() {
    let program = env!("CARGO_BIN_EXE_app");
    println!("{}", base::split(program));
    println!("{}", base::split(env!("CARGO_TARGET_TMPDIR")));
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/link.txt");
    println!("fixture={}", std::fs::read_to_string(fixture).unwrap().trim());
    let output = std::process::Command::new(program).output().unwrap();
    println!("{} {}", output.status, output.stdout.iter().filter(|b| **b == b'\n').count());
}
