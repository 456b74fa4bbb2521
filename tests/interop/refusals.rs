//! What the daemon says when it cannot start: one sentence with the way out.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use support::causeway::{Config, binary};
use support::peer::{Neighbor, Router};
use support::{Lab, Node};

fn config() -> Config {
    Config::transit(
        Router::new(65000, [10, 0, 0, 1]).neighbor(Neighbor::new("10.0.0.1", "10.0.0.2", 65001)),
        ["eth0"],
    )
}

/// Starts the daemon, expects it to end by itself with a failure, and returns what it said.
fn refusal(node: &Node, yaml: &str, change: impl FnOnce(&mut Command)) -> Result<String> {
    let dir = node.dir().join("config");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("causeway.yaml"), yaml)?;
    let mut command = node.command("timeout");
    command
        .args(["--signal=KILL", "20"])
        .arg(binary("causewayd")?)
        .arg("--config")
        .arg(&dir);
    change(&mut command);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1),
        "it ended with {}: {said}",
        output.status
    );
    ensure!(!said.contains("panicked"), "{said}");
    Ok(said)
}

fn two_nodes(lab: &Lab) -> Result<(Node, Node)> {
    let (node, other) = (lab.node("us")?, lab.node("them")?);
    node.link("eth0", &other, "eth0")?;
    node.address("eth0", ["10.0.0.1/24"])?;
    Ok((node, other))
}

#[test]
fn a_wrong_file_is_named_with_line_field_and_remedy() {
    Lab::test(|lab| {
        let (node, _) = two_nodes(lab)?;
        let yaml = config().yaml();
        let line = 1 + yaml
            .lines()
            .position(|line| line.contains("peerASN"))
            .unwrap_or_default();
        for (wrong, field) in [("peerAS: 65001", "peerAS"), ("peerASN: many", "peerASN")] {
            let yaml = yaml.replace("peerASN: 65001", wrong);
            let said = refusal(&node, &yaml, |_| {})?;
            for part in ["causeway.yaml", &line.to_string(), field] {
                ensure!(said.contains(part), "it does not name {part}: {said}");
            }
        }
        Ok(())
    });
}

/// `causeway config check` says before a start what the daemon would say then.
#[test]
fn a_wrong_file_is_found_without_a_daemon() {
    Lab::test(|lab| {
        let node = lab.node("us")?;
        let dir = node.dir().join("config");
        fs::create_dir_all(&dir)?;
        let check = |yaml: &str| {
            fs::write(dir.join("causeway.yaml"), yaml)?;
            node.command(binary("causeway")?)
                .args(["config", "check"])
                .arg(&dir)
                .output()
                .map_err(anyhow::Error::from)
        };
        let right = check(&config().yaml())?;
        ensure!(
            right.status.success(),
            "{}",
            String::from_utf8_lossy(&right.stderr)
        );
        let wrong = check(&config().yaml().replace("role: transit", "role: transient"))?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&wrong.stdout),
            String::from_utf8_lossy(&wrong.stderr)
        );
        ensure!(!wrong.status.success(), "{said}");
        for part in ["causeway.yaml", "role", "transit"] {
            ensure!(said.contains(part), "it does not name {part}: {said}");
        }
        Ok(())
    });
}

#[test]
fn a_kind_that_is_not_known_is_refused_by_name() {
    Lab::test(|lab| {
        let (node, _) = two_nodes(lab)?;
        let yaml = config()
            .yaml()
            .replace("kind: NodeConfig", "kind: NodeConfiguration");
        let said = refusal(&node, &yaml, |_| {})?;
        ensure!(said.contains("NodeConfiguration"), "{said}");
        Ok(())
    });
}

#[test]
fn a_missing_capability_is_one_sentence() {
    Lab::test(|lab| {
        let (node, _) = two_nodes(lab)?;
        let dir = node.dir().join("config");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("causeway.yaml"), config().yaml())?;
        let output = node
            .command("setpriv")
            .args([
                "--bounding-set=-all",
                "--inh-caps=-all",
                "timeout",
                "--signal=KILL",
                "20",
            ])
            .arg(binary("causewayd")?)
            .arg("--config")
            .arg(&dir)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1),
            "it ended with {}: {said}",
            output.status
        );
        ensure!(
            said.contains("CAP_"),
            "it does not name a capability: {said}"
        );
        ensure!(!said.contains("panicked"), "{said}");
        Ok(())
    });
}

#[test]
fn an_uplink_that_takes_no_program_is_named() {
    Lab::test(|lab| {
        let (node, other) = two_nodes(lab)?;
        // Where the other end may send frames that do not fit a page, veth refuses native XDP.
        other.ip(["link set eth0 mtu 9000"])?;
        let yaml = config()
            .yaml()
            .replace("role: transit", "role: transit\n  xdpMode: native");
        let said = refusal(&node, &yaml, |_| {})?;
        ensure!(
            said.contains("eth0"),
            "it does not name the interface: {said}"
        );
        Ok(())
    });
}
