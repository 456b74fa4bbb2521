//! HTTP/1.1 on a unix socket: one request, one answer, one connection.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use causeway_api::view::{Failure, List};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest wait for the daemon.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer: a page of 1,000 routes with many paths is far below.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;
const MAX_HEADERS: usize = 32;

/// Why a request got no answer of use.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// Nobody answers on the socket.
    Unreachable { socket: PathBuf, error: io::Error },
    /// The daemon says no.
    Refused(Failure),
    /// It answers what this program does not understand.
    Garbled(String),
}

impl ClientError {
    /// Whether there was no daemon to ask.
    pub(crate) const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable { socket, error } => write!(
                f,
                "causewayd does not answer on {} ({error}); is it running, and is --socket or CAUSEWAY_SOCKET right?",
                socket.display()
            ),
            Self::Refused(Failure { error, remedy }) if remedy.is_empty() => f.write_str(error),
            Self::Refused(Failure { error, remedy }) => write!(f, "{error}; {remedy}"),
            Self::Garbled(what) => write!(
                f,
                "the daemon's answer is not understood ({what}); is it of the same version as this program?"
            ),
        }
    }
}

impl std::error::Error for ClientError {}

type Result<T> = std::result::Result<T, ClientError>;

/// The daemon.
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `GET path?query`.
    pub(crate) fn fetch<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T> {
        self.request("GET", &target(path, query), None)
    }

    /// `POST path` with a JSON body.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Garbled(error.to_string()))?;
        self.request("POST", path, Some(&body))
    }

    /// Every page of a listing, handed over one at a time; ends early after `limit` entries.
    pub(crate) fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        limit: usize,
        mut each: impl FnMut(Vec<T>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut taken = 0;
        let mut cursor = None;
        loop {
            let cursor_text = cursor.map(|cursor: u32| cursor.to_string());
            let mut query = query.to_vec();
            if let Some(text) = &cursor_text {
                query.push(("cursor", text));
            }
            let List { mut items, next } = self.fetch::<List<T>>(path, &query)?;
            items.truncate(limit - taken);
            taken += items.len();
            each(items)?;
            match next {
                Some(next) if taken < limit => cursor = Some(next),
                _ => return Ok(taken),
            }
        }
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
    ) -> Result<T> {
        let answer =
            self.exchange(method, target, body)
                .map_err(|error| ClientError::Unreachable {
                    socket: self.socket.clone(),
                    error,
                })?;
        let (status, body) = parse(&answer)?;
        let garbled = |error: serde_json::Error| ClientError::Garbled(error.to_string());
        if status != 200 {
            return Err(ClientError::Refused(
                serde_json::from_slice(body).map_err(garbled)?,
            ));
        }
        serde_json::from_slice(body).map_err(garbled)
    }

    fn exchange(&self, method: &str, target: &str, body: Option<&[u8]>) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: causeway\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Status code and body. The daemon always says the body's length, so that a cut answer is noticed.
fn parse(answer: &[u8]) -> Result<(u16, &[u8])> {
    let garbled = |what: &str| ClientError::Garbled(what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response
        .parse(answer)
        .map_err(|error| garbled(&error.to_string()))?;
    let httparse::Status::Complete(head) = parsed else {
        return Err(garbled("it ends in its head"));
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .parse::<usize>()
                .ok()
        })
        .ok_or_else(|| garbled("it has no length"))?;
    let body = answer.get(head..).unwrap_or_default();
    if body.len() != length {
        return Err(garbled(&format!(
            "{} of {length} bytes arrived",
            body.len()
        )));
    }
    Ok((response.code.unwrap_or(0), body))
}

fn target(path: &str, query: &[(&str, &str)]) -> String {
    let mut target = path.to_owned();
    for (n, (name, value)) in query.iter().enumerate() {
        target.push(if n == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.push_str(&encode(value));
    }
    target
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let query = [("prefix", "2001:db8::/32"), ("peer", "a b&c")];
        assert_eq!(
            target("/v1", &query),
            "/v1?prefix=2001%3Adb8%3A%3A%2F32&peer=a%20b%26c"
        );
        assert_eq!(target("/v1", &[]), "/v1");
    }

    #[test]
    fn a_cut_answer_is_noticed() {
        let whole = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert!(matches!(parse(whole), Ok((404, b"{}"))));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        }
        assert!(parse(b"garbage\r\n\r\n").is_err());
    }
}
