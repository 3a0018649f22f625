//! One attempt to connect: from a server's name to a tunnel that is up, or as if nothing had been tried.

use std::net::IpAddr;
use std::sync::Arc;

use super::connection::{self, Connection, Origin};
use super::stops::Began;
use super::{CLIENT, ClientError, dns, forget, kill_switch, payment, renewal, settings, tunnel_part};
use crate::sdk::Running;
use crate::sdk::channel::{self, Role};
use crate::sdk::net::Net;
use vpn_core::names;

/// Connects. `address` is the one that the server's name had in the connection before.
pub(super) fn connect(
    net: &Net,
    place: (&str, u16),
    began: Began,
    address: Option<IpAddr>,
) -> Result<Arc<Connection>, ClientError> {
    match connect_once(net, place, began, address) {
        // It was made known since that the path is narrow: that helps a new connection.
        Err(ClientError::Connect { errno: libc::EMSGSIZE, .. }) => connect_once(net, place, began, address),
        result => result,
    }
}

fn connect_once(
    net: &Net,
    place: (&str, u16),
    began: Began,
    address: Option<IpAddr>,
) -> Result<Arc<Connection>, ClientError> {
    let running = Running::retain().map_err(|_| ClientError::NotRunning)?;
    let settings = settings()?;
    // First: the server's ledger is asked on the same way as the server.
    kill_switch::prepare(&names::server(place.0, place.1), &settings)?;
    if let Some(before) = address {
        connection::open_ways(place, before, &settings);
    }
    let contract = payment::contract(net, place, &settings, began)?;
    let origin = Origin { began, is_renewal: false, address, switch: renewal::switch };
    let connection = Connection::new(net.clone(), place, settings, &contract, origin, running);
    channel::set_handler(Role::Client, Some(Arc::new(connection::Channels)));
    CLIENT.lock().connection = Some(Arc::clone(&connection));
    let (had_device, had_kill_switch) = (tunnel_part::exists(), kill_switch::is_up());
    dns::undo_leftovers();
    if let Err(error) = connection.establish() {
        connection.end();
        if !had_device {
            dns::unset();
            tunnel_part::delete();
        }
        if !had_kill_switch {
            kill_switch::lower();
        }
        // Last, so that the status agrees with the device.
        forget(&connection);
        return Err(error);
    }
    CLIENT.lock().connects += 1;
    Ok(connection)
}
