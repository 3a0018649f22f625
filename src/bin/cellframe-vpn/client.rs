//! `client`: connects this machine to a server.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app::{self, ClientError, Status};
use embedded::config::{self, Config};
use embedded::store::StoreError;
use embedded::tls::pin;
use embedded::{logging, net, store};
use host::patience::jittered;
use rustix::io::Errno;
use vpn_core::names;

use crate::args::ClientOptions;
use crate::exit::{Code, Failure};
use crate::live::LiveLine;
use crate::notify::Manager;
use crate::profile::Profile;
use crate::reload::{Reloads, Source};
use crate::settings::{self, Role};
use crate::{output, paying, privilege, signals};

/// Interval between looks at the tunnel's state: the longest delay before a loss or a stop is noticed.
const POLL: Duration = Duration::from_millis(200);
/// The store's group of lease tokens, which the library keeps.
const LEASES: &str = "local.vpn_client.leases";
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// What a stop may take.
const STOP: Duration = Duration::from_secs(30);

/// Connects, and returns after a signal, a `stop`, or a loss after which the library does not connect again.
pub(crate) fn run(options: &ClientOptions) -> Result<(), Failure> {
    logging::init();
    let given = options.clone();
    let adapt = move |config: &mut Config| apply_options(&given, config);
    let source = Source::new(Role::Client, options.config.as_ref(), options.state_dir.as_ref(), adapt);
    let mut reloads = Reloads::new(source);
    let (sender, signal) = mpsc::channel();
    let on_signal = move |number| {
        let _ = sender.send(number);
        // Ends an attempt to connect that is under way.
        app::client_stop();
    };
    signals::watch_with_reload(on_signal, reloads.on_hangup())?;
    let config = reloads.load()?;
    let profile = Profile::new(options, &config)?;
    privilege::require_network_admin()?;
    privilege::require_tun()?;
    settings::require_unused(Role::Client, &config)?;
    let user = User { signal, stops: app::client_stops() };
    require_known_servers(&config)?;
    reloads.register();
    let most = config.get_u64("vpn_client", "start_timeout", 10).min(300);
    initialise(config, &profile.net)?;
    if let Err(error) = move_lease_tokens() {
        log::warn!("the kept leases cannot be read, the server may give another address: {error}");
    }
    let live = LiveLine::show(&profile.connect);
    let mut manager = Manager::of_environment();
    let attempt = Duration::from_secs(most) + 2 * LONGEST_RETRY;
    let connecting = || manager.starting(&format!("connecting to {}", profile.connect), attempt);
    let connected = paying::choose(&profile.means, &profile.net).and_then(|()| connect(&profile, &user, connecting));
    let result = match connected {
        Ok(None) => stay_connected(&profile, &user, &mut reloads, &mut manager),
        Ok(Some(end)) => ended(end),
        Err(failure) => Err(failure),
    };
    manager.stopping(STOP);
    // A command that waits for a reload is told that there is none.
    drop(reloads);
    drop(live);
    app::client_deinit();
    result
}

/// Does to a configuration what the options say.
fn apply_options(options: &ClientOptions, config: &mut Config) -> Result<(), Failure> {
    Profile::new(options, config)?;
    override_for_client(config, options.pin.as_deref());
    let lists = [
        ("allow_subnet", &options.allow_subnet),
        ("routes", &options.route),
        ("exclude_routes", &options.exclude_route),
        ("dns", &options.dns),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        config.set_list("vpn_client", key, list);
    }
    if options.no_routes {
        config.set_list("vpn_client", "routes", &[]);
    }
    if options.no_reconnect {
        config.set("vpn_client", "reconnect", "false");
    }
    let flags = [("kill_switch", options.kill_switch), ("kill_switch_local", options.kill_switch_local)];
    for (key, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
        config.set("vpn_client", key, "true");
    }
    if let Some(ipv6) = &options.ipv6 {
        config.set("vpn_client", "ipv6", ipv6);
    }
    paying::configure(&options.pay, config);
    Ok(())
}

/// How the user ends the client.
#[derive(Clone, Copy)]
enum End {
    Signal,
    Stop,
}

/// What the user does meanwhile.
struct User {
    signal: Receiver<i32>,
    /// How often the client had been stopped when the program began.
    stops: u64,
}

impl User {
    /// Waits for at most this long. Returns how the user has ended the client, if it did.
    fn wait(&self, time: Duration) -> Option<End> {
        match self.signal.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Some(End::Signal),
        }
        let is_stopped = app::client_stops() != self.stops;
        // The signal's handler stops the client, after it has passed the signal on.
        is_stopped.then(|| if self.signal.try_recv().is_ok() { End::Signal } else { End::Stop })
    }
}

