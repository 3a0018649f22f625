//! The configuration is read again while the program runs, and a service manager hears how the program is.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod bounds;
mod client;
mod managed;
mod mistakes;
mod server;
mod terminal;
mod watchdog;

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use testkit::hosts::Hosts;
use testkit::manager::Manager;
use testkit::program::{Program, Running, code, stderr, stdout};

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// Starts a server with this configuration under a service manager, and does not wait.
fn start_managed(hosts: &Hosts, manager: &Manager, config: &str, watchdog: Option<Duration>) -> Running {
    let mut command = PROGRAM.command(hosts.path());
    command.args(["server", "--config", config, "--state-dir", &hosts.state("server")]);
    manager.manage(&mut command, watchdog);
    Running::start(hosts.path(), "server", command, |mut command| command.spawn().unwrap())
}

/// Runs `reload` for the server that was started with this configuration.
fn reload(hosts: &Hosts, config: &str, options: &[&str]) -> Output {
    let state = hosts.state("server");
    hosts.near(&[&["reload", "--config", config, "--state-dir", &state], options].concat())
}

/// The report of a reload that succeeds.
fn reloaded(hosts: &Hosts, config: &str) -> Value {
    let output = reload(hosts, config, &["--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// The keys in a part of a report.
fn keys(report: &Value, part: &str) -> Vec<String> {
    let changes = report[part].as_array().unwrap().iter();
    changes
        .map(|change| format!("{}/{}", change["section"].as_str().unwrap(), change["key"].as_str().unwrap()))
        .collect()
}
