//! Text: a cursor over characters, aligned tables, spelling suggestions.

pub mod cursor;
pub mod spelling;
pub mod table;
