//! The command line of Causeway.
//!
//! 1. [`args`] says what can be asked for.
//! 2. [`client`] asks the daemon, over HTTP on its unix socket.
//! 3. [`bgp`], [`route`], [`map`], [`status`] and [`config`] carry out one noun each.
//! 4. [`output`] prints: data to stdout as table, JSON or YAML, notes to stderr.
//!
//! It holds no state and links neither the speaker nor the loader: what it knows, the API told it. Only `config check`
//! works without a daemon, with the daemon's own checks.

mod args;
mod bgp;
mod client;
mod config;
mod map;
mod output;
mod route;
mod status;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Noun};
use client::{Client, ClientError};
use output::Printer;

/// Exit codes, as the manual documents them.
mod exit {
    /// The daemon refused, or a check found mistakes.
    pub(crate) const FAILURE: u8 = 1;
    /// The daemon does not answer. Usage errors are 2, clap's own.
    pub(crate) const UNREACHABLE: u8 = 3;
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let unreachable = error
                .downcast_ref::<ClientError>()
                .is_some_and(ClientError::is_unreachable);
            ExitCode::from(if unreachable {
                exit::UNREACHABLE
            } else {
                exit::FAILURE
            })
        }
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(args.global.socket.clone());
    let mut printer = Printer::new(args.global.output);
    match args.noun {
        Noun::Status => status::run(&client, &mut printer)?,
        Noun::Bgp { verb } => bgp::run(&client, &mut printer, &verb)?,
        Noun::Route { verb } => return route::run(&client, &mut printer, &verb),
        Noun::Map { verb } => return map::run(&client, &mut printer, &verb),
        Noun::Config { verb } => return config::run(&mut printer, &verb),
        Noun::Completions { shell } => args::print_completions(shell),
        Noun::Man { dir } => args::write_man_pages(&dir)?,
    }
    Ok(ExitCode::SUCCESS)
}
