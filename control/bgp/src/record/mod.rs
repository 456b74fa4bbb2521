//! Recording what happens to a speaker, and doing it again: the same steps lead to the same outputs, bit for bit.
//!
//! A recording is text and stands for itself: the seed, the configuration, then every step with its time in nanoseconds.
//! Messages are recorded as the bytes that came, so that a replay decodes them again. What the speaker said is there as a
//! count and a digest, by which the replay proves that it says the same.
//!
//! ```text
//! causeway-recording 1
//! # causewayd 0.1.0
//! seed 4271
//! 0 configure
//!   asn: 65000
//! 0 poll 3 idle 5d1b6a0d0d3f4c11
//! 2310000 connected 1 10.0.0.0:179 10.0.0.1:179 1 10.0.0.0 fd00:: -
//! 4620000 received 1 1 ok ffffffffffffffffffffffffffffffff001304
//! 9000000 end stopped
//! ```
//!
//! Lines that begin with `#` and empty lines mean nothing; lines that begin with two spaces belong to the step above them.
//! How a configuration is written is the shell's affair: it hands over a text that holds no secrets, and the replay is given
//! the function that makes a [`SpeakerConfig`](crate::config::SpeakerConfig) of it. Keys of TCP MD5 are in no line.
//!
//! 1. [`Step`] is what happened, [`Line`] adds the time and is read and written; [`Recording`] reads a whole file.
//! 2. [`Recorder`] writes them while a speaker runs.
//! 3. [`Replay`] does them again and compares.
//! 4. [`Shown`] is an output as text, [`Digest`] what is left of many.

mod originated;
mod output;
mod recorder;
mod replay;
mod step;

pub use output::{Digest, Shown};
pub use recorder::Recorder;
pub use replay::{Difference, Replay, ReplayError};
pub use step::{Line, ParseError, Polled, Recording, Step};

/// The first line of a recording. The number changes when old readers would misread a new recording.
pub const HEADER: &str = "causeway-recording 1";
