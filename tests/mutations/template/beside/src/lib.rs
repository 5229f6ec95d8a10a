//! A package that is no member of the workspace and lies beside it.

pub fn report() -> Vec<String> {
    vec![
        format!("beside.version={}", env!("CARGO_PKG_VERSION")),
        format!("beside.file={}:{}", file!(), line!()),
        format!("beside.text={}", include_str!("../text.txt")),
    ]
}
