//! The command line of a running node: a registry of commands, and a Unix socket that runs them for other processes.
//!
//! The protocol, one request per connection: a line `{"argv":["vpn_stat","-net","backbone"]}`, answered by a line
//! `{"code":0,"reply":"..."}`. The socket has mode 0600: every process that can connect may run every command.

mod client;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

pub use client::{CliError, call};
pub use server::{CliServer, start};

use super::config::Config;

/// Most bytes of a request line.
const REQUEST_MAX: usize = 64 << 10;

/// A command's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0 for success, else the command's own code; -1 for an unknown command or a malformed request.
    pub code: i32,
    /// The text for the user.
    pub text: String,
}

impl Reply {
    fn refused(text: impl Into<String>) -> Self {
        Self { code: -1, text: text.into() }
    }
}

/// A command: its name, its help, and its function, which runs on a separate thread.
pub struct Command {
    /// The first word of the command line.
    pub name: String,
    /// One line.
    pub doc: String,
    /// Usage.
    pub doc_ex: String,
    /// Receives the whole command line, its name first.
    pub run: Box<Run>,
}

/// Runs a command with its command line.
pub type Run = dyn Fn(&[String]) -> Reply + Send + Sync;

/// Adds a command, or replaces the one with that name. Any thread.
pub fn register(command: Command) -> Arc<Command> {
    let command = Arc::new(command);
    COMMANDS.write().insert(command.name.clone(), Arc::clone(&command));
    command
}

/// Removes a command; false if none has that name. A running command continues to its end.
pub fn unregister(name: &str) -> bool {
    COMMANDS.write().remove(name).is_some()
}

/// Runs a command line on the calling thread.
pub fn run(argv: &[String]) -> Reply {
    let Some(name) = argv.first() else {
        return Reply::refused("expected a command; `help` lists them");
    };
    let command = COMMANDS.read().get(name).cloned();
    match command {
        Some(command) => (command.run)(argv),
        None if name == "help" => help(argv.get(1).map(String::as_str)),
        None => Reply::refused(format!("command {name:?} is not known; known: {}", known())),
    }
}

/// The path of the node's socket: `[cli-server] listen-path`, else `cli.sock` in the state directory.
pub fn socket_path(config: &Config) -> PathBuf {
    match config.get_str("cli-server", "listen-path").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => config.state_path().join("cli.sock"),
    }
}

static COMMANDS: RwLock<BTreeMap<String, Arc<Command>>> = RwLock::new(BTreeMap::new());

fn help(about: Option<&str>) -> Reply {
    let commands = COMMANDS.read();
    let text = match about {
        None => {
            let line = |command: &Arc<Command>| format!("{:<16} {}\n", command.name, command.doc);
            commands.values().map(line).collect::<String>() + "help [command]   This list, or a command's usage\n"
        }
        Some(name) => match commands.get(name) {
            Some(command) => format!("{}: {}\n{}\n", command.name, command.doc, command.doc_ex),
            None => {
                drop(commands);
                return Reply::refused(format!("command {name:?} is not known; known: {}", known()));
            }
        },
    };
    Reply { code: 0, text }
}

fn known() -> String {
    let mut names: Vec<String> = COMMANDS.read().keys().cloned().collect();
    names.push("help".into());
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn echo(name: &str, prefix: &'static str) -> Command {
        Command {
            name: name.into(),
            doc: "says it again".into(),
            doc_ex: "echo WORD...".into(),
            run: Box::new(move |argv| Reply { code: 7, text: format!("{prefix}{}", argv.join(" ")) }),
        }
    }

    #[test]
    fn commands_come_and_go() {
        register(echo("registry_echo", "old "));
        register(echo("registry_echo", ""));
        let reply = run(&line(&["registry_echo", "a", "b"]));
        assert_eq!(reply, Reply { code: 7, text: "registry_echo a b".into() });
        assert!(run(&line(&["help"])).text.contains("registry_echo    says it again\n"));
        let usage = run(&line(&["help", "registry_echo"]));
        assert_eq!(usage, Reply { code: 0, text: "registry_echo: says it again\necho WORD...\n".into() });
        assert!(unregister("registry_echo"));
        assert!(!unregister("registry_echo"));
        let gone = run(&line(&["registry_echo"]));
        assert_eq!(gone.code, -1);
        assert!(gone.text.contains("not known; known: ") && gone.text.ends_with("help"), "{}", gone.text);
        assert_eq!(run(&line(&["help", "registry_echo"])).code, -1);
        assert_eq!(run(&[]).code, -1);
    }

    #[test]
    fn the_socket_is_where_the_configuration_says() {
        let path = |text| socket_path(&Config::parse(text, "test.cfg").0);
        assert_eq!(path("[cli-server]\nlisten-path=/run/x.sock"), PathBuf::from("/run/x.sock"));
        assert_eq!(path("[general]\nstate_dir=/nowhere/y"), PathBuf::from("/nowhere/y/cli.sock"));
    }
}
