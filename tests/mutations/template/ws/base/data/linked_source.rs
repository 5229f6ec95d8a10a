pub const VALUE: &str = "by its link";
