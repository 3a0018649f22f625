//! `client`: this machine's end of a tunnel.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use dap_chain_net_srv_vpn::app::{self, Status};
use dap_chain_net_srv_vpn::embedded::config::{self, Config};
use dap_chain_net_srv_vpn::embedded::logging;

use crate::args::ClientOptions;
use crate::exit::{Code, Failure};
use crate::settings::{self, Role};
use crate::{output, privilege, signals};

/// How often the tunnel's state is looked at. A loss or a stop is noticed this late at most.
const POLL: Duration = Duration::from_millis(200);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Connects, and stays until a signal, a `stop`, or (without `--retry`) a loss.
pub(crate) fn run(options: &ClientOptions) -> Result<(), Failure> {
    logging::init();
    let mut config = settings::load(Role::Client, options.config.as_deref(), options.state_dir.as_deref())?;
    privilege::require_network_admin()?;
    privilege::require_tun()?;
    override_for_client(&mut config, options.pin.as_deref());
    let (signal_came, signal) = mpsc::channel();
    signals::watch(move |number| {
        let _ = signal_came.send(number);
    })?;
    initialise(config)?;
    let result = stay_connected(options, &signal);
    app::client_stop();
    result
}

/// Why a tunnel that was up is no more.
enum End {
    Signal,
    Stopped,
    Lost,
}

fn stay_connected(options: &ClientOptions, signal: &Receiver<i32>) -> Result<(), Failure> {
    let target = &options.connect;
    let mut delay = FIRST_RETRY;
    loop {
        match connect(options) {
            Ok(lease) => {
                output::line(format_args!("connected to {target}: {lease}"));
                delay = FIRST_RETRY;
                match watch_tunnel(signal) {
                    End::Signal => return Ok(output::note("disconnecting")),
                    End::Stopped => return Ok(output::note("stopped")),
                    End::Lost if !options.retry => {
                        return Err(Failure::general(format!("the connection to {target} was lost")));
                    }
                    End::Lost => output::note(format_args!("the connection to {target} was lost")),
                }
            }
            // Only what time may heal is tried again.
            Err(failure) if options.retry && matches!(failure.code, Code::CannotConnect | Code::NoAnswer) => {
                output::note(&failure);
            }
            Err(failure) => return Err(failure),
        }
        app::client_stop();
        output::note(format_args!("next attempt in {} s", delay.as_secs()));
        match signal.recv_timeout(delay) {
            Err(RecvTimeoutError::Timeout) => delay = (delay * 2).min(LONGEST_RETRY),
            Ok(number) => return Err(Failure::new(signals::interrupted(number), "interrupted")),
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::general("the signal thread has gone")),
        }
    }
}

/// One attempt; the lease as a line of text.
fn connect(options: &ClientOptions) -> Result<String, Failure> {
    let target = &options.connect;
    let code = app::client_start(&target.host, target.port, &options.net);
    if code != 0 {
        return Err(failure(&format!("connect to {target}"), code));
    }
    let lease = app::client_lease()
        .ok_or_else(|| Failure::new(Code::NoAnswer, format!("{target} accepted, but gave no address")))?;
    Ok(format!("address {}, gateway {}, device {}, MTU {}", lease.addr, lease.gateway, lease.device, lease.mtu))
}

fn watch_tunnel(signal: &Receiver<i32>) -> End {
    loop {
        match signal.recv_timeout(POLL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return End::Signal,
        }
        match app::client_status() {
            Status::Started => {}
            Status::ConnLost => return End::Lost,
            Status::Stopped | Status::NotStarted => return End::Stopped,
        }
    }
}

/// What a client's configuration has that a server's has not.
pub(crate) fn override_for_client(config: &mut Config, pin: Option<&str>) {
    // One file may serve both ends of a machine, and a client has nothing to listen for.
    config.set("server", "enabled", "false");
    if let Some(pin) = pin {
        config.set("vpn_client", "server_pin", pin);
    }
}

/// Makes `config` the current one and brings the client up, without connecting.
pub(crate) fn initialise(config: Config) -> Result<(), Failure> {
    config::set_current(config);
    match app::client_init() {
        0 => Ok(()),
        code => Err(Failure::general(format!("the client does not start (code {code}); the log above says more"))),
    }
}

/// The failure behind a code of the client's functions, with the detail that the library keeps.
pub(crate) fn failure(what: &str, code: i32) -> Failure {
    let detail = app::client_last_error();
    let (exit, outcome) = match code {
        -1 => (Code::Usage, "the parameters are not valid"),
        -2 if detail.as_deref().is_some_and(is_refusal) => (Code::Refused, "refused"),
        -2 => (Code::CannotConnect, "cannot connect"),
        -3 if detail.as_deref().is_some_and(is_refusal) => (Code::Refused, "refused"),
        -3 => (Code::NoAnswer, "no answer"),
        _ => (Code::Failure, "failed"),
    };
    let reason = detail.map_or_else(|| format!("code {code}"), |detail| detail.trim_end().to_owned());
    Failure::new(exit, format!("{what}: {outcome}: {reason}"))
}

/// Whether the library's detail says that the server refused, or that its identity is not the expected one.
fn is_refusal(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    ["refused by the server", "rejected", "identity"].iter().any(|mark| detail.contains(mark))
}
