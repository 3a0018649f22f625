//! Starts each system on the two hosts.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::common::failure::Failure;
use crate::common::ours::Ours;
use crate::common::running::Running;
use crate::common::{Ends, INNER_CLIENT, INNER_SERVER, echo, wireguard};
use crate::hosts::{CLIENT, Hosts, SERVER};
use crate::relay;
use crate::tunnel::Tunnel;
use crate::types::System;

const RELAY_PORT: u16 = 7000;

/// Starts a system and waits until packets pass.
pub(crate) fn start(system: System, hosts: &Hosts, mtu: u16) -> Result<Tunnel, Failure> {
    let outer = Ends { client: CLIENT, server: SERVER };
    let program = Ours { program: env!("CARGO_BIN_EXE_cellframe-vpn").into(), directory: hosts.directory.clone() };
    let ours = |more: &str| {
        let more = format!("mtu={mtu}\n{more}");
        program.start(hosts.ends(), SERVER, &more)
    };
    let (gateway, ends) = match system {
        System::Veth => (SERVER, None),
        System::Relay => (INNER_SERVER, Some(start_relay(hosts, mtu)?)),
        System::Ours => (INNER_SERVER, Some(ours("")?)),
        System::OursPlain => (INNER_SERVER, Some(ours("offload=false\n")?)),
        System::WireguardGo => {
            (INNER_SERVER, Some(wireguard::start(hosts.ends(), outer, mtu, &wireguard::find("wireguard-go")?)?))
        }
        System::Boringtun => {
            (INNER_SERVER, Some(wireguard::start(hosts.ends(), outer, mtu, &wireguard::find("boringtun-cli")?)?))
        }
    };
    let tunnel = Tunnel { gateway, ends };
    echo::wait_for(hosts.ends(), gateway).map_err(|failure| match &tunnel.ends {
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
