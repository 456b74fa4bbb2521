//! Outputs as text, and their digest.

use core::fmt::{self, Write};

use bytes::BytesMut;

use super::step::or_dash;
use crate::config::{TransportOptions, Ttl};
use crate::fib::FibDelta;
use crate::rib::NextHopInterest;
use crate::speaker::Output;
use crate::wire::encode_open;

/// An output on one line, for people and for the digest. A key is shown as being there or not.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a Output);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Output::Connect {
                conn,
                peer,
                remote,
                local,
                options,
            } => {
                let local = or_dash(*local);
                write!(f, "connect {} peer {} {remote} {local}", conn.0, peer.0)?;
                write_options(f, options)
            }
            Output::Start {
                conn,
                peer,
                open,
                options,
                ..
            } => {
                write!(f, "start {} peer {} ", conn.0, peer.0)?;
                let mut bytes = BytesMut::new();
                encode_open(open, &mut bytes);
                write_hex(f, &bytes)?;
                write_options(f, options)
            }
            Output::Transmit { conn, bytes } => {
                write!(f, "transmit {} ", conn.0)?;
                write_hex(f, bytes)
            }
            Output::Close { conn, abort } => {
                let how = if *abort { "abort" } else { "linger" };
                write!(f, "close {} {how}", conn.0)
            }
            Output::Rekey { conn, md5 } => {
                write!(f, "rekey {} {}", conn.0, presence(md5.is_some()))
            }
            Output::Listen => f.write_str("listen"),
            Output::Fib { generation, delta } => {
                write!(f, "fib {generation}")?;
                write_delta(f, delta)
            }
            Output::NextHop(interest) => {
                let (verb, key) = match interest {
                    NextHopInterest::Track(key) => ("track", key),
                    NextHopInterest::Release(key) => ("release", key),
                };
                write!(f, "next-hop {verb} {} {}", key.addr, or_dash(key.link))
            }
            Output::Event(event) => write!(f, "event {event:?}"),
        }
    }
}

fn write_options(f: &mut fmt::Formatter<'_>, options: &TransportOptions) -> fmt::Result {
    match options.ttl {
        Ttl::Hops(hops) => write!(f, " ttl {hops}")?,
        Ttl::Security { hops } => write!(f, " ttl-security {hops}")?,
    }
    let key = presence(options.md5.is_some());
    write!(f, " dscp {} {key}", options.dscp)
}

fn presence(key: bool) -> &'static str {
    if key { "md5" } else { "plain" }
}

fn write_delta(f: &mut fmt::Formatter<'_>, delta: &FibDelta) -> fmt::Result {
    for (id, set) in &delta.sets {
        match set {
            Some(members) => {
                write!(f, " set {}", id.0)?;
                for hop in &**members {
                    write!(f, " via {} {} {}", hop.addr, or_dash(hop.link), hop.weight)?;
                }
            }
            None => write!(f, " drop {}", id.0)?,
        }
    }
    for (prefix, set) in &delta.routes {
        write!(f, " {prefix} {}", or_dash(set.map(|id| id.0)))?;
    }
    Ok(())
}

/// Bytes in hexadecimal.
pub(super) fn write_hex(f: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        f.write_char(char::from(DIGITS[usize::from(byte >> 4)]))?;
        f.write_char(char::from(DIGITS[usize::from(byte & 15)]))?;
    }
    Ok(())
}

/// FNV-1a of 64 bits over the text of outputs, each with a line end: the same on every machine and in every version. It
/// finds differences; it does not withstand anybody who makes them on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds an output.
    pub fn add(&mut self, output: &Output) {
        // Writing to a digest does not fail.
        let _ = writeln!(self, "{}", Shown(output));
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Md5Key;
    use crate::types::{ConnId, PeerId};

    #[test]
    fn the_digest_is_that_of_the_published_function() {
        let mut digest = Digest::default();
        digest.write_str("foobar").unwrap();
        // From the test suite of FNV-1a's authors.
        assert_eq!(digest.to_string(), "85944171f73967e8");
    }

    #[test]
    fn a_key_is_shown_as_being_there_and_no_more() {
        let options = TransportOptions {
            md5: Md5Key::new(b"hunter2"),
            ..TransportOptions::default()
        };
        let output = Output::Connect {
            conn: ConnId(1),
            peer: PeerId(2),
            remote: "192.0.2.1:179".parse().unwrap(),
            local: None,
            options: options.clone(),
        };
        let text = Shown(&output).to_string();
        assert_eq!(text, "connect 1 peer 2 192.0.2.1:179 - ttl 1 dscp 48 md5");
        let rekey = Output::Rekey {
            conn: ConnId(1),
            md5: options.md5,
        };
        assert_eq!(Shown(&rekey).to_string(), "rekey 1 md5");
    }
}
