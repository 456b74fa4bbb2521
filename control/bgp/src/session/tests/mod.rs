//! The state machine, sentence by sentence, on one speaker driven by hand.

mod collision;
mod confederation;
mod errors;
mod graceful;
mod history;
mod management;
mod states;
