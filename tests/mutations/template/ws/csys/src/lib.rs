//! A C library's binding.

extern "C" {
    fn csys_value() -> i32;
}

pub fn value() -> i32 {
    unsafe { csys_value() }
}
