//! The state machine, sentence by sentence, on one speaker driven by hand.

mod errors;
mod graceful;
mod management;
mod states;
