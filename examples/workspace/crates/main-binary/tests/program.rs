//! Runs the program the way a user does.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_main-binary")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn the_demonstration_is_the_same_each_time() {
    let first = run(&[]);
    assert!(first.status.success());
    assert_eq!(first.stdout, run(&[]).stdout);
    assert!(stdout(&first).contains("355/113"), "{}", stdout(&first));
    assert!(stdout(&first).contains("13983816"));
}

#[test]
fn arguments_are_evaluated() {
    let output = run(&["1/3 + 1/6", "sum(1, 2, 3)!"]);
    assert!(output.status.success());
    let wanted = "\
expression     simplified       exact  decimal
-------------  ---------------  -----  -------
1/3 + 1/6      1/2                1/2      0.5
sum(1, 2, 3)!  (sum(1, 2, 3)!)    720      720

mean 360.25, median 360.25, variance 129420.0625
";
    assert_eq!(stdout(&output), wanted);
}

#[test]
fn errors_point_and_fail() {
    let output = run(&["1 / (2 - 2)"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message, "error: division by zero\n  1 / (2 - 2)\n  ^^^^^^^^^^^\n");
}

#[test]
fn continued_fractions() {
    let output = run(&["--terms", "415/93"]);
    assert!(stdout(&output).ends_with("415/93      4 2 6 7\n"), "{}", stdout(&output));
}
