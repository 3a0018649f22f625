//! Reading the configuration again while the program runs: on SIGHUP, or when `cellframe-vpn reload` asks for it.
//!
//! The new file is checked as at a start. What can change ([`keys`]) is taken from it; every other key keeps its value,
//! and is named. The thread that waits for signals in `server` and `client` does all of it, so nothing runs beside it.

mod keys;
mod report;

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use dap_chain_net_srv_vpn::app::{self, ReloadError};
use embedded::cli::{self, Command, Reply};
use embedded::config::{self, Config};
use embedded::prices;

use crate::args::{ReloadOptions, Reloaded};
use crate::exit::{Code, Failure};
use crate::notify::Manager;
use crate::settings::{self, Role};
use crate::{control, output};
use keys::Effect;
use report::Report;

/// The command of the control socket.
const COMMAND: &str = "reload";
/// How long a command waits for its turn: a client may be connecting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the process that runs to read its configuration again, and prints what has changed.
pub(crate) fn run(options: &ReloadOptions) -> Result<(), Failure> {
    let role = match options.role {
        Reloaded::Server => Role::Server,
        Reloaded::Client => Role::Client,
    };
    let argv: Vec<&str> = [COMMAND].into_iter().chain(options.json.then_some("-json")).collect();
    let reply = control::ask_for_reply(role, &options.process, &argv)?;
    if reply.code != 0 {
        let code = u64::try_from(reply.code).map_or(Code::Failure, Code::from_number);
        return Err(Failure::new(code, reply.text));
    }
    output::line(reply.text);
    Ok(())
}

/// Someone wants the configuration read again; a command waits for the outcome.
struct Request(Option<Sender<Outcome>>);

/// A report as text and as JSON, or why nothing has changed.
type Outcome = Result<(String, String), (Code, String)>;

/// The configuration of this process, and who wants it read again.
pub(crate) struct Reloads {
    source: Source,
    sender: Sender<Request>,
    requests: Receiver<Request>,
    /// Why the last reload has failed.
    failure: Option<String>,
}

/// Does to a configuration what the options of the command line say.
type Adapt = dyn Fn(&mut Config) -> Result<(), Failure>;

/// Where the configuration comes from.
pub(crate) struct Source {
    role: Role,
    /// The file that the command line names, else the one that was there at the start.
    file: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    /// What the command line says beside the file.
    adapt: Box<Adapt>,
}

impl Source {
    /// `adapt` does to a configuration what the options of the command line say.
    pub(crate) fn new(
        role: Role,
        file: Option<&PathBuf>,
        state_dir: Option<&PathBuf>,
        adapt: impl Fn(&mut Config) -> Result<(), Failure> + 'static,
    ) -> Source {
        // A default file that vanishes later is a mistake, not the wish for built-in defaults.
        let file = settings::file(file.map(PathBuf::as_path)).map(PathBuf::from);
        Source { role, file, state_dir: state_dir.cloned(), adapt: Box::new(adapt) }
    }

    /// Reads the configuration.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let mut config = settings::load(self.role, self.file.as_deref(), self.state_dir.as_deref())?;
        (self.adapt)(&mut config)?;
        Ok(config)
    }
}

impl Reloads {
    pub(crate) fn new(source: Source) -> Reloads {
        let (sender, requests) = mpsc::channel();
        Reloads { source, sender, requests, failure: None }
    }

