//! The Causeway node daemon.
//!
//! 1. [`args`] says what to run; [`app`] puts the parts together and runs them until a signal.
//! 2. [`lower`] turns the checked configuration into what the speaker takes; [`reload`] watches the files.
//! 3. [`bgp`] is the speaker task: sockets in, sockets and forwarding tables out.
//! 4. [`fabric`] is the thread that knows the network and owns the maps.
//! 5. [`api`] answers the command line over a unix socket.
//! 6. [`record`] writes down what happens to the speaker, [`replay`] does it again.
//! 7. [`limits`] holds every limit.

mod api;
mod app;
mod args;
mod bgp;
mod fabric;
mod host;
mod limits;
mod lower;
mod record;
mod reload;
mod replay;
mod socket;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    args::start_log(args.log_format);
    // One thread for everything: BGP messages are decoded, decided on and sent without waking another thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match &args.replay {
                Some(file) => replay::run(file, &args).await,
                None => app::run(&args).await.map(|()| ExitCode::SUCCESS),
            }
        }),
        Err(error) => Err(anyhow::Error::new(error).context("cannot start the runtime")),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("causewayd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
