//! `client`: connects this machine to a server.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app::{self, ClientError, Status};
use embedded::config::{self, Config};
use embedded::{logging, net};
use rustix::io::Errno;

use crate::args::ClientOptions;
use crate::exit::{Code, Failure};
use crate::settings::{self, Role};
use crate::{output, privilege, signals};

/// Interval between looks at the tunnel's state: the longest delay before a loss or a stop is noticed.
const POLL: Duration = Duration::from_millis(200);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Connects, and returns after a signal, a `stop`, or (without `--retry`) a loss.
pub(crate) fn run(options: &ClientOptions) -> Result<(), Failure> {
    logging::init();
    let mut config = settings::load(Role::Client, options.config.as_deref(), options.state_dir.as_deref())?;
    privilege::require_network_admin()?;
    privilege::require_tun()?;
    settings::require_unused(Role::Client, &config)?;
    override_for_client(&mut config, options.pin.as_deref());
    if !options.allow_subnet.is_empty() {
        config.set_list("vpn_client", "allow_subnet", &options.allow_subnet);
    }
    let (sender, signal) = mpsc::channel();
    signals::watch(move |number| {
        let _ = sender.send(number);
        // Ends an attempt to connect that is under way.
        app::client_stop();
    })?;
    initialise(config, &options.net)?;
    let result = stay_connected(options, &signal);
    app::client_deinit();
    result
}

/// The reason why a tunnel that was up is down.
enum End {
    Signal,
    Stopped,
    Lost,
}

