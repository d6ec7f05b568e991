//! The `adit` command. Everything of substance is in the library beside it.

use std::process::ExitCode;

use adit::{
    admin,
    cli::{Command, Gateway, Log, LogFormat},
    config, demo, dev, diagnose, exec, gateway_check, gateway_run, lab, networks, store, terminal,
    toa_receiver, top, who,
};
use adit_model::error_chain;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// A request is some sixty small allocations; docs/benchmarks.md says what this makes of them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = match config::read(std::env::args_os()) {
        Ok(config::Said::Command(cli)) => cli,
        Ok(config::Said::Example(text)) => {
            terminal::print(&text);
            return ExitCode::SUCCESS;
        }
        Err(config::Error::CommandLine(e)) => e.exit(),
        Err(e) => return fail(&e),
    };
    if let Err(e) = start_log(&cli.log) {
        return fail(&*e);
    }
    match cli.command {
        Command::Dev(args) => dev::run(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS),
        Command::Api(args) => dev::run_api(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS),
        Command::Demo(args) => {
            let ended = demo::run(&args);
            ended.map_or_else(|e| fail_with(&e, e.status()), |held| u8::from(!held).into())
        }
        Command::Admin(args) => admin::run(*args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS),
        Command::Diagnose(args) => {
            diagnose::run(&args).map_or_else(|e| fail(&e), |healthy| u8::from(!healthy).into())
        }
        Command::Exec(args) => {
            let e = exec::run(args);
            fail_with(&e, e.status())
        }
        Command::Gateway(Gateway::Run(args)) => {
            gateway_run::run(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS)
        }
        Command::Gateways(args) => admin::gateways(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS),
        Command::Gateway(Gateway::Drain(args)) => {
            admin::drain(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS)
        }
        Command::Gateway(Gateway::Forget(args)) => {
            admin::forget(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS)
        }
        Command::Lab(args) => {
            let ended = lab::command::run(args);
            ended.map_or_else(|e| fail_with(&e, e.status()), |well| u8::from(!well).into())
        }
        Command::Networks(args) => networks::run(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS),
        Command::Gateway(Gateway::Check(args)) => u8::from(!gateway_check::run(&args)).into(),
        Command::Top(args) => top::run(&args).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS),
        Command::Store(args) => {
            let ended = store::command::run(&args);
            ended.map_or_else(|e| fail(&e), |sound| u8::from(!sound).into())
        }
        Command::Who(args) => who::run(&args).map_or_else(|e| fail(&e), |found| u8::from(!found).into()),
        Command::ToaReceiver(args) => {
            let ended = toa_receiver::run(&args);
            ended.map_or_else(|e| fail_with(&e, e.status()), ExitCode::from)
        }
    }
}

/// Says what went wrong, with its causes, on one line.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    fail_with(error, 1)
}

fn fail_with(error: &dyn std::error::Error, status: u8) -> ExitCode {
    terminal::warn(&format!("adit: {}", error_chain(error)));
    status.into()
}

fn start_log(log: &Log) -> Result<(), Box<dyn std::error::Error>> {
    let filter = EnvFilter::try_new(&log.log).map_err(|e| format!("--log {}: {e}", log.log))?;
    let filter = match log.access_log {
        true => filter.add_directive("adit::access=info".parse()?),
        false => filter,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal::shows_colours())
        // It would say so on standard error, which is what failed, and panic.
        .log_internal_errors(false);
    match log.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).init(),
    }
    adit_server::edge::log_panics();
    Ok(())
}
