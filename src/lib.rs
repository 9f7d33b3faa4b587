pub mod lead;
pub mod path;
