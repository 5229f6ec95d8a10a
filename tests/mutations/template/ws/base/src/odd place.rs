pub const VALUE: &str = "from an odd place";
