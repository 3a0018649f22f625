//! The server of this machine.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::SystemTime;

use embedded::cli;
use embedded::config::Config;
use embedded::tls;
use host::nft::{arrival, nat};
use host::outer_path::on_this_host;
use serde_json::Value;
use vpn_core::lease::Subnet;

use super::kernel::seconds;
use super::{ask, process};
use crate::args::DoctorOptions;
use crate::control;
use crate::doctor::facts::{Answer, Listen, Network, Runs, ServerEnd};
use crate::exit::Code;
use crate::settings::Role;
use crate::target::{DEFAULT_NETWORK, Target};

/// What the configuration says of the MTU if it says nothing.
const MTU: u64 = 1390;

pub(super) fn server(config: &Config, network: &Network, options: &DoctorOptions) -> ServerEnd {
    let process = process::process(config);
    let text = |key| config.get_str("srv_vpn", key);
    let subnet = Subnet::parse(&text("network_address").unwrap_or_default(), &text("network_mask").unwrap_or_default())
        .map_err(|error| error.to_string());
    let gateway = subnet.as_ref().ok().map(Subnet::gateway);
    let is_running = matches!(process.runs, Runs::Yes(_));
    // Without a server that has made one, another device may have this address.
    let with_gateway = network.addresses.iter().find(|one| is_running && Some(one.address) == gateway);
    let device =
        with_gateway.map(|one| one.link.clone()).or_else(|| text("device")).unwrap_or_else(|| "tun0".to_owned());
    let others = match &subnet {
        Ok(subnet) => nat::others(&device, (subnet.base(), subnet.prefix)).map_err(|error| error.to_string()),
        Err(error) => Err(error.clone()),
    };
    let links = with_gateway.map(|one| &one.link).into_iter().chain(&network.defaults);
    let forwards = links.filter_map(|link| Some((link.clone(), nat::forwards(link).ok()?))).collect();
    let listen: Vec<_> = config.get_list("server", "listen_address").iter().flat_map(|text| addresses(text)).collect();
    let identity_age = identity_age(config);
    // One that runs has an identity: asking for it makes none.
    let identity = || tls::identity_fingerprint(config).ok().map(|fingerprint| tls::fingerprint_text(&fingerprint));
    let pin = if is_running && identity_age.is_some() { identity() } else { None };
    // Without it, the key of another server may be configured for clients: that this one is refused says that it answers.
    let is_told = |answer: &Answer| pin.is_some() || answer.code != Code::Refused;
    let net = text("net").unwrap_or_else(|| DEFAULT_NETWORK.to_owned());
    let ask = |address: &SocketAddr| {
        let here = on_this_host(*address);
        let target = Target { host: here.ip().to_string(), port: here.port() };
        ask::once(&target, pin.as_deref(), &net, ask::FEW, options)
    };
    let answer = listen.first().filter(|_| is_running).map(ask).filter(is_told);
    ServerEnd {
        outage: if is_running { outage(config) } else { None },
        has_device: with_gateway.is_some(),
        device,
        mtu: config.get_u64("srv_vpn", "mtu", MTU),
        nat: text("nat").unwrap_or_else(|| "auto".to_owned()),
        others,
        forwards_all: nat::forwards_everywhere().map_err(|error| error.to_string()),
        forwards,
        listen: listen.into_iter().map(listen_at).collect(),
        identity_age,
        answer,
        subnet,
        process,
    }
}

fn addresses(text: &str) -> Vec<SocketAddr> {
    text.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

fn listen_at(address: SocketAddr) -> Listen {
    let is_ipv6 = match address.ip() {
        IpAddr::V4(_) => false,
        // One for all addresses takes those of IPv4, too, which most clients use.
        IpAddr::V6(ip) => !ip.is_unspecified() && ip.to_ipv4_mapped().is_none(),
    };
    let fate = arrival::fate(address.port(), is_ipv6).map_err(|error| error.to_string());
    Listen { address, holders: process::holders(address), fate }
}

/// Asks the server whether its tunnel is down.
fn outage(config: &Config) -> Option<String> {
    let text = control::call(Role::Server, &cli::socket_path(config), &["vpn_stat", "-json"]).ok()?;
    let stat: Value = serde_json::from_str(&text).ok()?;
    stat["outage"].as_str().map(str::to_owned)
}

fn identity_age(config: &Config) -> Option<u64> {
    let file = match fs::metadata(config.state_path().join("identity.key")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        file => file.ok()?,
    };
    Some(seconds(SystemTime::now()).saturating_sub(seconds(file.modified().ok()?)))
}
