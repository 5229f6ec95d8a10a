fn main() {
    println!("bench {} {}", gen::SCHEMA, cfg!(debug_assertions));
}
