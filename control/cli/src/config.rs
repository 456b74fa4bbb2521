//! `causeway config`: works without a daemon.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use causeway_config::Diagnostic;
use serde::Serialize;

use crate::args;
use crate::exit;
use crate::output::Printer;

pub(crate) fn run(printer: &mut Printer, verb: &args::Config) -> Result<ExitCode> {
    match verb {
        args::Config::Check { dir, node_name } => check(printer, dir, node_name.as_deref()),
    }
}

/// Answer of `config check`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    valid: bool,
    errors: Vec<Diagnostic>,
}

fn check(printer: &mut Printer, dir: &Path, node_name: Option<&str>) -> Result<ExitCode> {
    let node_name = match node_name {
        Some(name) => name.to_owned(),
        None => host_name()?,
    };
    let errors = causeway_config::load(dir, &node_name)
        .err()
        .unwrap_or_default();
    let checked = Checked {
        valid: errors.is_empty(),
        errors,
    };
    printer.one(&checked, |checked| match checked.errors.len() {
        0 => format!("{}: no mistakes for node {node_name}\n", dir.display()),
        _ => checked
            .errors
            .iter()
            .map(|error| format!("{error}\n"))
            .collect(),
    })?;
    Ok(if checked.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILURE)
    })
}

fn host_name() -> Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {path}; name the node with --node-name"))?;
    Ok(name.trim().to_owned())
}
