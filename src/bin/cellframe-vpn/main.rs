//! The program `cellframe-vpn`: the VPN service and its client without a node, and a demo of both.
//!
//! Each command has a file. They share exit codes and failures ([`exit`]), the server's address ([`target`]),
//! configuration and state directories ([`settings`]), [`signals`], and checks of privileges ([`privilege`]).
#![forbid(unsafe_code)]

mod args;
mod check;
mod client;
mod control;
mod demo;
mod doctor;
#[cfg(test)]
mod documented;
mod documents;
mod exit;
mod live;
mod notify;
mod output;
mod paying;
mod private_directory;
mod privilege;
mod profile;
mod reload;
mod repair;
mod server;
mod settings;
mod signals;
mod target;
mod usage;
mod wallet;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use exit::{Code, Failure};

fn main() -> ExitCode {
    if let Err(failure) = signals::keep_file_limits_errors() {
        output::error_line(&failure);
        return failure.code.into();
    }
    if std::env::args_os().len() <= 1 {
        output::line(args::SHORT_HELP.trim_end());
        return output::failure().map_or(Code::Usage, |failure| failure.code).into();
    }
    let words = usage::words();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return usage::print(error, &words),
    };
    match run(arguments.command) {
        Ok(()) => success(),
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
        Command::Leases(options) => control::leases(&options),
        Command::History(options) => control::history(&options),
        Command::Status(options) => control::status(&options),
        Command::Stop(options) => control::stop(&options),
        Command::Wallet(options) => wallet::run(&options.command),
        Command::Reload(options) => reload::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Repair => repair::run(),
        Command::Completions(options) => {
            documents::completions(&options);
            Ok(())
        }
        Command::ManPages(options) => documents::man_pages(&options),
        Command::DemoEnd(options) => demo::end::run(&options),
    }
}

/// The exit code of a command that succeeded: another one if its output was lost.
fn success() -> ExitCode {
    output::failure().map_or(Code::Success, |failure| failure.code).into()
}
