//! Evaluation, simplification and reports over the syntax tree.

mod evaluate;
mod functions;
mod report;
mod simplify;

pub use evaluate::Evaluator;
pub use functions::FUNCTION_NAMES;
pub use report::{Outcome, Report};
pub use simplify::simplify;
