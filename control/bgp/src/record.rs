//! Recording what happens to a speaker, and doing it again: the same steps lead to the same outputs, bit for bit.
//!
//! A recording is text, one step a line: the time in nanoseconds, what happened, its arguments. Messages are recorded as
//! the bytes that came, so that a replay decodes them again. Configuration is not part of it: a replay starts from the
//! configuration and the seed that the recorded speaker started from.
//!
//! ```text
//! 0 poll
//! 2310000 connected 1 10.0.0.0:179 10.0.0.1:179 1 10.0.0.0 fd00:: -
//! 4620000 bytes 1 ffffffffffffffffffffffffffffffff001304
//! ```

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::{FromStr, SplitWhitespace};
use core::time::Duration;

use bytes::BytesMut;
use hashbrown::HashMap;

use crate::config::{ConfigError, SpeakerConfig};
use crate::rib::NextHopKey;
use crate::speaker::{Input, Link, Output, Path, Speaker};
use crate::time::Time;
use crate::types::ConnId;
use crate::wire::Decoder;

/// One step, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Time,
    /// What.
    pub step: Step,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The outputs were polled until there were none.
    Poll,
    /// Timers were let act.
    Timeout,
    /// [`Input::Connected`].
    Connected(ConnId, Path),
    /// [`Input::ConnectFailed`].
    ConnectFailed(ConnId, Box<str>),
    /// [`Input::Accepted`].
    Accepted(ConnId, Path),
    /// Bytes came; what they decode to was handed over as one [`Input::Received`].
    Bytes(ConnId, Box<[u8]>),
    /// [`Input::Transmitted`].
    Transmitted(ConnId, usize),
    /// [`Input::Closed`].
    Closed(ConnId, Box<str>),
    /// [`Input::NextHop`].
    NextHop(NextHopKey, Option<u32>),
    /// [`Input::Programmed`].
    Programmed(u64),
}

impl Step {
    /// The step of an input; `None` for those that are configuration, and for [`Input::Received`], whose bytes the shell
    /// knows.
    #[must_use]
    pub fn of(input: &Input) -> Option<Self> {
        Some(match input {
            Input::Connected { conn, path } => Self::Connected(*conn, path.clone()),
            Input::ConnectFailed { conn, reason } => Self::ConnectFailed(*conn, reason.clone()),
            Input::Accepted { conn, path } => Self::Accepted(*conn, path.clone()),
            Input::Transmitted { conn, bytes } => Self::Transmitted(*conn, *bytes),
            Input::Closed { conn, reason } => Self::Closed(*conn, reason.clone()),
            Input::NextHop { key, metric } => Self::NextHop(*key, *metric),
            Input::Programmed { generation } => Self::Programmed(*generation),
            Input::Received { .. }
            | Input::Originate(_)
            | Input::Reconfigure(_)
            | Input::Command(_) => return None,
        })
    }
}

/// A speaker that steps are repeated on.
#[derive(Debug)]
pub struct Replay {
    speaker: Speaker,
    decoders: HashMap<ConnId, (Decoder, BytesMut), foldhash::fast::FixedState>,
}

impl Replay {
    /// Starts from what the recorded speaker started from.
    ///
    /// # Errors
    ///
    /// If the configuration is not valid.
    pub fn new(now: Time, config: SpeakerConfig, seed: u64) -> Result<Self, ConfigError> {
        Ok(Self {
            speaker: Speaker::new(now, config, seed)?,
            decoders: HashMap::default(),
        })
    }

