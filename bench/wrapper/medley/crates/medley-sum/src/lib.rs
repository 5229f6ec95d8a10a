//! A checksum, in C.

extern "C" {
    fn medley_sum(data: *const u8, size: usize) -> u32;
}

/// Adler's checksum of some bytes.
pub fn sum(data: &[u8]) -> u32 {
    // SAFETY: the function reads so many bytes from there, and keeps nothing.
    unsafe { medley_sum(data.as_ptr(), data.len()) }
}
