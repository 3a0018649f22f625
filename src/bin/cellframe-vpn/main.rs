//! The program `cellframe-vpn`: the VPN service and its client without a node, and a demo of both.
//!
//! One file a command; what they share is around them: exit codes and failures ([`exit`]), the server's address
//! ([`target`]), configuration and state directories ([`settings`]), signals, and what the kernel must allow
//! ([`privilege`]).
#![forbid(unsafe_code)]

mod args;
mod check;
mod client;
mod control;
mod demo;
mod exit;
mod output;
mod privilege;
mod server;
mod settings;
mod signals;
mod target;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Arguments, Command};
use exit::{Code, Failure};

fn main() -> ExitCode {
    if std::env::args_os().len() <= 1 {
        output::line(args::SHORT_HELP.trim_end());
        return Code::Usage.into();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refused_or_help(&error),
    };
    match run(arguments.command) {
        Ok(()) => Code::Success.into(),
        Err(failure) => {
            output::error_line(&failure);
            failure.code.into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(options) => demo::run(&options),
        Command::Server(options) => server::run(&options),
        Command::Client(options) => client::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Stat(options) => control::stat(&options),
        Command::Status(options) => control::status(&options),
        Command::Stop(options) => control::stop(&options),
        Command::DemoEnd(options) => demo::end::run(&options),
    }
}

/// clap reports `--help` and `--version` as errors too; those are no failure.
fn refused_or_help(error: &clap::Error) -> ExitCode {
    // The reader of the help may have gone (`| head -1`): nothing is left to tell then.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Code::Success.into(),
        _ => Code::Usage.into(),
    }
}
