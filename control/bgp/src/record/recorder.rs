//! Writing steps down while a speaker runs.

use core::fmt::{self, Write as _};

use super::output::Digest;
use super::step::{Line, Polled, Step};
use crate::speaker::{Input, Output};
use crate::time::Time;
use crate::types::ConnId;

/// Writes down what a shell does to its speaker, in the order in which it does it. The text piles up until it is taken.
#[derive(Debug)]
pub struct Recorder {
    text: String,
    /// Polls at one time with nothing in between are one line.
    polled: Option<(Time, Polled)>,
    /// The speaker has said that there is nothing more, and nothing has happened to it since: asking again is no step.
    resting: bool,
}

impl Recorder {
    /// Begins with the seed of the speaker. A comment, such as the name and version of the shell, is for people.
    #[must_use]
    pub fn new(seed: u64, comment: &str) -> Self {
        let comment = comment.replace(char::is_control, " ");
        Self {
            text: format!("{}\n# {comment}\nseed {seed}\n", super::HEADER),
            polled: None,
            resting: false,
        }
    }

    /// The speaker was made from this configuration, the first time, or got it by [`Input::Reconfigure`].
    pub fn configure(&mut self, at: Time, text: &str) {
        self.step(at, Step::Configure(text.into()));
    }

    /// An input, right before the speaker takes it in. Configurations and messages, which need more than the input shows,
    /// have methods of their own and are left out here.
    pub fn input(&mut self, at: Time, input: &Input) {
        if let Some(step) = Step::of(input) {
            self.step(at, step);
        }
    }

    /// [`Input::Received`] with this many messages, and an error or not, decoded from these bytes. With an error the bytes
    /// are all that came and had not been decoded before.
    pub fn received(&mut self, at: Time, conn: ConnId, messages: usize, error: bool, bytes: &[u8]) {
        let step = Step::Received {
            conn,
            messages,
            error,
            bytes: bytes.into(),
        };
        self.step(at, step);
    }

    /// [`crate::speaker::Speaker::handle_timeout`] is called.
    pub fn timeout(&mut self, at: Time) {
        self.step(at, Step::Timeout);
    }

    /// What one call of [`crate::speaker::Speaker::poll_output`] yielded.
    pub fn polled(&mut self, at: Time, output: Option<&Output>) {
        if self.resting && output.is_none() {
            return;
        }
        self.resting = output.is_none();
        if self
            .polled
            .is_some_and(|(since, polled)| since != at || polled.idle)
        {
            self.finish_poll();
        }
        let (_, polled) = self.polled.get_or_insert((at, Polled::default()));
        match output {
            Some(output) => polled.add(output),
            None => polled.idle = true,
        }
    }

    /// The recording ends here, for this reason; nothing more is written to it.
    pub fn end(&mut self, at: Time, reason: &str) {
        self.step(at, Step::End(reason.into()));
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What was written since the last time, whole lines.
    pub fn take(&mut self) -> String {
        core::mem::take(&mut self.text)
    }

    fn step(&mut self, at: Time, step: Step) {
        self.finish_poll();
        self.resting = false;
        self.line(&Line { at, step });
    }

    fn finish_poll(&mut self) {
        if let Some((at, polled)) = self.polled.take() {
            self.line(&Line {
                at,
                step: Step::Poll(polled),
            });
        }
    }

    fn line(&mut self, line: &Line) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

impl Polled {
    /// One more output.
    pub(super) fn add(&mut self, output: &Output) {
        let mut digest = Digest(self.digest);
        digest.add(output);
        self.digest = digest.0;
        self.outputs += 1;
    }
}

impl Default for Polled {
    fn default() -> Self {
        Self {
            outputs: 0,
            idle: false,
            digest: Digest::default().0,
        }
    }
}

impl fmt::Display for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.idle { "idle" } else { "more" };
        write!(f, "{} {end} {}", self.outputs, Digest(self.digest))
    }
}
