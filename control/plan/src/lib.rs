//! Being written.

mod op;

pub use op::Op;
