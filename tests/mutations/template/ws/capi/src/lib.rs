//! For programs of other languages.

#[no_mangle]
pub extern "C" fn capi_value() -> u32 {
    leaf::inlined(leaf::LEAF) + 7
}