    /// Reads the configuration for the start.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        self.source.load()
    }

    /// Returns what a SIGHUP calls.
    pub(crate) fn on_hangup(&self) -> impl Fn() + Send + 'static {
        let sender = self.sender.clone();
        // The receiver is gone when the program ends.
        move || drop(sender.send(Request(None)))
    }

    /// Adds the command to the control socket, which answers when [`Reloads::serve`] has run.
    pub(crate) fn register(&self) {
        let sender = self.sender.clone();
        cli::register(Command {
            name: COMMAND.into(),
            doc: "Reads the configuration again".into(),
            doc_ex: "reload [-json]".into(),
            run: Box::new(move |argv| answer(&sender, argv)),
        });
    }

    /// Reads the configuration again if someone wants that: once for all who do. `status` says how the service is.
    pub(crate) fn serve(&mut self, manager: &mut Manager, status: impl Fn() -> String) {
        let waiting: Vec<Request> = self.requests.try_iter().collect();
        if waiting.is_empty() {
            return;
        }
        manager.reloading();
        let result = self.reload();
        match &result {
            Ok(report) => {
                log::info!("{}", report.summary());
                report.applied.iter().for_each(|(change, _)| log::info!("changed: {change}"));
                report.restart.iter().for_each(|change| log::warn!("needs a restart: {change}"));
                self.failure = None;
            }
            Err(failure) => {
                log::error!("reload: {failure}");
                self.failure = Some(failure.message.clone());
            }
        }
        manager.reloaded(&self.status(status()));
        let outcome = result
            .map(|report| (report.to_string(), report.to_json().to_string()))
            .map_err(|failure| (failure.code, failure.message));
        for Request(answer) in waiting {
            // The command may have given up.
            answer.into_iter().for_each(|answer| drop(answer.send(outcome.clone())));
        }
    }

    /// Adds to a status what an operator must know of the last reload.
    pub(crate) fn status(&self, status: String) -> String {
        match &self.failure {
            Some(failure) => format!("{status}; the last reload failed: {failure}"),
            None => status,
        }
    }

    fn reload(&self) -> Result<Report, Failure> {
        let role = self.source.role;
        let unchanged = |Failure { code, message }| {
            Failure::new(code, format!("{message}; nothing has changed, the configuration before stays in force"))
        };
        let new = self.source.load().map_err(unchanged)?;
        let old = config::current();
        let mut report = compare(role, &old, &new);
        report.file = self.source.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let mut merged = new.clone();
        report.restart.iter().for_each(|change| merged.take_from(&old, &change.section, &change.key));
        let result = match role {
            Role::Server => reload_server(&new, merged, &report).inspect(|()| say_prices(&report)),
            Role::Client | Role::Check => app::client_reload(merged).map_err(|error| failure(&error)),
        };
        result.map(|()| report).map_err(unchanged)
    }
}

fn answer(sender: &Sender<Request>, argv: &[String]) -> Reply {
    let is_json = match argv.get(1..).unwrap_or_default() {
        [] => false,
        [word] if word == "-json" => true,
        _ => return Reply { code: Code::Usage.number().into(), text: "reload: expected nothing, or -json".into() },
    };
    let (outcome, result) = mpsc::channel();
    let ends = || Reply { code: Code::Failure.number().into(), text: "the process ends".into() };
    if sender.send(Request(Some(outcome))).is_err() {
        return ends();
    }
    match result.recv_timeout(PATIENCE) {
        Ok(Ok((_, json))) if is_json => Reply { code: 0, text: json },
        Ok(Ok((text, _))) => Reply { code: 0, text },
        Ok(Err((code, text))) => Reply { code: code.number().into(), text },
        Err(RecvTimeoutError::Disconnected) => ends(),
        Err(RecvTimeoutError::Timeout) => Reply {
            code: Code::Failure.number().into(),
            text: format!(
                "the process is busy, perhaps connecting, for {} s; the configuration is read again when it is not",
                PATIENCE.as_secs()
            ),
        },
    }
}

/// Compares key by key.
fn compare(role: Role, old: &Config, new: &Config) -> Report {
    let mut report = Report::default();
    let changes = old.changes(new);
    let is_new = |key: &(&str, &str)| changes.iter().any(|change| (&*change.section, &*change.key) == *key);
    report.unchanged = new.keys().iter().filter(|key| !is_new(key)).count();
    for change in changes.clone() {
        match keys::effect(role, &change.section, &change.key) {
            Effect::Applied(when) => report.applied.push((change, when)),
            Effect::Restart => report.restart.push(change),
            Effect::None => {}
        }
    }
    report
}

/// `merged` is the new configuration with the old values of the keys that need a restart.
fn reload_server(new: &Config, merged: Config, report: &Report) -> Result<(), Failure> {
    if report.restart.is_empty() {
        return app::server_reload(merged).map_err(|error| failure(&error));
    }
    // The restart that the operator is told to make must succeed.
    app::server_check(new).map_err(|error| failure(&error))?;
    let changes_networks = report.restart.iter().any(|change| change.section == "networks" || change.key == "net");
    if !changes_networks {
        prices::read(new).map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    }
    app::server_reload(merged).map_err(|error| {
        let keys: Vec<_> = report.restart.iter().map(|change| format!("[{}] {}", change.section, change.key)).collect();
        let Failure { code, message } = failure(&error);
        let keys = keys.join(", ");
        Failure::new(code, format!("{message}, which does not fit the running service's {keys}: restart the service"))
    })
}

/// Clients name the orders by their hashes.
fn say_prices(report: &Report) {
    if report.applied.iter().any(|(change, _)| change.key == "prices") {
        let prices = prices::read(&config::current()).unwrap_or_default();
        prices.iter().for_each(|price| log::info!("sells {price}"));
    }
}

fn failure(error: &ReloadError) -> Failure {
    let code = if error.is_configuration() { Code::Usage } else { Code::Failure };
    Failure::new(code, error.to_string())
}
