pub fn value() -> String {
    format!("deep one, {}:{}", file!(), line!())
}
