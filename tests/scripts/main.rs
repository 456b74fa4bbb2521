//! Runs every script below `services/` and compares; with `--bless` writes what came out instead.
//!
//! Speaks libtest's dialect as far as `cargo test` and `cargo xtask test` use it: names to filter by, `--exact`, `--list`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use causeway_scripts::run;

fn main() -> ExitCode {
    match scripts() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Options {
    names: Vec<String>,
    exact: bool,
    list: bool,
    bless: bool,
}

fn scripts() -> Result<bool> {
    let options = options();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("services");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .with_context(|| dir.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for file in files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let wanted = options.names.is_empty()
            || options.names.iter().any(|word| {
                if options.exact {
                    *word == name
                } else {
                    name.contains(word.as_str())
                }
            });
        if !wanted {
            skipped += 1;
            continue;
        }
        if options.list {
            println!("{name}: test");
            continue;
        }
        match one(&file, options.bless) {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Err(error) => {
                failed += 1;
                println!("test {name} ... FAILED");
                println!("{error:#}");
            }
        }
    }
    if !options.list {
        let verdict = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {skipped} filtered out"
        );
    }
    Ok(failed == 0)
}

fn options() -> Options {
    let mut options = Options::default();
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--exact" => options.exact = true,
            "--list" => options.list = true,
            "--bless" => options.bless = true,
            // Whatever else libtest knows, such as --nocapture, changes nothing here.
            option if option.starts_with('-') => {}
            name => options.names.push(name.to_owned()),
        }
    }
    options
}

fn one(file: &Path, bless: bool) -> Result<()> {
    let script = std::fs::read_to_string(file)?;
    let outcome = run(&script)?;
    if bless {
        if outcome.text != script {
            std::fs::write(file, outcome.text)?;
        }
        return Ok(());
    }
    if !outcome.differences.is_empty() {
        bail!(
            "{}\nif that is right: cargo test -p causeway-scripts -- --bless",
            outcome.differences.join("\n")
        );
    }
    if outcome.text != script {
        bail!("only blank space differs: cargo test -p causeway-scripts -- --bless");
    }
    Ok(())
}