/// Connects for the first time; with `--retry` again and again. Returns how the user has ended that.
fn connect(profile: &Profile, user: &User, mut begins: impl FnMut()) -> Result<Option<End>, Failure> {
    let target = &profile.connect;
    let mut delay = FIRST_RETRY;
    loop {
        // One that came before the attempt does not end it.
        if let Ok(number) = user.signal.try_recv() {
            return Err(Failure::new(signals::interrupted(number), "interrupted while connecting"));
        }
        begins();
        let connected = app::client_start(&target.host, target.port, &profile.net);
        // Whatever the attempt came to, the user wants no connection.
        if let Ok(number) = user.signal.try_recv() {
            return match connected {
                Ok(_) => Ok(Some(End::Signal)),
                Err(_) => Err(Failure::new(signals::interrupted(number), "interrupted while connecting")),
            };
        }
        if app::client_stops() != user.stops {
            return Ok(Some(End::Stop));
        }
        match connected {
            Ok(_) => return Ok(None),
            Err(error) if profile.retry && (error.heals() || error.may_be_portal()) => output::note(failure(&error)),
            Err(error) => {
                paying::hint(&profile.means, &error);
                return Err(failure(&error).with_doctor(target));
            }
        }
        output::note(format_args!("next attempt in about {} s", delay.as_secs()));
        let pause = Instant::now() + jittered(delay);
        while Instant::now() < pause {
            if let Some(end) = user.wait(POLL) {
                return Ok(Some(end));
            }
        }
        delay = (delay * 2).min(LONGEST_RETRY);
    }
}

/// Tells the user of each connection and each loss, until the end.
fn stay_connected(profile: &Profile, user: &User, reloads: &mut Reloads, manager: &mut Manager) -> Result<(), Failure> {
    let target = &profile.connect;
    let (mut connects, mut is_lost) = (0, false);
    manager.ready(&status(profile));
    loop {
        if let Some(lease) = app::client_lease().filter(|_| app::client_connects() != connects) {
            connects = app::client_connects();
            is_lost = false;
            output::line(format_args!(
                "connected to {target}: address {}, gateway {}, device {}, MTU {}",
                lease.addr, lease.gateway, lease.device, lease.mtu
            ));
        }
        if matches!(app::client_status(), Status::NotStarted | Status::ConnectionLost) {
            let error = app::client_last_error();
            if !app::client_reconnects() {
                return Err(match error {
                    None | Some(ClientError::Lost { .. }) => lost(profile, error.as_ref()),
                    Some(error) => failure(&error),
                });
            }
            if !std::mem::replace(&mut is_lost, true) {
                output::note(lost(profile, error.as_ref()));
            }
        }
        if let Some(end) = user.wait(POLL) {
            return ended(end);
        }
        reloads.serve(manager, || status(profile));
        manager.status(&reloads.status(status(profile)));
        manager.feed();
    }
}

/// The tunnel in one line, for the service manager.
fn status(profile: &Profile) -> String {
    let target = &profile.connect;
    match app::client_lease() {
        Some(lease) => format!("connected to {target}: address {}, device {}", lease.addr, lease.device),
        None => match app::client_last_error() {
            Some(error) => format!("connecting to {target} again: {error}"),
            None => format!("connecting to {target} again"),
        },
    }
}

/// The loss of the connection, with its reason.
fn lost(profile: &Profile, error: Option<&ClientError>) -> Failure {
    let why = match error {
        Some(ClientError::Lost { reason, .. }) => format!(": {reason}"),
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    Failure::general(format!("the connection to {} was lost{why}", profile.connect))
}

/// Reports an end that the user asked for.
fn ended(end: End) -> Result<(), Failure> {
    output::note(match end {
        End::Signal => "disconnecting",
        End::Stop => "stopped",
    });
    Ok(())
}

/// Adapts a loaded configuration to the client's role.
pub(crate) fn override_for_client(config: &mut Config, pin: Option<&str>) {
    // Server and client may share one file, and a client does not listen.
    config.set("server", "enabled", "false");
    if let Some(pin) = pin {
        config.set("vpn_client", "server_pin", pin);
    }
    // Nothing has a reason to come out of the tunnel but what is routed into it.
    if config.get_list("vpn_client", "allow_source").is_empty() {
        config.set("vpn_client", "allow_source", "subnet");
    }
}

/// Makes `config`, which must list the network `net`, the current configuration and initialises the client. It does not
/// connect.
pub(crate) fn initialise(config: Config, net: &str) -> Result<(), Failure> {
    config::set_current(config);
    require_network(net)?;
    app::client_init().map_err(|error| Failure::general(format!("the client cannot start: {error}")))
}

/// Moves the lease tokens that earlier versions kept under a server's name as the user typed it to the name's one
/// spelling. Of two tokens of one server the newer one stays.
fn move_lease_tokens() -> Result<(), StoreError> {
    let mut newest = BTreeMap::new();
    for (key, token) in store::list(LEASES)? {
        let Some(name) = names::of_key(&key) else { continue };
        let set_at = store::get_record(LEASES, &key)?.map(|record| record.timestamp);
        let kept = newest.entry(name).or_insert((set_at, key.clone(), token.clone()));
        if kept.0 < set_at {
            *kept = (set_at, key, token);
        }
    }
    for (name, (_, key, token)) in &newest {
        if key != name {
            store::set(LEASES, name, token)?;
            log::info!("the lease at {key} is kept as that at {name}");
        }
    }
    for (key, _) in store::list(LEASES)? {
        if names::of_key(&key).is_some_and(|name| name != key) {
            store::delete(LEASES, &key)?;
        }
    }
    Ok(())
}

/// Fails if the identities of known servers cannot be read or kept, with the cause. With a pin they are not needed.
pub(crate) fn require_known_servers(config: &Config) -> Result<(), Failure> {
    if pin::configured(config).is_ok_and(|pin| pin.is_some()) {
        return Ok(());
    }
    store::probe(config).map_err(|error| Failure::general(format!("the known servers cannot be read: {error}")))
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
        ClientError::Connect { errno, .. } => connect_code(*errno),
        ClientError::NoAnswer { .. } => Code::NoAnswer,
        ClientError::Refused { .. } => Code::Refused,
        ClientError::Busy { .. } | ClientError::Unconfirmed(_) => Code::Busy,
        ClientError::NotRunning
        | ClientError::Elsewhere(_)
        | ClientError::Tunnel(_)
        | ClientError::Payment(_)
        | ClientError::Lost { .. }
        | ClientError::OnWorker
        | ClientError::Stopped => Code::Failure,
    };
    Failure::new(code, error.to_string())
}

