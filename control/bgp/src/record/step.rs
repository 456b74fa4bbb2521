//! Steps, and how they are written and read.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::{FromStr, SplitWhitespace};
use core::time::Duration;

use super::output::write_hex;
use super::{HEADER, originated};
use crate::config::ShutdownMessage;
use crate::origin::Originated;
use crate::rib::NextHopKey;
use crate::speaker::{Command, Input, Link, Path};
use crate::time::Time;
use crate::types::{ConnId, Family, PeerId, Prefix};

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
    /// The speaker was made from this configuration, the first time, or got it by [`Input::Reconfigure`]. In the words of
    /// the shell, without secrets.
    Configure(Box<str>),
    /// Outputs were polled.
    Poll(Polled),
    /// Timers were let act.
    Timeout,
    /// [`Input::Connected`].
    Connected(ConnId, Path),
    /// [`Input::ConnectFailed`].
    ConnectFailed(ConnId, Box<str>),
    /// [`Input::Accepted`].
    Accepted(ConnId, Path),
    /// [`Input::Received`].
    Received {
        /// Connection.
        conn: ConnId,
        /// Messages that were decoded.
        messages: usize,
        /// Decoding ended with an error after them.
        error: bool,
        /// What they were decoded from; with an error, all that had come.
        bytes: Box<[u8]>,
    },
    /// [`Input::Transmitted`].
    Transmitted(ConnId, usize),
    /// [`Input::Closed`].
    Closed(ConnId, Box<str>),
    /// [`Input::NextHop`].
    NextHop(NextHopKey, Option<u32>),
    /// [`Input::Programmed`].
    Programmed(u64),
    /// [`Input::ProgramFailed`].
    ProgramFailed(Vec<Prefix>),
    /// [`Input::ProgramRecovered`].
    ProgramRecovered(Vec<Prefix>),
    /// [`Input::Originate`].
    Originate(Vec<Originated>),
    /// [`Input::Command`].
    Command(Command),
    /// The recording ends, for this reason. One without it was cut off.
    End(Box<str>),
}

/// What a poll yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Outputs.
    pub outputs: u64,
    /// There were no more after them, or the shell did not ask.
    pub idle: bool,
    /// Their [`super::Digest`].
    pub digest: u64,
}

impl Step {
    /// The step of an input; `None` for configurations and messages, of which more must be known.
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
            Input::ProgramFailed { prefixes } => Self::ProgramFailed(prefixes.clone()),
            Input::ProgramRecovered { prefixes } => Self::ProgramRecovered(prefixes.clone()),
            Input::Originate(originated) => Self::Originate(originated.clone()),
            Input::Command(command) => Self::Command(command.clone()),
            Input::Received { .. } | Input::Reconfigure(_) => return None,
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at.since_epoch().as_nanos())?;
        match &self.step {
            Step::Configure(text) => {
                f.write_str("configure")?;
                text.lines().try_for_each(|line| write!(f, "\n  {line}"))
            }
            Step::Poll(polled) => write!(f, "poll {polled}"),
            Step::Timeout => f.write_str("timeout"),
            Step::Connected(conn, path) => write_path(f, "connected", *conn, path),
            Step::ConnectFailed(conn, reason) => write_text(f, "connect-failed", *conn, reason),
            Step::Accepted(conn, path) => write_path(f, "accepted", *conn, path),
            Step::Received {
                conn,
                messages,
                error,
                bytes,
            } => {
                let end = if *error { "error" } else { "ok" };
                write!(f, "received {} {messages} {end} ", conn.0)?;
                if bytes.is_empty() {
                    return f.write_str("-");
                }
                write_hex(f, bytes)
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
            Step::ProgramFailed(prefixes) => write_prefixes(f, "program-failed", prefixes),
            Step::ProgramRecovered(prefixes) => write_prefixes(f, "program-recovered", prefixes),
            Step::Originate(all) => {
                f.write_str("originate")?;
                all.iter()
                    .try_for_each(|one| write!(f, "\n  {}", originated::Written(one)))
            }
            Step::Command(command) => write_command(f, command),
            Step::End(reason) => write!(f, "end {}", one_line(reason)),
        }
    }
}

