//! Recording what happens to the speaker, to do it again elsewhere: see [`causeway_bgp::record`] for the form.
//!
//! The speaker task writes lines into a buffer and hands it on once a round; a thread of its own writes the file. Neither
//! ever waits for the other: what would exceed a limit ends the recording, as one with a gap could not be replayed. That is
//! logged, stands in the metrics and, where possible, in the last line of the file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use causeway_bgp::record::{Line, Recorder, Step};
use causeway_bgp::speaker::{Input, Output};
use causeway_bgp::time::Time;
use causeway_bgp::types::ConnId;

use crate::limits;

/// What the metrics say of a recording.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes handed to the file.
    pub(crate) bytes: AtomicU64,
    /// It ended, by a limit or an error, before the daemon did.
    pub(crate) stopped: AtomicBool,
}

/// A recording that is being written.
#[derive(Debug)]
pub(crate) struct Recording {
    recorder: Recorder,
    path: PathBuf,
    /// `None` once it has ended.
    writer: Option<Writer>,
    limit: u64,
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct Writer {
    chunks: mpsc::Sender<String>,
    /// Bytes handed over and not yet written.
    queued: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Recording {
    /// Makes the file, readable by its owner only: it holds routes, addresses and the configuration without its keys.
    ///
    /// # Errors
    ///
    /// If the file can't be made.
    pub(crate) fn create(
        path: &Path,
        limit: u64,
        seed: u64,
        node_name: &str,
    ) -> Result<(Self, Arc<Progress>)> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot record to {}", path.display()))?;
        let comment = format!("causewayd {}, node {node_name}", env!("CARGO_PKG_VERSION"));
        let progress = Arc::<Progress>::default();
        let recording = Self {
            recorder: Recorder::new(seed, &comment),
            path: path.to_owned(),
            writer: Some(Writer::start(file)?),
            limit,
            progress: progress.clone(),
        };
        tracing::info!(file = %path.display(), limit_bytes = limit, "recording");
        Ok((recording, progress))
    }

    /// Whether anything is still written.
    pub(crate) const fn is_running(&self) -> bool {
        self.writer.is_some()
    }

    /// See [`Recorder::configure`].
    pub(crate) fn configure(&mut self, now: Time, text: &str) {
        self.note(|recorder| recorder.configure(now, text));
    }

    /// See [`Recorder::input`].
    pub(crate) fn input(&mut self, now: Time, input: &Input) {
        self.note(|recorder| recorder.input(now, input));
    }

    /// See [`Recorder::received`].
    pub(crate) fn received(
        &mut self,
        now: Time,
        conn: ConnId,
        (messages, error): (usize, bool),
        bytes: &[u8],
    ) {
        self.note(|recorder| recorder.received(now, conn, messages, error, bytes));
    }

    /// See [`Recorder::timeout`].
    pub(crate) fn timeout(&mut self, now: Time) {
        self.note(|recorder| recorder.timeout(now));
    }

    /// See [`Recorder::polled`].
    pub(crate) fn polled(&mut self, now: Time, output: Option<&Output>) {
        self.note(|recorder| recorder.polled(now, output));
    }

    /// Hands what was written since the last time to the file.
    pub(crate) fn hand_over(&mut self, now: Time) {
        let Some(writer) = &self.writer else {
            return;
        };
        if writer.broken.load(Ordering::Relaxed) {
            return self.stop(now, "the file can't be written");
        }
        if self.recorder.is_empty() {
            return;
        }
        let chunk = self.recorder.take();
        let bytes = self.progress.bytes.load(Ordering::Relaxed) + chunk.len() as u64;
        if bytes > self.limit {
            let reason = format!("the limit of {} bytes is reached", self.limit);
            return self.stop(now, &reason);
        }
        if writer.queued.load(Ordering::Relaxed) + chunk.len() > limits::RECORDING_QUEUE_BYTES {
            return self.stop(now, "the file is written too slowly");
        }
        writer.send(chunk);
        self.progress.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Ends the recording with the daemon, and waits until it is in the file.
    pub(crate) fn finish(mut self, now: Time) {
        self.note(|recorder| recorder.end(now, "the daemon ends"));
        self.hand_over(now);
        if let Some(writer) = self.writer.take() {
            writer.join();
        }
    }

    fn note(&mut self, write: impl FnOnce(&mut Recorder)) {
        if self.is_running() {
            write(&mut self.recorder);
        }
    }

    /// Ends it early. What came before is whole and can be replayed.
    fn stop(&mut self, now: Time, reason: &str) {
        tracing::warn!(file = %self.path.display(), reason, "the recording has ended");
        self.progress.stopped.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let end = Line {
                at: now,
                step: Step::End(reason.into()),
            };
            // The thread ends when it has written that.
            writer.send(format!("{end}\n"));
        }
        self.recorder = Recorder::new(0, "");
    }
}

impl Writer {
    fn start(mut file: File) -> Result<Self> {
        let (chunks, received) = mpsc::channel::<String>();
        let queued = Arc::<AtomicUsize>::default();
        let broken = Arc::<AtomicBool>::default();
        let (left, failed) = (queued.clone(), broken.clone());
        let write = move || {
            for chunk in received {
                if let Err(error) = file.write_all(chunk.as_bytes()) {
                    tracing::error!(%error, "cannot write the recording");
                    failed.store(true, Ordering::Relaxed);
                    return;
                }
                left.fetch_sub(chunk.len(), Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new()
            .name("recording".to_owned())
            .spawn(write)
            .context("cannot start the thread that writes the recording")?;
        Ok(Self {
            chunks,
            queued,
            broken,
            thread,
        })
    }

    fn send(&self, chunk: String) {
        self.queued.fetch_add(chunk.len(), Ordering::Relaxed);
        // A thread that has ended by an error has said so.
        let _ = self.chunks.send(chunk);
    }

    fn join(self) {
        drop(self.chunks);
        // It does not panic.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use causeway_bgp::record::Recording as Read;

    use super::*;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("cw-{}-{name}", std::process::id()))
    }

    fn read(path: &Path) -> Read {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::remove_file(path).unwrap();
        text.parse().unwrap()
    }

    #[test]
    fn what_is_recorded_is_in_the_file_when_the_daemon_ends() {
        use std::os::unix::fs::PermissionsExt as _;

        let path = temporary("whole");
        let (mut recording, progress) = Recording::create(&path, 1 << 20, 7, "n").unwrap();
        recording.configure(Time::ZERO, "asn: 1\n");
        recording.hand_over(Time::ZERO);
        recording.timeout(Time::ZERO);
        recording.finish(Time::ZERO);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = read(&path);
        assert_eq!((read.seed, read.lines.len()), (7, 3));
        assert_eq!(read.end.as_deref(), Some("the daemon ends"));
        assert!(!progress.stopped.load(Ordering::Relaxed));
    }

    #[test]
    fn the_limit_ends_it_visibly_and_what_came_before_is_whole() {
        let path = temporary("limited");
        let (mut recording, progress) = Recording::create(&path, 200, 7, "n").unwrap();
        recording.configure(Time::ZERO, "asn: 1\n");
        recording.hand_over(Time::ZERO);
        for _ in 0..100 {
            recording.timeout(Time::ZERO);
        }
        recording.hand_over(Time::ZERO);
        assert!(!recording.is_running());
        recording.timeout(Time::ZERO);
        recording.hand_over(Time::ZERO);
        assert!(progress.stopped.load(Ordering::Relaxed));
        // The writer's thread ends by itself.
        let ended = || {
            let text = std::fs::read_to_string(&path).unwrap();
            text.contains(" end ")
        };
        while !ended() {
            std::thread::yield_now();
        }
        let read = read(&path);
        assert_eq!(read.lines.len(), 2);
        assert_eq!(
            read.end.as_deref(),
            Some("the limit of 200 bytes is reached")
        );
    }
}