/// The code of a connection that was not made. Any number may come here, 0 for a stream that its server closed, and
/// `Errno` takes a part of them alone: it is compared as a number.
fn connect_code(errno: i32) -> Code {
    let is = |known: Errno| errno == known.raw_os_error();
    if is(Errno::KEYREJECTED) {
        Code::Refused
    } else if is(Errno::PROTO) {
        Code::Incompatible
    } else if is(Errno::IO) {
        // The state directory, or another resource of this host.
        Code::Failure
    } else {
        Code::CannotConnect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_a_failed_connection_has_a_code() {
        for errno in (-5000..=5000).chain([i32::MIN, i32::MAX]) {
            let error = ClientError::Connect { server: "host:1".to_owned(), errno };
            assert!(!failure(&error).message.is_empty(), "{errno}");
        }
        let closed = failure(&ClientError::Connect { server: "host:1".to_owned(), errno: 0 });
        assert_eq!(closed.code, Code::CannotConnect);
        assert_eq!(closed.message, "cannot connect to host:1: the connection was closed");
    }

    #[test]
    fn each_error_has_its_exit_code() {
        let server = || "host:1".to_owned();
        let connect = |errno: Errno| ClientError::Connect { server: server(), errno: errno.raw_os_error() };
        let named = |name: &str| name.to_owned();
        // The error, its exit code, and whether --retry goes on.
        let table = [
            (ClientError::Argument("x"), Code::Usage, false),
            (connect(Errno::CONNREFUSED), Code::CannotConnect, true),
            (connect(Errno::NOENT), Code::CannotConnect, true),
            (connect(Errno::TIMEDOUT), Code::CannotConnect, true),
            (connect(Errno::PROTO), Code::Incompatible, false),
            (connect(Errno::KEYREJECTED), Code::Refused, false),
            (connect(Errno::IO), Code::Failure, false),
            (ClientError::Refused { server: server(), reason: named("the order is free") }, Code::Refused, false),
            (ClientError::Busy { server: server(), reason: named("full") }, Code::Busy, true),
            (ClientError::Unconfirmed(named("x")), Code::Busy, true),
            (ClientError::NoAnswer { server: server(), waiting_for: "it", after: POLL }, Code::NoAnswer, true),
            (ClientError::Tunnel(named("x")), Code::Failure, false),
            (ClientError::Payment(named("x")), Code::Failure, false),
            (ClientError::Lost { server: server(), reason: named("x") }, Code::Failure, true),
        ];
        for (error, code, heals) in table {
            assert_eq!(error.heals(), heals, "{error}");
            let failure = failure(&error);
            assert_eq!((failure.code, &failure.message), (code, &error.to_string()));
        }
    }

    #[test]
    fn kept_leases_move_to_one_spelling() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("[general]\nstate_dir={}\n", directory.path().display());
        config::set_current(Config::parse(&text, "test").0);
        for (key, token) in [("VPN.Test:1", b"old"), ("vPN.test.:1", b"new"), ("[0:0::1]:1", b"six"), ("b:1", b"one")] {
            store::set(LEASES, key, token).unwrap();
        }
        move_lease_tokens().unwrap();
        move_lease_tokens().unwrap();
        let kept = [("[::1]:1", b"six"), ("b:1", b"one"), ("vpn.test:1", b"new")];
        assert_eq!(store::list(LEASES).unwrap(), kept.map(|(key, token)| (key.to_owned(), token.to_vec())));
        store::close();
    }
}
