//! What can go wrong.

use core::fmt;
use std::io;

use crate::wire::Malformed;

/// A request or a socket failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on the socket failed.
    #[error("cannot {what} a netlink socket")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The carrier of links can't be watched.
    #[error("cannot watch the carrier of links")]
    Carrier(#[source] io::Error),
    /// The kernel refused a request.
    #[error("the kernel refused to {request}: {error}")]
    Refused {
        /// What was asked.
        request: String,
        /// Its answer.
        error: KernelError,
    },
    /// The kernel's answer makes no sense.
    #[error("the kernel's answer to the request to {request} is malformed: {error}")]
    Malformed {
        /// What was asked.
        request: String,
        /// What is wrong with it.
        error: Malformed,
    },
    /// A dump was interrupted by changes each time it was tried.
    #[error("the list of {what} changed during each of {tries} attempts to read it")]
    Restless {
        /// What was listed.
        what: &'static str,
        /// Attempts.
        tries: u32,
    },
    /// There was no room for the answers.
    #[error("answers of the kernel to the request to {request} were lost")]
    Lost {
        /// What was asked.
        request: String,
    },
    /// No answer came.
    #[error("the kernel did not answer the request to {request} within {millis} ms")]
    Silent {
        /// What was asked.
        request: String,
        /// How long we waited.
        millis: u128,
    },
}

/// A refusal: an error number and, where the kernel gives one, its explanation (extended acknowledgement).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// `errno`, positive.
    pub errno: i32,
    /// The kernel's words.
    pub message: Option<String>,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = io::Error::from_raw_os_error(self.errno);
        match &self.message {
            Some(message) => write!(f, "{message} ({error})"),
            None => error.fmt(f),
        }
    }
}
