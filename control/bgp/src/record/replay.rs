//! Doing recorded steps again.

use core::fmt;

use bytes::BytesMut;
use hashbrown::HashMap;

use super::step::{Line, Polled, Step};
use crate::config::{ConfigError, SpeakerConfig};
use crate::speaker::{Input, Output, Speaker};
use crate::time::Time;
use crate::types::ConnId;
use crate::wire::Decoder;

/// A speaker that steps are repeated on. `L` makes a configuration of the text that was recorded.
pub struct Replay<L> {
    lower: L,
    seed: u64,
    now: Time,
    speaker: Option<Speaker>,
    decoders: HashMap<ConnId, (Decoder, BytesMut), foldhash::fast::FixedState>,
}

/// A step that can't be done again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The text of a configuration is not understood, or the host of the recording lacked something.
    #[error("the recorded configuration can't be used: {0}")]
    Text(String),
    /// A configuration is not valid.
    #[error("the recorded configuration is refused: {0}")]
    Config(#[from] ConfigError),
    /// The recording does not begin with a configuration.
    #[error("a step before the first `configure`; the recording lacks its beginning")]
    Unconfigured,
    /// Bytes of a connection that the speaker never started to read.
    #[error("bytes of connection {0}, which the replayed speaker does not read")]
    UnknownConnection(u64),
    /// What the bytes decode to is not what was decoded when they were recorded.
    #[error("connection {0}: {1} messages were recorded, the bytes decode to {2}")]
    OtherMessages(u64, usize, usize),
}

/// The replayed speaker says something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// When.
    pub at: Time,
    /// What was recorded.
    pub recorded: Polled,
    /// What was said now.
    pub replayed: Polled,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at {} ns: recorded {}, replayed {}",
            self.at.since_epoch().as_nanos(),
            self.recorded,
            self.replayed
        )
    }
}

impl<L: FnMut(&str) -> Result<SpeakerConfig, String>> Replay<L> {
    /// Starts from the seed of a recording; its first step configures.
    pub fn new(seed: u64, lower: L) -> Self {
        Self {
            lower,
            seed,
            now: Time::ZERO,
            speaker: None,
            decoders: HashMap::default(),
        }
    }

    /// Does one step again. Returns what the speaker said and, where that is not what was recorded, the difference; one may
    /// go on after it.
    ///
    /// # Errors
    ///
    /// The step can't be done, and none after it.
    pub fn apply(&mut self, line: Line) -> Result<(Vec<Output>, Option<Difference>), ReplayError> {
        let Line { at, step } = line;
        self.now = at;
        let input = match step {
            Step::Poll(recorded) => return self.poll(at, recorded),
            Step::Configure(text) => {
                let config = (self.lower)(&text).map_err(ReplayError::Text)?;
                if self.speaker.is_none() {
                    self.speaker = Some(Speaker::new(at, config, self.seed)?);
                    return Ok((Vec::new(), None));
                }
                Input::Reconfigure(Box::new(config))
            }
            Step::Timeout => {
                self.running()?.handle_timeout(at);
                return Ok((Vec::new(), None));
            }
            Step::End(_) => return Ok((Vec::new(), None)),
            Step::Received {
                conn,
                messages,
                error,
                bytes,
            } => self.decode(conn, messages, error, &bytes)?,
            Step::Connected(conn, path) => Input::Connected { conn, path },
            Step::ConnectFailed(conn, reason) => Input::ConnectFailed { conn, reason },
            Step::Accepted(conn, path) => Input::Accepted { conn, path },
            Step::Transmitted(conn, bytes) => Input::Transmitted { conn, bytes },
            Step::Closed(conn, reason) => {
                self.decoders.remove(&conn);
                Input::Closed { conn, reason }
            }
            Step::NextHop(key, metric) => Input::NextHop { key, metric },
            Step::Programmed(generation) => Input::Programmed { generation },
            Step::ProgramFailed(prefixes) => Input::ProgramFailed { prefixes },
            Step::ProgramRecovered(prefixes) => Input::ProgramRecovered { prefixes },
            Step::Originate(originated) => Input::Originate(originated),
            Step::Command(command) => Input::Command(command),
        };
        self.running()?.handle(at, input);
        Ok((Vec::new(), None))
    }

    /// The speaker, for its queries, once it is configured.
    #[must_use]
    pub const fn speaker(&self) -> Option<&Speaker> {
        self.speaker.as_ref()
    }

    /// The speaker itself.
    #[must_use]
    pub fn into_speaker(self) -> Option<Speaker> {
        self.speaker
    }

    /// The time of the last step.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    fn running(&mut self) -> Result<&mut Speaker, ReplayError> {
        self.speaker.as_mut().ok_or(ReplayError::Unconfigured)
    }

    /// Polls as often as was recorded.
    fn poll(
        &mut self,
        at: Time,
        recorded: Polled,
    ) -> Result<(Vec<Output>, Option<Difference>), ReplayError> {
        let mut outputs = Vec::new();
        let mut replayed = Polled::default();
        let calls = recorded.outputs + u64::from(recorded.idle);
        for _ in 0..calls {
            let Some(output) = self.running()?.poll_output(at) else {
                replayed.idle = true;
                break;
            };
            self.note(&output);
            replayed.add(&output);
            outputs.push(output);
        }
        let difference = (replayed != recorded).then_some(Difference {
            at,
            recorded,
            replayed,
        });
        Ok((outputs, difference))
    }

    fn note(&mut self, output: &Output) {
        match output {
            Output::Start {
                conn,
                open,
                decoder,
                ..
            } => {
                let decoder = Decoder::new(open, decoder.clone());
                self.decoders.insert(*conn, (decoder, BytesMut::new()));
            }
            Output::Close { conn, .. } => {
                self.decoders.remove(conn);
            }
            _ => {}
        }
    }

    fn decode(
        &mut self,
        conn: ConnId,
        recorded: usize,
        with_error: bool,
        bytes: &[u8],
    ) -> Result<Input, ReplayError> {
        let (decoder, buffer) = self
            .decoders
            .get_mut(&conn)
            .ok_or(ReplayError::UnknownConnection(conn.0))?;
        buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let mut error = None;
        // The reader stopped where its batch was full; what one UPDATE still holds comes with the next.
        while error.is_none() && (messages.len() < recorded || with_error) {
            match decoder.decode(buffer) {
                Ok(Some(decoded)) => messages.push(decoded),
                Ok(None) => break,
                Err(found) => error = Some(found),
            }
        }
        if (messages.len(), error.is_some()) != (recorded, with_error) {
            return Err(ReplayError::OtherMessages(conn.0, recorded, messages.len()));
        }
        Ok(Input::Received {
            conn,
            messages,
            error,
        })
    }
}

impl<L> fmt::Debug for Replay<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("now", &self.now)
            .field("speaker", &self.speaker)
            .finish_non_exhaustive()
    }
}
