//! The `adit` command. Everything of substance is in the library beside it.

use std::process::ExitCode;

use adit::{
    cli::{Cli, Command, Log, LogFormat},
    demo, dev, exec,
};
use adit_model::error_chain;
use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(e) = start_log(&cli.log) {
        return fail(&*e);
    }
    match cli.command {
        Command::Dev(args) => dev::run(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS),
        Command::Demo(args) => {
            demo::run(&args).map_or_else(|e| fail(&e), |held| ExitCode::from(u8::from(!held)))
        }
        Command::Exec(args) => fail(&exec::run(args)),
    }
}

/// Says what went wrong, with its causes, on one line.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("adit: {}", error_chain(error));
    ExitCode::FAILURE
}

fn start_log(log: &Log) -> Result<(), Box<dyn std::error::Error>> {
    let filter = EnvFilter::try_new(&log.log).map_err(|e| format!("--log {}: {e}", log.log))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
