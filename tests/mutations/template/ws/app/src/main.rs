//! Prints all that a build can put into a program.

extern "C" {
    fn chosen() -> u32;
    fn scripted() -> u32;
    fn plain_value() -> i32;
}

#[no_mangle]
pub extern "C" fn first() -> u32 {
    1
}

#[no_mangle]
pub extern "C" fn second() -> u32 {
    2
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("explode") => base::explode("as told"),
        Some("overflow") => return println!("{}", base::overflow(100)),
        _ => {}
    }
    let mut lines = base::report();
    lines.extend(gen::report());
    lines.extend(user::report());
    lines.push(format!("app.csys={}", csys::value()));
    lines.push(format!("app.csys_level={}", env!("CSYS_LEVEL")));
    lines.push(format!("app.renamed={} {}", renamed::LEAF, renamed::generic("x")));
    lines.push(format!("app.extra={}", cfg!(feature = "extra")));
    lines.push(format!("app.bin={:?}", option_env!("CARGO_BIN_NAME")));
    lines.push(format!("app.version={}", env!("CARGO_PKG_VERSION")));
    lines.push(format!("app.here={}", base::here()));
    lines.push(unsafe {
        format!("app.linked={} {} {}", chosen(), scripted(), plain_value())
    });
    println!("{}", lines.join("\n"));
}
