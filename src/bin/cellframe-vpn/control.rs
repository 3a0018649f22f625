//! `stat`, `leases`, `history`, `status` and `stop`: commands to a running process over its control socket.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use embedded::cli::{self, CliError, Reply};

use crate::args::{ControlOptions, HistoryOptions, LeasesOptions, ProcessOptions, StatOptions, StatusOptions};
use crate::exit::{Code, Failure};
use crate::output;
use crate::settings::{self, Role};
use crate::watch::{self, Title};

/// Prints the sessions of the running server, its traffic and its drops.
pub(crate) fn stat(options: &StatOptions) -> Result<(), Failure> {
    if options.url {
        let mut argv = vec!["vpn_stat", "-url"];
        argv.extend(options.renew.then_some("-renew"));
        output::line(ask(Role::Server, &options.process, &argv)?);
        return Ok(());
    }
    let mut argv = vec!["vpn_stat", if options.json { "-json" } else { "-full" }];
    argv.extend(options.net.iter().flat_map(|net| ["-net", net]));
    let title = Title { command: "stat", is_json: options.json };
    watch::repeat(&options.watch, &title, || ask(Role::Server, &options.process, &argv))
}

/// Prints the account book of the running server.
pub(crate) fn history(options: &HistoryOptions) -> Result<(), Failure> {
    let limit = options.limit.map(|limit| limit.to_string());
    let mut argv = vec!["vpn_stat", "-history"];
    argv.extend(options.json.then_some("-json"));
    argv.extend(options.csv.then_some("-csv"));
    let values = [("-net", &options.net), ("-client", &options.client), ("-since", &options.since), ("-limit", &limit)];
    argv.extend(values.iter().filter_map(|(name, value)| Some([*name, value.as_deref()?])).flatten());
    output::line(ask(Role::Server, &options.process, &argv)?);
    Ok(())
}

/// Prints the leases of the running server, or ends the session that has an address.
pub(crate) fn leases(options: &LeasesOptions) -> Result<(), Failure> {
    let address = options.drop.map(|address| address.to_string());
    let mut argv = vec!["vpn_stat", "-net", &options.control.net];
    match &address {
        Some(address) => argv.extend(["-drop", address]),
        None => argv.push("-leases"),
    }
    argv.extend(options.json.then_some("-json"));
    let title = Title { command: "leases", is_json: options.json };
    watch::repeat(&options.watch, &title, || ask(Role::Server, &options.control.process, &argv))
}

/// Prints the state of the running client.
pub(crate) fn status(options: &StatusOptions) -> Result<(), Failure> {
    let mut argv = vec!["vpn_client", "status", "-net", &options.control.net];
    argv.extend(options.json.then_some("-json"));
    let title = Title { command: "status", is_json: options.json };
    watch::repeat(&options.watch, &title, || ask(Role::Client, &options.control.process, &argv))
}

/// Stops the running client, whose process ends with exit code 0.
pub(crate) fn stop(options: &ControlOptions) -> Result<(), Failure> {
    output::line(ask(Role::Client, &options.process, &["vpn_client", "stop", "-net", &options.net])?);
    Ok(())
}

fn ask(role: Role, options: &ProcessOptions, argv: &[&str]) -> Result<String, Failure> {
    call(role, &socket_for(role, options)?, argv)
}

/// Sends one command to the process of `role`, and returns its reply, whatever the code.
pub(crate) fn ask_for_reply(role: Role, options: &ProcessOptions, argv: &[&str]) -> Result<Reply, Failure> {
    reply(role, &socket_for(role, options)?, argv)
}

fn socket_for(role: Role, options: &ProcessOptions) -> Result<PathBuf, Failure> {
    if let Some(path) = &options.socket {
        return Ok(path.clone());
    }
    let config = settings::load_for_command(role, options.config.as_deref(), options.state_dir.as_deref())?;
    Ok(cli::socket_path(&config))
}

/// Sends one command to the process of `role` that listens on `socket`.
pub(crate) fn call(role: Role, socket: &Path, argv: &[&str]) -> Result<String, Failure> {
    let Reply { code, text } = reply(role, socket, argv)?;
    if code == 0 { Ok(text) } else { Err(Failure::general(format!("{text} (code {code})"))) }
}

fn reply(role: Role, socket: &Path, argv: &[&str]) -> Result<Reply, Failure> {
    let Reply { code, text } = cli::call(socket, argv).map_err(|error| no_reply(role, socket, &error))?;
    Ok(Reply { code, text: text.trim_end().to_owned() })
}

/// The state directories beside the default one that processes of this role use: those of a service's instances, such as
/// `client-home` beside `client`.
fn instances(role: Role, socket: &Path) -> Option<String> {
    let (own, file) = (socket.parent()?, socket.file_name()?);
    let begin = format!("{}-", role.directory());
    let entries = own.parent().filter(|_| own.ends_with(role.directory()))?.read_dir().ok()?.flatten();
    let is_instance = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_instance).collect();
    found.retain(|path| UnixStream::connect(path.join(file)).is_ok());
    found.sort();
    let options: Vec<String> = found.iter().map(|path| format!("--state-dir {}", path.display())).collect();
    Some(options.join(", or ")).filter(|text| !text.is_empty())
}

fn no_reply(role: Role, socket: &Path, error: &CliError) -> Failure {
    match error {
        CliError::NotRunning { source, .. } => {
            let name = match role {
                Role::Server => "server",
                Role::Client | Role::Check => "client",
            };
            let (path, socket) = (socket, socket.display());
            let message = match source.kind() {
                ErrorKind::PermissionDenied => {
                    let message = format!("the {name} on {socket} belongs to another user; try `sudo`");
                    return Failure::new(Code::Privilege, message);
                }
                ErrorKind::NotFound => {
                    let message = format!("no {name} runs here: there is no socket {socket}");
                    if let Some(others) = instances(role, path) {
                        return Failure::new(Code::CannotConnect, format!("{message}; one runs with {others}"));
                    }
                    message
                }
                _ => format!("no {name} runs here: no process listens on {socket} ({source})"),
            };
            let start = match role {
                Role::Server => "sudo cellframe-vpn server",
                Role::Client | Role::Check => "sudo cellframe-vpn client --connect HOST",
            };
            let message = format!(
                "{message}; start one (`{start}`), ask that of another user with `sudo`, or name the --state-dir that it \
                 was started with"
            );
            Failure::new(Code::CannotConnect, message)
        }
        CliError::TooLong => Failure::new(Code::Usage, error.to_string()),
        CliError::Io(_) | CliError::BadReply(_) => Failure::new(Code::NoAnswer, error.to_string()),
    }
}
