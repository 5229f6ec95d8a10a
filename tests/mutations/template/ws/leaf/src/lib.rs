//! What everything stands on.

pub const LEAF: u32 = 100;

#[inline]
pub fn inlined(x: u32) -> u32 {
    x + 1
}

pub fn generic<T: std::fmt::Debug>(value: T) -> String {
    format!("leaf({value:?})")
}

#[macro_export]
macro_rules! leaf_macro {
    () => {
        "from leaf's macro"
    };
}
