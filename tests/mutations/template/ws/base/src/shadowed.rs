pub const VALUE: &str = "a file of its own";
