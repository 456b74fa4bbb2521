//! The daemons that can stand between the blasters and the monitor.
//!
//! All are set up alike by the scripts in `bench/configs/bgp/`: eBGP with every peer, all routes accepted, blasters are
//! only listened to, the monitor gets everything, no route goes to the kernel.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bgp::lab::{DAEMON_ASN, Lab, MONITOR, daemon_addr, daemon_directory, peer};
use crate::bgp::process::{Daemon, log_path};

/// A daemon that can be measured.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    kind: Kind,
    program: PathBuf,
    /// Directory of the scripts that write configurations.
    scripts: PathBuf,
    /// Where it pins its maps, if it forwards: then it has programs on both links, and the monitor's routes are taken in too.
    pins: Option<PathBuf>,
    /// Name and version.
    pub(crate) title: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Causeway,
    Bird,
    Frr,
    GoBgp,
    OpenBgpd,
}

impl Subject {
    /// Ours, the shipped daemon.
    pub(crate) fn causeway(program: &Path, scripts: &Path) -> Result<Self> {
        ensure!(
            program.exists(),
            "{} is missing: build it with `cargo build --release --package causewayd`",
            program.display()
        );
        Ok(Self {
            kind: Kind::Causeway,
            program: program.to_owned(),
            scripts: scripts.to_owned(),
            pins: None,
            title: "causewayd".to_owned(),
        })
    }

    /// Ours, with its dataplane.
    pub(crate) fn forwarding(program: &Path, scripts: &Path, pins: &Path) -> Result<Self> {
        Ok(Self {
            pins: Some(pins.to_owned()),
            ..Self::causeway(program, scripts)?
        })
    }

    /// The reference that goals are measured against.
    pub(crate) fn bird(scripts: &Path) -> Result<Self> {
        Self::installed(Kind::Bird, scripts).context(
            "BIRD 2, the reference of this suite, isn't installed: run `cargo xtask setup`",
        )
    }

    /// Other daemons that are installed, for information.
    pub(crate) fn others(scripts: &Path) -> Vec<Self> {
        [Kind::Frr, Kind::GoBgp, Kind::OpenBgpd]
            .into_iter()
            .filter_map(|kind| Self::installed(kind, scripts))
            .collect()
    }

    /// Starts it in the daemon's namespace with `blasters` peers and the monitor configured.
    pub(crate) fn start(&self, lab: &Lab, blasters: u8) -> Result<Daemon> {
        let directory = daemon_directory(std::process::id());
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .context("remove the previous daemon's directory")?;
        }
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let mut command = self.command(lab, &directory, blasters)?;
        let log = File::create(log_path(&directory)).context("create the daemon's log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the daemon's log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        Ok(Daemon::new(child, directory))
    }

    /// The daemon of this kind, if it is there and tells its version.
    fn installed(kind: Kind, scripts: &Path) -> Option<Self> {
        let (program, version_argument, name) = match kind {
            Kind::Causeway => return None,
            Kind::Bird => ("/usr/sbin/bird", "--version", "BIRD"),
            Kind::Frr => ("/usr/lib/frr/bgpd", "--version", "FRR"),
            Kind::GoBgp => ("/usr/bin/gobgpd", "--version", "GoBGP"),
            Kind::OpenBgpd => ("/usr/sbin/bgpd", "-V", "OpenBGPD"),
        };
        let output = Command::new(program).arg(version_argument).output().ok()?;
        // BIRD and OpenBGPD tell it on stderr.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let version = text
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
        Some(Self {
            kind,
            program: program.into(),
            scripts: scripts.to_owned(),
            pins: None,
            title: format!("{name} {version}"),
        })
    }

    fn command(&self, lab: &Lab, directory: &Path, blasters: u8) -> Result<Command> {
        let mut command = lab.command(&self.program);
        match self.kind {
            Kind::Causeway => {
                let config = directory.join("config");
                std::fs::create_dir(&config).context("create the configuration's directory")?;
                self.configure("causeway.sh", &config.join("bgp.yaml"), blasters)?;
                command.args(["--node-name", "bench"]);
                match &self.pins {
                    None => command.args(["--dataplane", "none"]),
                    Some(pins) => {
                        std::fs::write(config.join("node.yaml"), NODE_CONFIG)
                            .context("write the node's configuration")?;
                        command.args(["--dataplane", "xdp", "--bpffs"]).arg(pins)
                    }
                };
                command.arg("--config").arg(config);
                command.arg("--run-dir").arg(directory);
            }
            Kind::Bird => {
                let config = directory.join("bird.conf");
                self.configure("bird.sh", &config, blasters)?;
                command.arg("-f").arg("-c").arg(config);
                command.arg("-s").arg(directory.join("bird.ctl"));
            }
            Kind::Frr => {
                let config = directory.join("bgpd.conf");
                self.configure("frr.sh", &config, blasters)?;
                chown_to("frr", directory)?;
                command.args(["--no_kernel", "--no_zebra", "--vty_port", "0"]);
                command.arg("--config_file").arg(config);
                command.arg("--pid_file").arg(directory.join("bgpd.pid"));
                command.arg("--vty_socket").arg(directory);
            }
            Kind::GoBgp => {
                let config = directory.join("gobgpd.toml");
                self.configure("gobgp.sh", &config, blasters)?;
                command.arg("-f").arg(config);
                command.args(["--api-hosts", "127.0.0.1:50051", "--log-level", "error"]);
            }
            Kind::OpenBgpd => {
                std::fs::create_dir_all("/run/openbgpd").context("create /run/openbgpd")?;
                let config = directory.join("bgpd.conf");
                self.configure("openbgpd.sh", &config, blasters)?;
                std::fs::set_permissions(&config, Permissions::from_mode(0o600))
                    .context("OpenBGPD wants its configuration private")?;
                command.arg("-d").arg("-f").arg(config);
            }
        }
        Ok(command)
    }

    /// Writes the configuration that `script` prints.
    fn configure(&self, script: &str, to: &Path, blasters: u8) -> Result<()> {
        let script = self.scripts.join(script);
        let mut command = Command::new(&script);
        command.arg(daemon_addr(MONITOR).to_string());
        command.arg(DAEMON_ASN.to_string());
        for number in MONITOR..=blasters {
            let peer = peer(number);
            let role = match number {
                MONITOR if self.pins.is_none() => "out",
                _ => "in",
            };
            command.arg(format!("{},{},{role}", peer.addr, peer.asn));
        }
        // Who forwards shares traffic among the peers.
        let relaxed = self.pins.is_some().to_string();
        command.env("MULTIPATH_RELAX", relaxed);
        if let Some(directory) = to.parent() {
            command.env("BGPD_SOCKET", directory.join("bgpd.sock"));
        }
        let output = command
            .output()
            .with_context(|| format!("run {}", script.display()))?;
        ensure!(
            output.status.success(),
            "{}: {}",
            script.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        std::fs::write(to, output.stdout).with_context(|| format!("write {}", to.display()))
    }
}

/// The node of a daemon that forwards.
const NODE_CONFIG: &str = "\
apiVersion: causeway.dev/v1alpha1
kind: NodeConfig
metadata: {name: bench}
spec:
  role: transit
  uplinks: {interfaces: [blasters, monitor]}
";

/// FRR drops to its own user before it writes its pid file.
fn chown_to(user: &str, directory: &Path) -> Result<()> {
    let mut command = Command::new("chown");
    command.arg("-R").arg(format!("{user}:")).arg(directory);
    let status = command.status().context("run chown")?;
    ensure!(status.success(), "chown {} to {user}", directory.display());
    Ok(())
}