/// What one connection came to.
enum Outcome {
    /// The user ended it; the word says how.
    Ended(&'static str),
    /// It failed, or was lost after that time; the next attempt may succeed.
    Retry { failure: Failure, lasted: Duration },
}

fn stay_connected(options: &ClientOptions, signal: &Receiver<i32>) -> Result<(), Failure> {
    let mut delay = FIRST_RETRY;
    loop {
        match hold_connection(options, signal)? {
            Outcome::Ended(how) => return ended(how),
            Outcome::Retry { failure, lasted } => {
                output::note(failure);
                // Only a connection that lasted resets the back-off.
                if lasted >= LONGEST_RETRY {
                    delay = FIRST_RETRY;
                }
            }
        }
        output::note(format_args!("next attempt in {} s", delay.as_secs()));
        match watch(signal, Some(Instant::now() + delay)) {
            Some(End::Signal) => return ended("disconnecting"),
            Some(End::Stopped) => return ended("stopped"),
            Some(End::Lost) | None => delay = (delay * 2).min(LONGEST_RETRY),
        }
    }
}

/// Connects once, and waits until the connection ends. Fails when there is to be no next attempt.
fn hold_connection(options: &ClientOptions, signal: &Receiver<i32>) -> Result<Outcome, Failure> {
    let target = &options.connect;
    let lease = match connect(options) {
        Ok(lease) => lease,
        Err(failure) => {
            if let Ok(number) = signal.try_recv() {
                return Err(Failure::new(signals::interrupted(number), "interrupted while connecting"));
            }
            let may_pass = matches!(failure.code, Code::CannotConnect | Code::NoAnswer);
            return retry(options, may_pass, failure, Duration::ZERO);
        }
    };
    output::line(format_args!("connected to {target}: {lease}"));
    let connected = Instant::now();
    match watch(signal, None) {
        Some(End::Signal) => Ok(Outcome::Ended("disconnecting")),
        Some(End::Stopped) => Ok(Outcome::Ended("stopped")),
        Some(End::Lost) | None => {
            let why = match app::client_last_error() {
                Some(ClientError::Lost { reason, .. }) => format!(": {reason}"),
                _ => String::new(),
            };
            let lost = Failure::general(format!("the connection to {target} was lost{why}"));
            retry(options, true, lost, connected.elapsed())
        }
    }
}

fn retry(options: &ClientOptions, may_pass: bool, failure: Failure, lasted: Duration) -> Result<Outcome, Failure> {
    if options.retry && may_pass { Ok(Outcome::Retry { failure, lasted }) } else { Err(failure) }
}

/// Reports an end that the user asked for.
fn ended(how: &str) -> Result<(), Failure> {
    output::note(how);
    Ok(())
}

/// Connects once and returns the lease as a line of text.
fn connect(options: &ClientOptions) -> Result<String, Failure> {
    let target = &options.connect;
    app::client_start(&target.host, target.port, &options.net).map_err(|error| failure(&error))?;
    let lease = app::client_lease().ok_or_else(|| {
        Failure::new(Code::NoAnswer, format!("{target} accepted the connection, but leased no address"))
    })?;
    Ok(format!("address {}, gateway {}, device {}, MTU {}", lease.addr, lease.gateway, lease.device, lease.mtu))
}

/// Waits until the tunnel that is up ends; with `until`, in the pause between two attempts, at most until then.
fn watch(signal: &Receiver<i32>, until: Option<Instant>) -> Option<End> {
    loop {
        match signal.recv_timeout(POLL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Some(End::Signal),
        }
        match (app::client_status(), until) {
            // The signal's handler stops the client.
            (Status::Stopped, _) if signal.try_recv().is_ok() => return Some(End::Signal),
            (Status::Stopped, _) => return Some(End::Stopped),
            (Status::NotStarted | Status::ConnectionLost, None) => return Some(End::Lost),
            (_, Some(until)) if Instant::now() >= until => return None,
            _ => {}
        }
    }
}

/// Adapts a loaded configuration to the client's role.
pub(crate) fn override_for_client(config: &mut Config, pin: Option<&str>) {
    // Server and client may share one file, and a client does not listen.
    config.set("server", "enabled", "false");
    if let Some(pin) = pin {
        config.set("vpn_client", "server_pin", pin);
    }
}

/// Makes `config`, which must list the network `net`, the current configuration and initialises the client. It does not
/// connect.
pub(crate) fn initialise(config: Config, net: &str) -> Result<(), Failure> {
    config::set_current(config);
    require_network(net)?;
    app::client_init().map_err(|error| Failure::general(format!("the client cannot start: {error}")))
}

/// Fails with a usage error unless the current configuration lists the network.
pub(crate) fn require_network(name: &str) -> Result<(), Failure> {
    if net::find_by_name(name).is_some() {
        return Ok(());
    }
    let message = format!("--net {name}: no such network; the configuration lists the known ones in [networks] names");
    Err(Failure::new(Code::Usage, message))
}

/// Maps the library's error to its exit code and message.
pub(crate) fn failure(error: &ClientError) -> Failure {
    let code = match error {
        ClientError::Argument(_) | ClientError::Config(_) => Code::Usage,
        ClientError::Connect { errno, .. } if *errno == Errno::KEYREJECTED.raw_os_error() => Code::Refused,
        ClientError::Connect { .. } => Code::CannotConnect,
        ClientError::NoAnswer { .. } => Code::NoAnswer,
        ClientError::Refused { .. } => Code::Refused,
        ClientError::NotRunning
        | ClientError::Tunnel(_)
        | ClientError::Payment(_)
        | ClientError::Lost { .. }
        | ClientError::OnWorker
        | ClientError::Stopped => Code::Failure,
    };
    Failure::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_exit_code() {
        let server = || "host:1".to_owned();
        let connect = |errno: Errno| ClientError::Connect { server: server(), errno: errno.raw_os_error() };
        let table = [
            (ClientError::Argument("x"), Code::Usage),
            (connect(Errno::CONNREFUSED), Code::CannotConnect),
            (connect(Errno::PROTO), Code::CannotConnect),
            (connect(Errno::KEYREJECTED), Code::Refused),
            (ClientError::Refused { server: server(), reason: "full".into() }, Code::Refused),
            (ClientError::NoAnswer { server: server(), waiting_for: "it", after: POLL }, Code::NoAnswer),
            (ClientError::Tunnel("x".into()), Code::Failure),
            (ClientError::Payment("x".into()), Code::Failure),
            (ClientError::Lost { server: server(), reason: "x".into() }, Code::Failure),
        ];
        for (error, code) in table {
            let failure = failure(&error);
            assert_eq!((failure.code, &failure.message), (code, &error.to_string()));
        }
    }
}