fn write_command(f: &mut fmt::Formatter<'_>, command: &Command) -> fmt::Result {
    let with_message = |f: &mut fmt::Formatter<'_>,
                        verb,
                        argument: &dyn fmt::Display,
                        message: &ShutdownMessage| {
        write!(
            f,
            "command {verb} {argument} {}",
            one_line(message.as_str())
        )
    };
    match command {
        Command::Reset { peer, message } => with_message(f, "reset", &peer.0, message),
        Command::Disable { peer, message } => with_message(f, "disable", &peer.0, message),
        Command::Enable { peer } => write!(f, "command enable {}", peer.0),
        Command::RefreshIn { peer, family } => write!(f, "command refresh-in {} {family}", peer.0),
        Command::RefreshOut { peer, family } => {
            write!(f, "command refresh-out {} {family}", peer.0)
        }
        Command::Shutdown { message, restart } => {
            let how = if *restart { "restart" } else { "final" };
            with_message(f, "shutdown", &how, message)
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

fn write_prefixes(f: &mut fmt::Formatter<'_>, verb: &str, prefixes: &[Prefix]) -> fmt::Result {
    f.write_str(verb)?;
    prefixes
        .iter()
        .try_for_each(|prefix| write!(f, " {prefix}"))
}

/// The text is the rest of the line; what would end the line becomes a space.
fn write_text(f: &mut fmt::Formatter<'_>, verb: &str, conn: ConnId, text: &str) -> fmt::Result {
    write!(f, "{verb} {} {}", conn.0, one_line(text))
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

pub(super) fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// A recording, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Seed of the speaker.
    pub seed: u64,
    /// Every step.
    pub lines: Vec<Line>,
    /// Why it ends; `None` if it was cut off.
    pub end: Option<Box<str>>,
}

/// What is wrong with a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Another kind of file, or a version that is not known.
    #[error("not a recording that this version reads: the first line is not `{HEADER}`")]
    Header,
    /// No seed.
    #[error("there is no line `seed NUMBER` before the first step")]
    Seed,
    /// A line that is not a step.
    #[error("line {number} is no step of a recording: {text:?}")]
    Line {
        /// Counted from 1.
        number: usize,
        /// Its beginning.
        text: String,
    },
}

impl FromStr for Recording {
    type Err = ParseError;

    /// Reads a whole recording. A last line without an end, as a crash leaves it, is left out.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut numbered = (1..).zip(whole.lines()).peekable();
        if numbered.next().is_none_or(|(_, line)| line != HEADER) {
            return Err(ParseError::Header);
        }
        let mut numbered = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let seed = numbered
            .next()
            .and_then(|(_, line)| line.strip_prefix("seed ")?.parse().ok())
            .ok_or(ParseError::Seed)?;
        let mut recording = Self {
            seed,
            lines: Vec::new(),
            end: None,
        };
        let mut numbered = numbered.peekable();
        while let Some((number, line)) = numbered.next() {
            let mut belongs = Vec::new();
            while let Some((_, more)) = numbered.next_if(|(_, line)| line.starts_with("  ")) {
                belongs.push(&more[2..]);
            }
            let line = parse(line, &belongs).ok_or_else(|| ParseError::Line {
                number,
                text: line.chars().take(200).collect(),
            })?;
            if let Step::End(reason) = &line.step {
                recording.end = Some(reason.clone());
            }
            recording.lines.push(line);
        }
        Ok(recording)
    }
}

fn parse(text: &str, belongs: &[&str]) -> Option<Line> {
    let mut words = text.split_whitespace();
    let at = Time::from_duration(Duration::from_nanos(words.next()?.parse().ok()?));
    let verb = words.next()?;
    let step = match verb {
        "configure" => Step::Configure(
            belongs
                .iter()
                .flat_map(|line| [*line, "\n"])
                .collect::<String>()
                .into(),
        ),
        "poll" => Step::Poll(Polled {
            outputs: words.next()?.parse().ok()?,
            idle: parse_choice(words.next()?, "idle", "more")?,
            digest: u64::from_str_radix(words.next()?, 16).ok()?,
        }),
        "timeout" => Step::Timeout,
        "connected" => Step::Connected(parse_conn(&mut words)?, parse_path(&mut words)?),
        "accepted" => Step::Accepted(parse_conn(&mut words)?, parse_path(&mut words)?),
        "connect-failed" => Step::ConnectFailed(parse_conn(&mut words)?, rest(text, 3)),
        "closed" => Step::Closed(parse_conn(&mut words)?, rest(text, 3)),
        "received" => Step::Received {
            conn: parse_conn(&mut words)?,
            messages: words.next()?.parse().ok()?,
            error: parse_choice(words.next()?, "error", "ok")?,
            bytes: match words.next()? {
                "-" => Box::default(),
                digits => parse_hex(digits)?,
            },
        },
        "transmitted" => Step::Transmitted(parse_conn(&mut words)?, words.next()?.parse().ok()?),
        "next-hop" => {
            let key = NextHopKey {
                addr: words.next()?.parse::<IpAddr>().ok()?,
                link: parse_option(&mut words)?,
            };
            Step::NextHop(key, parse_option(&mut words)?)
        }
        "programmed" => Step::Programmed(words.next()?.parse().ok()?),
        "program-failed" => Step::ProgramFailed(parse_prefixes(&mut words)?),
        "program-recovered" => Step::ProgramRecovered(parse_prefixes(&mut words)?),
        "originate" => Step::Originate(
            belongs
                .iter()
                .map(|line| originated::parse(line))
                .collect::<Option<_>>()?,
        ),
        "command" => Step::Command(parse_command(text, &mut words)?),
        "end" => Step::End(rest(text, 2)),
        _ => return None,
    };
    let takes_text = matches!(
        step,
        Step::ConnectFailed(..) | Step::Closed(..) | Step::Command(_) | Step::End(_)
    );
    let takes_lines = matches!(step, Step::Configure(_) | Step::Originate(_));
    let whole = (takes_text || words.next().is_none()) && (takes_lines || belongs.is_empty());
    whole.then_some(Line { at, step })
}

fn parse_command(text: &str, words: &mut SplitWhitespace<'_>) -> Option<Command> {
    let verb = words.next()?;
    let argument = words.next()?;
    let message = || ShutdownMessage::new(&rest(text, 4));
    let peer = || argument.parse().ok().map(PeerId);
    Some(match verb {
        "reset" => Command::Reset {
            peer: peer()?,
            message: message(),
        },
        "disable" => Command::Disable {
            peer: peer()?,
            message: message(),
        },
        "enable" => Command::Enable { peer: peer()? },
        "refresh-in" => Command::RefreshIn {
            peer: peer()?,
            family: parse_family(words.next()?)?,
        },
        "refresh-out" => Command::RefreshOut {
            peer: peer()?,
            family: parse_family(words.next()?)?,
        },
        "shutdown" => Command::Shutdown {
            message: message(),
            restart: parse_choice(argument, "restart", "final")?,
        },
        _ => return None,
    })
}

fn parse_family(text: &str) -> Option<Family> {
    Family::ALL.into_iter().find(|family| family.name() == text)
}

fn parse_choice(word: &str, yes: &str, no: &str) -> Option<bool> {
    (word == yes || word == no).then_some(word == yes)
}

/// What follows so many words, one space between each.
fn rest(text: &str, words: usize) -> Box<str> {
    text.splitn(words + 1, ' ')
        .nth(words)
        .unwrap_or_default()
        .into()
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

fn parse_prefixes(words: &mut SplitWhitespace<'_>) -> Option<Vec<Prefix>> {
    words.map(|word| word.parse().ok()).collect()
}

/// `-` or a value.
fn parse_option<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<Option<T>> {
    match words.next()? {
        "-" => Some(None),
        word => word.parse().ok().map(Some),
    }
}

pub(super) fn parse_hex(text: &str) -> Option<Box<[u8]>> {
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
    use crate::types::Asn;
    use crate::wire::{Community, ExtendedCommunity, LargeCommunity, Origin};

    fn every_step() -> Vec<Step> {
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
        let received = |error, bytes: &[u8]| Step::Received {
            conn,
            messages: 2,
            error,
            bytes: bytes.into(),
        };
        let full = Originated {
            origin: Origin::Incomplete,
            local_pref: Some(200),
            med: Some(0),
            communities: vec![Community(1), Community::NO_EXPORT],
            extended_communities: vec![ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 9])],
            large_communities: vec![LargeCommunity {
                global: 1,
                local1: 2,
                local2: 3,
            }],
            prepend: vec![Asn(65_000), Asn(4_200_000_000)],
            ready: false,
            ..Originated::new("2001:db8::/32".parse().unwrap())
        };
        let plain = Originated::new("10.0.0.0/8".parse().unwrap());
        let peer = PeerId(3);
        let family = Family::Ipv6Unicast;
        let message = ShutdownMessage::new("back at  noon");
        let polled = Polled {
            outputs: 3,
            idle: true,
            digest: 0xdead_beef,
        };
        vec![
            Step::Configure("asn: 65000\n\npeers:\n  - a\n".into()),
            Step::Poll(polled),
            Step::Poll(Polled {
                idle: false,
                ..polled
            }),
            Step::Timeout,
            Step::Connected(ConnId(1), path(Some(link))),
            Step::Accepted(conn, path(None)),
            Step::ConnectFailed(ConnId(2), "connection  refused".into()),
            Step::Closed(conn, "".into()),
            received(false, &[0xff, 0x00, 0x7a]),
            received(true, &[]),
            Step::Transmitted(conn, 4096),
            Step::NextHop(key(Some(3)), Some(10)),
            Step::NextHop(key(None), None),
            Step::Programmed(9),
            Step::ProgramFailed(vec![
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ]),
            Step::ProgramRecovered(vec!["10.0.0.0/8".parse().unwrap()]),
            Step::Originate(vec![plain, full]),
            Step::Originate(Vec::new()),
            Step::Command(Command::Reset {
                peer,
                message: message.clone(),
            }),
            Step::Command(Command::Disable {
                peer,
                message: ShutdownMessage::default(),
            }),
            Step::Command(Command::Enable { peer }),
            Step::Command(Command::RefreshIn { peer, family }),
            Step::Command(Command::RefreshOut { peer, family }),
            Step::Command(Command::Shutdown {
                message,
                restart: true,
            }),
            Step::End("the limit of 64 MiB".into()),
        ]
    }

    #[test]
    fn every_step_reads_back_as_it_was_written() {
        let lines: Vec<_> = every_step()
            .into_iter()
            .enumerate()
            .map(|(index, step)| Line {
                at: Time::from_duration(Duration::from_nanos(index as u64)),
                step,
            })
            .collect();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let recording: Recording = format!("{HEADER}\n\n# a comment\nseed 7\n{text}12 po")
            .parse()
            .unwrap();
        assert_eq!(recording.seed, 7);
        assert_eq!(recording.end.as_deref(), Some("the limit of 64 MiB"));
        for (read, written) in recording.lines.iter().zip(&lines) {
            assert_eq!(read, written);
        }
        assert_eq!(recording.lines.len(), lines.len());
    }

    #[test]
    fn a_line_that_is_no_step_is_refused_with_its_number() {
        for text in [
            "x poll",
            "1",
            "1 dance",
            "1 poll 3 idle",
            "1 poll 3 idle 00 now",
            "1 received 1 1 ok abc",
            "1 transmitted 1",
            "1 program-failed 10.0.0.0",
            "1 command dance 3",
            "1 timeout\n  more",
            "1 originate\n  10.0.0.0/8 colour red",
        ] {
            let error = format!("{HEADER}\nseed 1\n{text}\n").parse::<Recording>();
            let first = text.lines().next().unwrap().to_owned();
            assert_eq!(
                error,
                Err(ParseError::Line {
                    number: 3,
                    text: first
                })
            );
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let read = |text: &str| text.parse::<Recording>();
        assert_eq!(read(""), Err(ParseError::Header));
        assert_eq!(
            read("causeway-recording 2\nseed 1\n"),
            Err(ParseError::Header)
        );
        assert_eq!(read(&format!("{HEADER}\n1 poll\n")), Err(ParseError::Seed));
    }
}
