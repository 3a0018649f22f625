//! One end of the demo: a process that performs the demo's requests in a network namespace of its own.
//!
//! It exits when the demo closes the socket, and the kernel kills it when the demo dies.

use std::io::BufReader;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use embedded::config::Config;
use embedded::{cli, logging};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde_json::{Value, json};
use vpn_core::forward::Totals;

use super::control::{self, number, text};
use super::internet::{self, Steps};
use super::{namespaces, paid, ping, traffic};
use crate::args::{DemoEndOptions, EndRole};
use crate::check::milliseconds;
use crate::exit::{Code, Failure};
use crate::target::DEFAULT_NETWORK;
use crate::target::DEFAULT_PORT;
use crate::{client, server};

/// Bytes that the check sends and requests.
const CHECK_PAYLOAD: usize = 1024;
const CHECK_TIMEOUT_MS: i32 = 10_000;

/// Serves the demo's requests on stdin until the demo closes the socket.
pub(crate) fn run(options: &DemoEndOptions) -> Result<(), Failure> {
    die_with(options.parent)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let socket = socket.map(UnixStream::from).map_err(|error| Failure::general(error.to_string()))?;
    let mut requests = match socket.try_clone() {
        Ok(socket) => BufReader::new(socket),
        Err(error) => return Err(Failure::general(error.to_string())),
    };
    let mut end = End {
        role: options.role,
        beside: options.beside,
        parent: options.parent,
        socket,
        steps: Steps::default(),
        paid: paid::Steps::default(),
    };
    // An interrupted demo closes the socket in the middle of a message: the loop ends then too.
    while let Ok(Some(request)) = control::receive(&mut requests) {
        let answer = match end.perform(&request) {
            Ok(mut answer) => {
                answer["ok"] = true.into();
                answer
            }
            Err(failure) => json!({"ok": false, "code": failure.code.number(), "error": failure.message}),
        };
        if control::send(&end.socket, &answer).is_err() {
            break;
        }
    }
    Ok(())
}

struct End {
    role: EndRole,
    beside: Option<u32>,
    parent: u32,
    socket: UnixStream,
    /// Of the demo with an Internet.
    steps: Steps,
    /// Of the demo with money.
    paid: paid::Steps,
}

impl End {
    fn perform(&mut self, request: &Value) -> Result<Value, Failure> {
        let gateway = || address(request, "gateway");
        match (text(request, "do")?, self.role) {
            ("enter", _) => self.enter(request),
            ("link", EndRole::Server) => namespaces::lay_cable(number(request, "peer")?).map(|()| json!({})),
            ("link", EndRole::Client) => namespaces::take_cable().map(|()| json!({})),
            ("start", EndRole::Server) => start_server(request),
            ("serve", EndRole::Server) => traffic::serve(SERVER_GATEWAY).map(|()| json!({})),
            ("receive", EndRole::Server) => self.paid.receive(SERVER_GATEWAY),
            ("configure", EndRole::Client) => self.configure_client(request),
            ("check", EndRole::Client) => check(),
            ("start", EndRole::Client) => start_client(server_address(request["internet"] == true)),
            ("ping", EndRole::Client) => ping::measure(gateway()?).map(|result| result.to_json()),
            ("transfer", EndRole::Client) => self.transfer(request, gateway()?),
            ("cpu", _) => Ok(json!({"process": traffic::process_cpu(), "traffic": traffic::traffic_cpu()})),
            ("totals", EndRole::Server) => match app::server_totals() {
                Some(counted) => Ok(totals(&counted)),
                None => Err(Failure::general("the server has stopped running")),
            },
            ("totals", EndRole::Client) => Ok(totals(&app::client_totals())),
            ("stop", EndRole::Server) => {
                app::server_stop();
                Ok(json!({}))
            }
            ("stop", EndRole::Client) => {
                app::client_stop();
                Ok(json!({}))
            }
            (step, role) => self
                .steps
                .perform(step, role, request)
                .or_else(|| self.paid.perform(step, role, request))
                .unwrap_or_else(|| Err(Failure::general(format!("unknown step {step:?} for the demo's {role:?} end")))),
        }
    }

    /// Must be the first step: once the process has threads, none of them can change its user namespace.
    fn enter(&mut self, request: &Value) -> Result<Value, Failure> {
        let privileges = match self.beside {
            Some(pid) if !request["host"].is_null() => {
                namespaces::enter_host_of(pid, number(request, "host")?).map(|()| Value::Null)?
            }
            Some(pid) => namespaces::enter_beside(pid).map(|()| Value::Null)?,
            None => namespaces::enter_new()?.into(),
        };
        let no_own_files = if request["own_files"] == true { self.steps.own_files() } else { Value::Null };
        // A change of credentials clears the death signal (prctl(2)).
        die_with(self.parent)?;
        logging::init();
        Ok(json!({"privileges": privileges, "no_own_files": no_own_files}))
    }

