fn main() {
    println!("example of {}: {}", env!("CARGO_PKG_NAME"), base::here());
    println!("{}", user::report().join("\n"));
    println!("{}", gen::report().join("\n"));
}