    /// Does one step again; the outputs, for [`Step::Poll`].
    pub fn apply(&mut self, Line { at, step }: Line) -> Vec<Output> {
        let input = match step {
            Step::Poll => return self.poll(at),
            Step::Timeout => {
                self.speaker.handle_timeout(at);
                return Vec::new();
            }
            Step::Bytes(conn, bytes) => match self.decode(conn, &bytes) {
                Some(input) => input,
                None => return Vec::new(),
            },
            Step::Connected(conn, path) => Input::Connected { conn, path },
            Step::ConnectFailed(conn, reason) => Input::ConnectFailed { conn, reason },
            Step::Accepted(conn, path) => Input::Accepted { conn, path },
            Step::Transmitted(conn, bytes) => Input::Transmitted { conn, bytes },
            Step::Closed(conn, reason) => Input::Closed { conn, reason },
            Step::NextHop(key, metric) => Input::NextHop { key, metric },
            Step::Programmed(generation) => Input::Programmed { generation },
        };
        self.speaker.handle(at, input);
        Vec::new()
    }

    /// The speaker, for its queries.
    #[must_use]
    pub const fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    fn poll(&mut self, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.speaker.poll_output(now) {
            match &output {
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
            outputs.push(output);
        }
        outputs
    }

    fn decode(&mut self, conn: ConnId, bytes: &[u8]) -> Option<Input> {
        let (decoder, buffer) = self.decoders.get_mut(&conn)?;
        buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let error = loop {
            match decoder.decode(buffer) {
                Ok(Some(decoded)) => messages.push(decoded),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        Some(Input::Received {
            conn,
            messages,
            error,
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at.since_epoch().as_nanos())?;
        match &self.step {
            Step::Poll => f.write_str("poll"),
            Step::Timeout => f.write_str("timeout"),
            Step::Connected(conn, path) => write_path(f, "connected", *conn, path),
            Step::ConnectFailed(conn, reason) => write_text(f, "connect-failed", *conn, reason),
            Step::Accepted(conn, path) => write_path(f, "accepted", *conn, path),
            Step::Bytes(conn, bytes) => {
                write!(f, "bytes {} ", conn.0)?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Step::Transmitted(conn, bytes) => write!(f, "transmitted {} {bytes}", conn.0),
            Step::Closed(conn, reason) => write_text(f, "closed", *conn, reason),
            Step::NextHop(key, metric) => {
                write!(
                    f,
                    "next-hop {} {} {}",
                    key.addr,
                    or_dash(key.link),
                    or_dash(*metric)
                )
            }
            Step::Programmed(generation) => write!(f, "programmed {generation}"),
        }
    }
}

fn write_path(f: &mut fmt::Formatter<'_>, verb: &str, conn: ConnId, path: &Path) -> fmt::Result {
    write!(f, "{verb} {} {} {}", conn.0, path.local, path.remote)?;
    let Some(link) = &path.link else {
        return Ok(());
    };
    write!(
        f,
        " {} {} {} {}",
        link.index,
        or_dash(link.ipv4),
        or_dash(link.ipv6),
        or_dash(link.link_local)
    )?;
    link.subnets
        .iter()
        .try_for_each(|subnet| write!(f, " {subnet}"))
}

/// The text is the rest of the line; what would end the line becomes a space.
fn write_text(f: &mut fmt::Formatter<'_>, verb: &str, conn: ConnId, text: &str) -> fmt::Result {
    write!(
        f,
        "{verb} {} {}",
        conn.0,
        text.replace(char::is_control, " ")
    )
}

fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// A line that is not a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a step of a recording: {0:?}")]
pub struct ParseLineError(String);

impl FromStr for Line {
    type Err = ParseLineError;

    fn from_str(text: &str) -> Result<Self, ParseLineError> {
        parse(text).ok_or_else(|| ParseLineError(text.chars().take(200).collect()))
    }
}

fn parse(text: &str) -> Option<Line> {
    let mut words = text.split_whitespace();
    let at = Time::from_duration(Duration::from_nanos(words.next()?.parse().ok()?));
    let verb = words.next()?;
    let step = match verb {
        "poll" => Step::Poll,
        "timeout" => Step::Timeout,
        "connected" => Step::Connected(parse_conn(&mut words)?, parse_path(&mut words)?),
        "accepted" => Step::Accepted(parse_conn(&mut words)?, parse_path(&mut words)?),
        "connect-failed" => Step::ConnectFailed(parse_conn(&mut words)?, rest(text)),
        "closed" => Step::Closed(parse_conn(&mut words)?, rest(text)),
        "bytes" => Step::Bytes(parse_conn(&mut words)?, parse_hex(words.next()?)?),
        "transmitted" => Step::Transmitted(parse_conn(&mut words)?, words.next()?.parse().ok()?),
        "next-hop" => {
            let key = NextHopKey {
                addr: words.next()?.parse::<IpAddr>().ok()?,
                link: parse_option(&mut words)?,
            };
            Step::NextHop(key, parse_option(&mut words)?)
        }
        "programmed" => Step::Programmed(words.next()?.parse().ok()?),
        _ => return None,
    };
    let takes_text = matches!(step, Step::ConnectFailed(..) | Step::Closed(..));
    (takes_text || words.next().is_none()).then_some(Line { at, step })
}

/// What follows time, verb and connection.
fn rest(text: &str) -> Box<str> {
    text.splitn(4, ' ').nth(3).unwrap_or_default().into()
}

fn parse_conn(words: &mut SplitWhitespace<'_>) -> Option<ConnId> {
    words.next()?.parse().ok().map(ConnId)
}

fn parse_path(words: &mut SplitWhitespace<'_>) -> Option<Path> {
    let local: SocketAddr = words.next()?.parse().ok()?;
    let remote: SocketAddr = words.next()?.parse().ok()?;
    let link = match words.next() {
        None => None,
        Some(index) => Some(Link {
            index: index.parse().ok()?,
            ipv4: parse_option(words)?,
            ipv6: parse_option(words)?,
            link_local: parse_option(words)?,
            subnets: words.map(|word| word.parse().ok()).collect::<Option<_>>()?,
        }),
    };
    Some(Path {
        local,
        remote,
        link,
    })
}

/// `-` or a value.
fn parse_option<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<Option<T>> {
    match words.next()? {
        "-" => Some(None),
        word => word.parse().ok().map(Some),
    }
}

fn parse_hex(text: &str) -> Option<Box<[u8]>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_reads_back_as_it_was_written() {
        let link = Link {
            index: 3,
            ipv4: Some([192, 0, 2, 100].into()),
            ipv6: None,
            link_local: Some("fe80::1".parse().unwrap()),
            subnets: ["192.0.2.0/24", "2001:db8::/64"]
                .map(|it| it.parse().unwrap())
                .into(),
        };
        let path = |link| Path {
            local: "192.0.2.100:179".parse().unwrap(),
            remote: "[2001:db8::1]:40000".parse().unwrap(),
            link,
        };
        let key = |link| NextHopKey {
            addr: "fe80::2".parse().unwrap(),
            link,
        };
        let conn = crate::speaker::inbound_conn(7);
        let steps = [
            Step::Poll,
            Step::Timeout,
            Step::Connected(ConnId(1), path(Some(link))),
            Step::Accepted(conn, path(None)),
            Step::ConnectFailed(ConnId(2), "connection  refused".into()),
            Step::Closed(conn, "".into()),
            Step::Bytes(conn, [0xff, 0x00, 0x7a].into()),
            Step::Transmitted(conn, 4096),
            Step::NextHop(key(Some(3)), Some(10)),
            Step::NextHop(key(None), None),
            Step::Programmed(9),
        ];
        for (index, step) in steps.into_iter().enumerate() {
            let line = Line {
                at: Time::from_duration(Duration::from_nanos(index as u64)),
                step,
            };
            assert_eq!(line.to_string().parse(), Ok(line));
        }
    }

    #[test]
    fn a_line_that_is_no_step_is_refused_and_shown() {
        for text in [
            "",
            "x poll",
            "1",
            "1 dance",
            "1 poll now",
            "1 bytes 1 abc",
            "1 transmitted 1",
        ] {
            let error = text.parse::<Line>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