    fn configure_client(&self, request: &Value) -> Result<Value, Failure> {
        let mut config = Config::empty();
        config.set("general", "state_dir", text(request, "state")?);
        if request["internet"] == true {
            config.set("vpn_client", "kill_switch", "true");
        } else {
            config.set_list("vpn_client", "routes", &[]);
        }
        if !self.steps.has_own_files() {
            // This end has this machine's /etc.
            config.set("vpn_client", "dns", "off");
        }
        client::override_for_client(&mut config, Some(text(request, "pin")?));
        client::initialise(config, DEFAULT_NETWORK)?;
        Ok(json!({}))
    }

    fn transfer(&self, request: &Value, gateway: Ipv4Addr) -> Result<Value, Failure> {
        let length = Duration::from_secs(number(request, "seconds")?.into());
        let direction = traffic::Direction::from_name(text(request, "direction")?)
            .ok_or_else(|| Failure::general("unknown direction; expected upload or download"))?;
        let result = traffic::transfer(direction, gateway, length, |bytes| {
            // If the demo has exited, sending the answer fails too.
            let _ = control::send(&self.socket, &json!({"progress": bytes}));
        })?;
        Ok(json!({"bytes": result.bytes, "seconds": result.time.as_secs_f64()}))
    }
}

/// The tunnel's network, and the server's address in it.
const NETWORK: &str = "10.98.0.0";
const MASK: &str = "255.255.255.0";
const SERVER_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// The server's address on its cable.
fn server_address(has_internet: bool) -> Ipv4Addr {
    if has_internet { internet::SERVER } else { namespaces::SERVER_ADDRESS }
}

fn start_server(request: &Value) -> Result<Value, Failure> {
    let (state, has_internet) = (text(request, "state")?, request["internet"] == true);
    let mut config = Config::empty();
    let listen = format!("{}:{DEFAULT_PORT}", server_address(has_internet));
    for (section, key, value) in [
        ("general", "state_dir", state),
        ("server", "listen_address", &listen),
        ("srv_vpn", "network_address", NETWORK),
        ("srv_vpn", "network_mask", MASK),
        ("srv_vpn", "net", DEFAULT_NETWORK),
        ("srv_vpn", "enabled", "true"),
        // Without an Internet there is no other network.
        ("srv_vpn", "nat", if has_internet { "auto" } else { "off" }),
    ] {
        config.set(section, key, value);
    }
    let prices: Vec<String> =
        request["prices"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    config.set_list("srv_vpn", "prices", &prices);
    if has_internet {
        // This machine's are not reached from there.
        config.set_list("srv_vpn", "dns", &[internet::NAME_SERVER.to_string()]);
    }
    let socket = cli::socket_path(&config);
    let pin = server::identity(&config)?;
    server::start(config)?;
    let sells: Vec<String> = server::prices()?.iter().map(ToString::to_string).collect();
    Ok(json!({"pin": pin, "cli_socket": socket.to_str(), "sells": sells.join(", ")}))
}

fn check() -> Result<Value, Failure> {
    let host = namespaces::SERVER_ADDRESS.to_string();
    let (port, net) = (DEFAULT_PORT, DEFAULT_NETWORK);
    let timing = app::client_test(&host, port, net, CHECK_PAYLOAD, CHECK_PAYLOAD, CHECK_TIMEOUT_MS)
        .map_err(|error| client::failure(&error))?;
    let (connect, round_trip) = (milliseconds(timing.connect), milliseconds(timing.round_trip));
    Ok(json!({"connect_ms": connect, "round_trip_ms": round_trip}))
}

fn start_client(server: Ipv4Addr) -> Result<Value, Failure> {
    app::client_start(&server.to_string(), DEFAULT_PORT, DEFAULT_NETWORK).map_err(|error| client::failure(&error))?;
    let lease = app::client_lease().ok_or_else(|| Failure::new(Code::NoAnswer, "the server leased no address"))?;
    Ok(json!({
        "address": lease.addr.to_string(),
        "gateway": lease.gateway.to_string(),
        "mtu": lease.mtu,
        "device": lease.device,
    }))
}

fn totals(totals: &Totals) -> Value {
    let drops: serde_json::Map<_, _> = totals
        .drops
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(cause, n)| (cause.name().into(), (*n).into()))
        .collect();
    json!({
        "up_packets": totals.up_packets,
        "up_bytes": totals.up_bytes,
        "down_packets": totals.down_packets,
        "down_bytes": totals.down_bytes,
        "drops": drops,
    })
}

/// Asks the kernel to kill this process when its parent exits, and fails if the parent already has.
fn die_with(parent: u32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::general(format!("cannot set the death signal of this end: {error}")))?;
    let alive = getppid().map(Pid::as_raw_nonzero).is_some_and(|pid| u32::try_from(pid.get()) == Ok(parent));
    if alive { Ok(()) } else { Err(Failure::general("the demo has exited")) }
}

fn address(request: &Value, key: &str) -> Result<Ipv4Addr, Failure> {
    text(request, key)?.parse().map_err(|_| Failure::general(format!("{key:?} is not an IPv4 address")))
}
