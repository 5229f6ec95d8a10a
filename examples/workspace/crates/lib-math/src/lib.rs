//! Number theory and statistics over exact rationals.

pub mod fractions;
pub mod integers;
pub mod statistics;
