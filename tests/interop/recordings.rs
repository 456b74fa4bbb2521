//! Real sessions, recorded by the daemon and replayed bit for bit. With `--bless` the recordings become those of
//! `tests/data/recordings`, which every run of the unit suite replays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use support::causeway::binary;
use support::peer::Implementation;
use support::{Lab, wait_until};

use crate::pair::{LIMIT, OURS, Plan, THEIRS, THEM, with_every_peer};

with_every_peer!(a_recorded_session_replays_bit_for_bit);

/// A key that is looked for in the recording.
const PASSWORD: &str = "correct-horse";

fn a_recorded_session_replays_bit_for_bit(lab: &Lab, implementation: Implementation) -> Result<()> {
    let file = Temporary(std::env::temp_dir().join(format!(
        "cw-recording-{}-{implementation}",
        std::process::id()
    )));
    let mut plan = Plan::new().sessions(|n| {
        n.graceful_restart = true;
        n.password = Some(PASSWORD.to_owned());
    });
    plan.arguments = vec!["--record".to_owned(), file.0.display().to_string()];
    let mut pair = plan.establish(lab, implementation)?;
    pair.wait_exchanged()?;

    pair.them.announce("198.51.100.128/25")?;
    pair.us.wait_route("198.51.100.128/25", LIMIT)?;
    pair.them.withdraw("198.51.100.128/25")?;
    pair.us.wait_no_route("198.51.100.128/25", LIMIT)?;
    pair.us.announce("192.0.2.128/25")?;
    pair.them.wait_route("192.0.2.128/25", LIMIT)?;

    pair.us
        .ask(["bgp", "neighbor", "refresh", THEM[0], "--direction", "out"])?;
    pair.us
        .ask(["bgp", "neighbor", "reset", THEM[0], "--message", "by hand"])?;
    wait_until("the end of the session", LIMIT, || {
        let flaps = &pair.us.neighbor(THEM[0])?["flapCount"];
        ensure!(*flaps == 1, "{flaps}");
        Ok(())
    })?;
    pair.us.wait_established(LIMIT)?;
    pair.us.wait_route(THEIRS[0], LIMIT)?;
    pair.them.wait_route(OURS[0], LIMIT)?;

    pair.them.kill()?;
    wait_until("the sessions to be gone", LIMIT, || {
        ensure!(!pair.us.session(THEM[0])?.established);
        ensure!(!pair.us.session(THEM[1])?.established);
        Ok(())
    })?;
    pair.them.restart()?;
    pair.us.wait_established(LIMIT)?;
    pair.wait_exchanged_again(implementation)?;
    pair.us.stop()?;

    let text = fs::read_to_string(&file.0)?;
    ensure!(!text.contains(PASSWORD), "a key is in the recording");
    for prefix in OURS {
        ensure!(text.contains(prefix), "the configuration is not in it");
    }
    let verdict = replayed(&file.0, &[])?;
    ensure!(verdict.contains("bit for bit"), "{verdict}");
    let outputs = replayed(&file.0, &["--replay-outputs"])?;
    for prefix in THEIRS {
        ensure!(outputs.contains(prefix), "nothing of {prefix}");
    }
    if std::env::var_os("CAUSEWAY_BLESS").is_some() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/recordings");
        let name = implementation.to_string().to_lowercase();
        fs::write(directory.join(format!("{name}.recording")), &text)?;
    }
    Ok(())
}

/// What the daemon says to a recording, which it must be content with.
fn replayed(file: &Path, more: &[&str]) -> Result<String> {
    let output = Command::new(binary("causewayd")?)
        .arg("--replay")
        .arg(file)
        .args(more)
        .output()
        .context("cannot replay")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// A file that goes away with the test.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}
