//! Starts each system on the two hosts.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::failure::Failure;
use crate::hosts::{Hosts, INNER_CLIENT, INNER_SERVER, SERVER};
use crate::running::Running;
use crate::tunnel::Tunnel;
use crate::types::{Ends, System};
use crate::{load, relay, wireguard};

const RELAY_PORT: u16 = 7000;
const OUR_PORT: u16 = 8079;

/// Starts a system and waits until packets pass.
pub(crate) fn start(system: System, hosts: &Hosts, mtu: u16) -> Result<Tunnel, Failure> {
    let (gateway, ends) = match system {
        System::Veth => (SERVER, None),
        System::Relay => (INNER_SERVER, Some(start_relay(hosts, mtu)?)),
        System::Ours => (INNER_SERVER, Some(start_ours(hosts, mtu, "")?)),
        System::OursPlain => (INNER_SERVER, Some(start_ours(hosts, mtu, "offload=false\n")?)),
        System::WireguardGo => (INNER_SERVER, Some(wireguard::start(hosts, mtu, "wireguard-go")?)),
        System::Boringtun => (INNER_SERVER, Some(wireguard::start(hosts, mtu, "boringtun-cli")?)),
    };
    let tunnel = Tunnel { gateway, ends };
    load::wait_for_echo(hosts, gateway).map_err(|failure| match &tunnel.ends {
        Some(ends) => ends.server.failure(&ends.client.failure(&failure.to_string()).to_string()),
        None => failure,
    })?;
    Ok(tunnel)
}

fn start_relay(hosts: &Hosts, mtu: u16) -> Result<Ends<Running>, Failure> {
    let own = std::env::current_exe().map_err(Failure::during("this program's own path"))?;
    let address = format!("{SERVER}:{RELAY_PORT}");
    let command = |how: &str, inner: Ipv4Addr| {
        let mut command = Command::new(&own);
        command.args(["relay", how, &address, "--inner", &inner.to_string(), "--mtu", &mtu.to_string()]);
        command
    };
    let mut server = hosts.server.start(&command("--listen", INNER_SERVER))?;
    server.wait_for(relay::READY, |server| server.stdout().contains(relay::READY).then_some(()))?;
    let mut client = hosts.client.start(&command("--connect", INNER_CLIENT))?;
    client.wait_for(relay::READY, |client| client.stdout().contains(relay::READY).then_some(()))?;
    Ok(Ends { client, server })
}

/// Starts the tunnel with `more` in the sections of both ends.
fn start_ours(hosts: &Hosts, mtu: u16, more: &str) -> Result<Ends<Running>, Failure> {
    let command = |role: &str, config: String| {
        let (file, state) = (hosts.directory.join(format!("{role}.cfg")), hosts.directory.join(role));
        fs::write(&file, config).map_err(Failure::during(file.display()))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellframe-vpn"));
        command.arg(role).arg("--config").arg(file).arg("--state-dir").arg(state);
        Ok(command)
    };
    let config = format!(
        "[server]\nlisten_address=[{SERVER}:{OUR_PORT}]\n\
         [srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\nmtu={mtu}\n{more}"
    );
    let mut server = hosts.server.start(&command("server", config)?)?;
    let pin = server.wait_for("its ready line", |server| {
        let said = server.stdout();
        let (_, pin) = said.strip_suffix('\n')?.rsplit_once(' ')?;
        Some(pin.to_owned())
    })?;
    let mut command = command("client", format!("[vpn_client]\nmtu={mtu}\n{more}"))?;
    command.args(["--connect", &format!("{SERVER}:{OUR_PORT}"), "--pin", &pin]);
    let mut client = hosts.client.start(&command)?;
    client.wait_for("the tunnel", |client| client.stdout().contains("connected to").then_some(()))?;
    if !more.is_empty() && server.log().contains("no such key") {
        return Err(Failure::Missing(format!("this build has no key {}", more.trim_end())));
    }
    Ok(Ends { client, server })
}
