//! The kill switch as the client uses it: up from before the first packet goes into the tunnel until a stop.
//!
//! The kernel's table, which [`host::nft::kill_switch`] describes, outlives the connection and the process. A start that
//! finds the one of a run that has ended takes it over, so that there is no moment without it, also where this start asks
//! for none: it then stays until this client's stop. No name server can be asked meanwhile, so the table keeps the
//! server's address with its name.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::ClientError;
use super::judge::netlink;
use super::settings::Settings;
use super::tunnel_part as tunnel;
use host::nft::kill_switch::{self, KillSwitch};

/// Whether this client holds the kill switch.
static IS_HELD: AtomicBool = AtomicBool::new(false);

fn error(why: impl std::fmt::Display) -> ClientError {
    ClientError::Tunnel(format!("the kill switch cannot be put up: {why}"))
}

/// Returns whether a kill switch is up, this client's or one that a run before has left.
pub(super) fn is_up() -> bool {
    matches!(kill_switch::standing(), Ok(Some(_)))
}

/// Prepares a connection to a server (host:port, as [`vpn_core::names::server`] spells it): lets its address through a
/// kill switch that is up, and takes over that of a run that has ended.
///
/// # Errors
/// If the user asks for a kill switch and the kernel has none to offer, or another client holds it; if one is up that
/// does not let this server through and no name server can be asked for its address.
pub(super) fn prepare(server: &str, settings: &Settings) -> Result<(), ClientError> {
    let standing = match kill_switch::standing() {
        Ok(standing) => standing,
        Err(why) if settings.kill_switch => return Err(error(why)),
        Err(why) => {
            log::debug!("cannot look for a kill switch: {why}");
            return Ok(());
        }
    };
    let Some(standing) = standing else {
        // Before anything is sent: a kernel without nf_tables.
        return if settings.kill_switch { kill_switch::check().map_err(error) } else { Ok(()) };
    };
    if let Some(process) = standing.other_holder() {
        if settings.kill_switch {
            return Err(error(format_args!(
                "the client of process {process} holds it on this host; expected one client with a kill switch"
            )));
        }
        log::warn!(
            "the kill switch of another client (process {process}) is up: only what it lets through leaves this host"
        );
        return Ok(());
    }
    let known = standing.address_of(server);
    let Some(address) = literal(server).or(known) else {
        return Err(ClientError::Tunnel(format!(
            "the kill switch of {} is up, and no name server can be asked for {server}; expected the server's address, \
             or no kill switch (`cellframe-vpn repair` removes one whose client has ended)",
            standing.servers.first().map_or("an earlier run", |(name, _)| name)
        )));
    };
    let was_held = IS_HELD.swap(true, Ordering::AcqRel);
    if !was_held {
        log::warn!(
            "the kill switch of a client that has ended is up, and this one takes it over: it stays until a stop{}",
            if settings.kill_switch { "" } else { ", although [vpn_client] kill_switch is not set" }
        );
    }
    if was_held && known == Some(address) {
        return Ok(());
    }
    put_up(server, &[address], settings)
}

/// Lets these addresses of the server through, and no other ones, if this client holds the kill switch: until the next
/// connection, which has one of them.
pub(super) fn let_through(server: &str, addresses: &[SocketAddr], settings: &Settings) -> Result<(), ClientError> {
    if IS_HELD.load(Ordering::Acquire) { put_up(server, addresses, settings) } else { Ok(()) }
}

/// Puts the kill switch up for the server with this outer address, before the device is made.
///
/// # Errors
/// If the address is not known or this host's own, or the kernel refuses.
pub(super) fn raise(server: &str, address: Option<IpAddr>, port: u16, settings: &Settings) -> Result<(), ClientError> {
    if !settings.kill_switch && !IS_HELD.load(Ordering::Acquire) {
        return Ok(());
    }
    let address = address.ok_or_else(|| error("the address of the server's end of the connection is not known"))?;
    if netlink().and_then(|mut netlink| netlink.is_own(address)).map_err(error)? {
        return Err(error(format_args!(
            "{address} is this host, as of a relay, whose own way to the server it would cut; expected the server's \
             address"
        )));
    }
    let was_held = IS_HELD.swap(true, Ordering::AcqRel);
    put_up(server, &[SocketAddr::new(address.to_canonical(), port)], settings)?;
    if !was_held {
        log::info!("the kill switch is up: packets leave this host through the tunnel, or to {server}, alone");
    }
    Ok(())
}

fn put_up(server: &str, addresses: &[SocketAddr], settings: &Settings) -> Result<(), ClientError> {
    let switch = KillSwitch {
        servers: addresses.iter().map(|address| (server.to_owned(), *address)).collect(),
        devices: tunnel::own().map(|own| own.index).into_iter().collect(),
        local: settings.kill_switch_local,
    };
    kill_switch::put_up(&switch).map_err(error)
}

/// Takes the kill switch down if this client holds it.
pub(super) fn lower() {
    if IS_HELD.swap(false, Ordering::AcqRel) {
        take_down();
    }
}

fn take_down() {
    match kill_switch::take_down() {
        Ok(()) => log::info!("the kill switch is down"),
        Err(why) => log::error!("the kill switch cannot be taken down: {why}; `cellframe-vpn repair` tries it again"),
    }
}

/// Takes down the kill switch of a client that has ended, as a node's does with the node.
pub(super) fn undo_leftovers() {
    let is_left = matches!(kill_switch::standing(), Ok(Some(standing)) if standing.other_holder().is_none());
    if is_left && !IS_HELD.load(Ordering::Acquire) {
        take_down();
    }
}

/// Leaves the kill switch up at the end of a client that nobody has stopped, and says so.
pub(super) fn leave() {
    if IS_HELD.swap(false, Ordering::AcqRel) {
        log::warn!(
            "the kill switch stays up, because the tunnel was lost and nobody has stopped the client; \
             `cellframe-vpn repair`, or the stop of another start, takes it down"
        );
    }
}

/// Returns the address of a server that a kill switch which is up lets through: no name server can be asked for another.
/// The embedded SDK finds it by itself.
#[cfg(not(feature = "embedded"))]
pub(super) fn way_to(server: &str) -> Option<IpAddr> {
    let standing = kill_switch::standing().ok().flatten()?;
    standing.address_of(server).map(|address| address.ip())
}

/// Returns the address that the server's name is, if it is no name.
fn literal(server: &str) -> Option<SocketAddr> {
    let without_zone = || {
        let (address, rest) = server.split_once('%')?;
        format!("{address}{}", rest.split_once(']').map(|(_, port)| format!("]{port}"))?).parse().ok()
    };
    server.parse().ok().or_else(without_zone)
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn an_address_is_no_name() {
        for (server, address) in [
            ("192.0.2.1:8079", Some("192.0.2.1:8079")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]:443")),
            ("[fe80::1%eth0]:443", Some("[fe80::1]:443")),
            ("vpn.example.com:8079", None),
            ("a%b:1", None),
        ] {
            assert_eq!(literal(server), address.map(|address| address.parse().unwrap()), "{server}");
        }
    }
}
