//! The monitor: one session that records all it receives, with the time of each read.
//!
//! Nothing is parsed while the daemon works, so that the monitor costs next to nothing; [`crate::bgp::view`] checks
//! the recording afterwards.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bgp::wire;

const READ_BYTES: usize = 256 << 10;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// A session that is established and only listens.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: TcpStream,
    shared: Arc<Mutex<Shared>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    recording: Recording,
    /// When the last bytes came in, or the session was established.
    last_activity: Instant,
    ended: Option<String>,
}

impl Monitor {
    /// Takes over a session after the first KEEPALIVE was exchanged.
    pub(crate) fn start(stream: TcpStream) -> Result<Self> {
        stream
            .set_read_timeout(Some(KEEPALIVE_INTERVAL))
            .context("set the monitor's timeout")?;
        let shared = Arc::new(Mutex::new(Shared {
            recording: Recording::default(),
            last_activity: Instant::now(),
            ended: None,
        }));
        let reader = {
            let stream = stream.try_clone().context("clone the monitor's socket")?;
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let reason = record(&stream, &shared);
                lock(&shared).ended = Some(reason);
            })
        };
        Ok(Self {
            stream,
            shared,
            reader: Some(reader),
        })
    }

    /// What came in since the last call; whole messages only.
    pub(crate) fn take(&self) -> Recording {
        lock(&self.shared).recording.split_off_complete()
    }

    /// Time since anything came in.
    pub(crate) fn idle(&self) -> Duration {
        lock(&self.shared).last_activity.elapsed()
    }

    /// Why the session ended, if it did.
    pub(crate) fn ended(&self) -> Option<String> {
        lock(&self.shared).ended.clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // The peer may be gone already; either way the reader then sees the end.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Bytes as received, with the time of each read.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    bytes: Vec<u8>,
    /// (end of the bytes read, when).
    marks: Vec<(usize, Instant)>,
}

impl Recording {
    /// A recording that came in all at once.
    #[cfg(test)]
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let marks = vec![(bytes.len(), Instant::now())];
        Self { bytes, marks }
    }

    /// Each message: arrival of its last byte, type and body. Ends at a malformed header: what follows is never
    /// counted, so the run stays incomplete.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (Instant, u8, &[u8])> {
        let mut start = 0;
        let mut mark = 0;
        std::iter::from_fn(move || {
            let (length, kind) = wire::header(&self.bytes[start..]).ok()??;
            let end = start + length;
            let body = self.bytes.get(start + wire::HEADER_LEN..end)?;
            while self.marks.get(mark)?.0 < end {
                mark += 1;
            }
            start = end;
            Some((self.marks[mark].1, kind, body))
        })
    }

    /// Takes the whole messages out and keeps the beginning of the next.
    fn split_off_complete(&mut self) -> Self {
        let complete: usize = self
            .messages()
            .map(|(_, _, body)| wire::HEADER_LEN + body.len())
            .sum();
        let rest = self.bytes.split_off(complete);
        let taken = Self {
            bytes: std::mem::replace(&mut self.bytes, rest),
            marks: self.marks.clone(),
        };
        self.marks.retain(|(end, _)| *end > complete);
        for (end, _) in &mut self.marks {
            *end -= complete;
        }
        taken
    }
}

/// Reads until the session ends; returns why it ended.
fn record(mut stream: &TcpStream, shared: &Mutex<Shared>) -> String {
    let mut buffer = vec![0; READ_BYTES];
    let mut last_keepalive = Instant::now();
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return "the daemon closed the monitor's session".to_owned(),
            Ok(count) => {
                let now = Instant::now();
                let mut shared = lock(shared);
                shared.recording.bytes.extend_from_slice(&buffer[..count]);
                let end = shared.recording.bytes.len();
                shared.recording.marks.push((end, now));
                shared.last_activity = now;
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return format!("the monitor's session broke: {error}"),
        }
        if last_keepalive.elapsed() >= KEEPALIVE_INTERVAL {
            last_keepalive = Instant::now();
            if let Err(error) = stream.write_all(&wire::keepalive()) {
                return format!("the monitor's session broke: {error}");
            }
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared
        .lock()
        .expect("no thread panics with the recording locked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_time_of_its_last_byte() {
        let early = Instant::now();
        let late = early + Duration::from_secs(1);
        let bytes = [wire::keepalive(), wire::keepalive()].concat();
        let recording = Recording {
            bytes,
            marks: vec![(25, early), (38, late)],
        };
        let times: Vec<Instant> = recording.messages().map(|(at, _, _)| at).collect();
        assert_eq!(times, [early, late]);
    }

    #[test]
    fn half_a_message_stays_for_the_next_take() {
        let mut bytes = [wire::keepalive(), wire::keepalive()].concat();
        let rest = bytes.split_off(30);
        let mut recording = Recording::of(bytes);
        assert_eq!(recording.split_off_complete().messages().count(), 1);
        assert_eq!(recording.split_off_complete().messages().count(), 0);
        recording.bytes.extend(rest);
        recording
            .marks
            .push((recording.bytes.len(), Instant::now()));
        assert_eq!(recording.split_off_complete().messages().count(), 1);
    }
}
