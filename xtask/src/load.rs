//! `cargo xtask load` and `unload`: the programs and maps without the daemon, to look at and to try.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use causeway_datapath::{AttachMode, DEFAULT_PIN_DIR, Datapath, LoadOptions};
use causeway_maps::catalogue::ALL;
use causeway_maps::{Port, port_flags};
use causeway_plan::Op;
use clap::ValueEnum;

use crate::build_ebpf;

/// Arguments of `load`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Interface to attach XDP to
    #[arg(value_name = "IFACE")]
    interface: String,
    /// XDP mode
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    mode: Mode,
    #[command(flatten)]
    pins: PinArgs,
}

/// Arguments of `unload`.
#[derive(clap::Args)]
pub(crate) struct PinArgs {
    /// Directory of the pins, on a BPF file system
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Native, or generic where the driver can't
    Auto,
    /// In the driver
    Native,
    /// Behind the driver, on any interface
    Generic,
}

/// Builds the object if need be, loads it and attaches it to one interface.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    require_root("load")?;
    let ifindex = nix::net::if_::if_nametoindex(args.interface.as_str()).with_context(|| {
        format!(
            "there is no interface {}; `ip link` lists those there are",
            args.interface
        )
    })?;
    let object = build_ebpf::build()?;
    let object =
        std::fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    let mut datapath = Datapath::load(&LoadOptions {
        pin_dir: args.pins.pin_dir.clone(),
        object: object.into(),
    })?;
    for recreated in datapath.recreated() {
        println!("map {} was made anew: {}", recreated.map, recreated.reason);
    }
    let mode = match args.mode {
        Mode::Auto => AttachMode::Auto,
        Mode::Native => AttachMode::Native,
        Mode::Generic => AttachMode::Generic,
    };
    let attachment = datapath.attach(&args.interface, ifindex, mode)?;
    datapath.apply(&Op::PutPort(ifindex, enabled_port(&args.interface)?))?;
    datapath.apply(&Op::PutTxPort(ifindex))?;

    let pins = datapath.pin_dir().display();
    println!(
        "XDP ({}) is {} {}. Nothing is forwarded until there are routes; every packet is counted and passed on.",
        attachment.mode.name(),
        if attachment.replaced {
            "replaced on"
        } else {
            "attached to"
        },
        args.interface,
    );
    println!("\nMaps are pinned in {pins}:");
    for map in ALL {
        println!("  bpftool map dump pinned {pins}/{}", map.name);
    }
    println!("\nTo end it: cargo xtask unload --pin-dir {pins}");
    Ok(ExitCode::SUCCESS)
}

/// Detaches and unpins.
pub(crate) fn unload(args: &PinArgs) -> Result<ExitCode> {
    require_root("unload")?;
    if !args.pin_dir.exists() {
        println!("nothing is loaded in {}", args.pin_dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    Datapath::unload_pins(&args.pin_dir)?;
    println!("XDP is detached and {} is gone", args.pin_dir.display());
    Ok(ExitCode::SUCCESS)
}

fn require_root(verb: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "loading eBPF programs needs root; run `sudo -E cargo xtask {verb}`"
    );
    Ok(())
}

/// The interface as a port that forwards.
fn enabled_port(interface: &str) -> Result<Port> {
    // Not from /sys/class/net, which shows the network namespace that mounted it.
    let mac = nix::ifaddrs::getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr()?.addr())
        .with_context(|| format!("{interface} has no Ethernet address"))?;
    Ok(Port {
        flags: port_flags::ENABLED | port_flags::UPLINK,
        mac,
        reserved: [0; 2],
    })
}
