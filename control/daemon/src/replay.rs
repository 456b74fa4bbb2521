//! `causewayd --replay FILE`: does again what a recording holds, without the network, and says whether the speaker does the
//! same. Afterwards it may answer the API about the state at the end, so that `causeway bgp explain` and all the others
//! work on what happened elsewhere.

use core::time::Duration;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow};
use causeway_bgp::config::SpeakerConfig;
use causeway_bgp::record::{Difference, Recording, Replay, Shown, Step};
use causeway_bgp::speaker::{Output, Speaker, SpeakerEvent};
use causeway_bgp::time::Time;
use causeway_config::Generation;
use tokio::time::Instant;

use crate::app::{ConfigState, Shared, Signals, Wish};
use crate::args::Args;
use crate::lower::recorded;
use crate::{api, bgp};

/// Replays a file as the options say. The exit code is that of a failure if the speaker did something else.
///
/// # Errors
///
/// If the file is no recording, or one that this version can't replay.
pub(crate) async fn run(file: &Path, args: &Args) -> Result<ExitCode> {
    let read = || -> Result<Recording> { Ok(std::fs::read_to_string(file)?.parse()?) };
    let recording = read().with_context(|| format!("cannot replay {}", file.display()))?;
    let until = args
        .replay_until
        .map(|seconds| Duration::try_from_secs_f64(seconds).map(Time::from_duration))
        .transpose()
        .context("--replay-until is a number of seconds, 0 or more")?;
    let mut out = std::io::stdout().lock();
    let outcome = replay(recording, until, |at, output| {
        if args.replay_outputs {
            writeln!(out, "{} {}", at.since_epoch().as_nanos(), Shown(output))?;
        }
        Ok(())
    })?;
    writeln!(out, "{}", outcome.summary())?;
    drop(out);
    let same = outcome.differences.is_empty();
    if args.replay_serve {
        serve(outcome, args).await?;
    }
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How a replay ended.
struct Outcome {
    speaker: Speaker,
    now: Time,
    names: bgp::EventLog,
    node_name: String,
    generation: Generation,
    steps: usize,
    outputs: usize,
    sessions: usize,
    differences: Vec<Difference>,
    /// Why the recording ends, as it says itself.
    end: Option<Box<str>>,
}

/// Does the steps of a recording again, up to a time.
fn replay(
    recording: Recording,
    until: Option<Time>,
    mut seen: impl FnMut(Time, &Output) -> Result<()>,
) -> Result<Outcome> {
    let mut last = None;
    let lower = |text: &str| -> Result<SpeakerConfig, String> {
        let lowered = recorded::read(text).and_then(|read| {
            let config = read.speaker()?;
            last = Some((read.node_name.clone(), read.generation()?));
            Ok(config)
        });
        lowered.map_err(|error| format!("{error:#}"))
    };
    let mut replay = Replay::new(recording.seed, lower);
    let mut names = bgp::EventLog::default();
    let (mut steps, mut outputs, mut sessions) = (0, 0, 0);
    let mut differences = Vec::new();
    for line in recording.lines {
        if until.is_some_and(|until| line.at > until) {
            break;
        }
        let at = line.at;
        steps += usize::from(!matches!(line.step, Step::End(_)));
        let (said, difference) = replay
            .apply(line)
            .with_context(|| format!("at {} ns", at.since_epoch().as_nanos()))?;
        for output in &said {
            seen(at, output)?;
            if let Output::Event(event) = output {
                names.learn(event);
                sessions += usize::from(matches!(event, SpeakerEvent::SessionUp { .. }));
            }
        }
        outputs += said.len();
        differences.extend(difference);
    }
    let now = replay.now();
    let speaker = replay
        .into_speaker()
        .context("the recording holds no step")?;
    let (node_name, generation) = last.ok_or_else(|| anyhow!("the recording holds no step"))?;
    Ok(Outcome {
        speaker,
        now,
        names,
        node_name,
        generation,
        steps,
        outputs,
        sessions,
        differences,
        end: recording.end,
    })
}

impl Outcome {
    fn summary(&self) -> String {
        let verdict = match self.differences.first() {
            None => "the same as recorded, bit for bit".to_owned(),
            Some(first) => format!(
                "not the same as recorded: {} polls differ, the first one {first}",
                self.differences.len()
            ),
        };
        let end = match &self.end {
            Some(reason) => format!("ends because {reason}"),
            None => "was cut off".to_owned(),
        };
        format!(
            "node {}: {} steps in {:.3} s, {} sessions came up, {} outputs; {verdict}\nthe recording {end}",
            self.node_name,
            self.steps,
            self.now.since_epoch().as_secs_f64(),
            self.sessions,
            self.outputs,
        )
    }
}

/// Answers questions about how it ended, until a signal.
async fn serve(outcome: Outcome, args: &Args) -> Result<()> {
    let mut signals = Signals::new()?;
    let handle = bgp::show(outcome.speaker, outcome.now, outcome.names);
    let shared = Shared {
        node_name: outcome.node_name.into(),
        started: Instant::now(),
        config: Arc::new(Mutex::new(ConfigState {
            directory: "a recording".to_owned(),
            generation: 1,
            accepted: Instant::now(),
            errors: Vec::new(),
            in_force: outcome.generation,
        })),
        speaker: Arc::new(Mutex::new(Some(handle))),
        fabric: None,
        recording: Arc::default(),
    };
    let socket = api::listen(&args.run_dir)?;
    tokio::spawn(api::serve(socket, shared));
    tracing::info!(run_dir = %args.run_dir.display(), "answering about the end of the replay");
    while matches!(signals.next().await, Wish::Reload) {}
    api::remove(&args.run_dir);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn stored() -> Vec<PathBuf> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/recordings");
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "recording"))
            .collect();
        files.sort();
        files
    }

    fn read(file: &Path) -> Recording {
        let text = std::fs::read_to_string(file).unwrap();
        text.parse()
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    #[test]
    fn every_stored_session_replays_bit_for_bit() {
        let files = stored();
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            let outcome = replay(read(&file), None, |_, _| Ok(())).unwrap();
            let summary = outcome.summary();
            assert!(
                outcome.differences.is_empty(),
                "{}: {summary}",
                file.display()
            );
            assert!(outcome.sessions >= 5, "{}: {summary}", file.display());
            assert_eq!(outcome.end.as_deref(), Some("the daemon ends"));
        }
    }

    #[test]
    fn no_stored_session_holds_the_key_that_it_used() {
        for file in stored() {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains("redacted-1"), "{}", file.display());
            assert!(!text.contains("correct-horse"), "{}", file.display());
        }
    }

    #[test]
    fn a_change_anywhere_in_what_was_received_is_found() {
        let mut recording = read(&stored()[0]);
        // The next hop of the last UPDATE with one.
        let changed = recording.lines.iter_mut().rev().find_map(|line| {
            let Step::Received { bytes, .. } = &mut line.step else {
                return None;
            };
            let at = bytes.windows(7).position(|w| w[..3] == [0x40, 3, 4])?;
            bytes[at + 6] ^= 1;
            Some(())
        });
        assert_eq!(changed, Some(()));
        let outcome = replay(recording, None, |_, _| Ok(())).unwrap();
        assert!(!outcome.differences.is_empty(), "{}", outcome.summary());
    }

    #[test]
    fn a_replay_stops_where_it_is_told_to() {
        let recording = read(&stored()[0]);
        let steps = recording.lines.len();
        let until = Time::from_duration(Duration::from_secs(1));
        let outcome = replay(recording, Some(until), |_, _| Ok(())).unwrap();
        assert!(outcome.now <= until);
        assert!((1..steps).contains(&outcome.steps));
    }
}
