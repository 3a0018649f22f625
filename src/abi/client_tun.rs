//! Part `client-tun`: dap_chain_net_vpn_client_tun.c.

use std::ffi::{c_char, c_int, c_void};
use std::net::Ipv4Addr;
use std::ptr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{boundary, boundary_or, text};
use crate::client::judge::judge;
use crate::client::{self, device};
use crate::sdk::external_channel::ExternalChannel;
use crate::sdk::memory;
use crate::sdk::types::dap_events_socket_t;
use crate::sdk::visible::dap_chain_net_srv_ch_vpn_t;
use crate::sdk::worker;
use vpn_core::exchange::Offer;
use vpn_core::lease::Subnet;
use vpn_core::rate::Budget;
use vpn_core::wire;

/// Sets the gateway for later calls of `dap_chain_net_vpn_client_tun_create` without one.
///
/// Returns 0; -1 if `a_ipv4_gw_str` is NULL or not an IPv4 address.
///
/// # Safety
/// `a_ipv4_gw_str` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_tun_init(a_ipv4_gw_str: *const c_char) -> c_int {
    const NAME: &str = "dap_chain_net_vpn_client_tun_init";
    boundary(NAME, -1, || {
        // SAFETY: the caller's promise.
        match unsafe { address(NAME, "a_ipv4_gw_str", a_ipv4_gw_str) } {
            Some(gateway) => {
                device::set_gateway(gateway);
                0
            }
            None => -1,
        }
    })
}

/// Returns the event socket of the tunnel's device, or NULL. The SDK owns it and frees it with the device.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_tun_get_esock() -> *mut dap_events_socket_t {
    boundary("dap_chain_net_vpn_client_tun_get_esock", ptr::null_mut(), device::event_socket)
}

/// Creates the tunnel's device with this address and sets it up; the smallest subnet that holds address and gateway, /8
/// to /24, is routed into it. Replaces an existing device, which stays as it was if the new one cannot be created.
///
/// Returns 0; -1 if an argument is invalid, address and gateway are equal, or no /8 holds both; -2 if the device cannot
/// be created; -3 if the SDK's workers do not run.
///
/// # Safety
/// Strings are NULL or NUL-terminated; `a_ipv4_gw_str` may be NULL after `dap_chain_net_vpn_client_tun_init`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_tun_create(
    a_ipv4_addr_str: *const c_char,
    a_ipv4_gw_str: *const c_char,
) -> c_int {
    const NAME: &str = "dap_chain_net_vpn_client_tun_create";
    boundary(NAME, -2, || {
        // SAFETY: the caller's promise.
        let Some(addr) = (unsafe { address(NAME, "a_ipv4_addr_str", a_ipv4_addr_str) }) else { return -1 };
        let gateway = match (a_ipv4_gw_str.is_null(), device::gateway()) {
            (true, Some(gateway)) => gateway,
            // SAFETY: the caller's promise.
            _ => match unsafe { address(NAME, "a_ipv4_gw_str", a_ipv4_gw_str) } {
                Some(gateway) => gateway,
                None => return -1,
            },
        };
        match Offer::of_pair(addr, gateway) {
            Ok(offer) => super::codes::tunnel(device::create(&device::Settings::from_offer(&offer, device::MTU))),
            Err(error) => {
                log::warn!("{NAME} with {addr} and gateway {gateway}: {error}");
                -1
            }
        }
    })
}

/// Removes the tunnel's device. Returns 0, also if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_tun_delete() -> c_int {
    boundary_or("dap_chain_net_vpn_client_tun_delete", -1, 0, || {
        device::delete();
        0
    })
}

/// Returns 0 if the tunnel's device is up, 1 if it is down, -1 if there is none or the host has deleted it, -2 if the
/// kernel does not report its state.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_tun_status() -> c_int {
    boundary_or("dap_chain_net_vpn_client_tun_status", -2, -1, || match device::status() {
        Ok(Some(true)) => 0,
        Ok(Some(false)) => 1,
        Ok(None) => -1,
        Err(error) => {
            log::warn!("cannot read the state of the tunnel's device: {error}");
            -2
        }
    })
}

/// Creates the tunnel with the address that the server's ADDR_REPLY leases. Packets that the host sends into the tunnel
/// go to the channel `a_sf->ch` under `a_sf->usage_id` while that channel is open; if `ch` is NULL, to the channel of
/// `dap_chain_net_vpn_client_get_stream_ch`; without either they are dropped. `a_pkt_data_size` counts the bytes behind
/// the header, at least 8.
///
/// The reply is judged as one that this library's own client gets: the subnet must be in a private network or in one of
/// `[vpn_client] allow_subnet`, and must not collide with this host's networks, routes, gateways and name servers.
///
/// Returns the codes of `dap_chain_net_vpn_client_tun_create`; -1 for NULL, and for a reply that is malformed or
/// invalid: a prefix outside /8 to /30, equal addresses, the first or last address of the subnet, or a subnet that no
/// server may give; -2 for one that collides, or if `allow_subnet` cannot be read, or, on a worker, if other replies come
/// faster than one in ten seconds, after eight.
///
/// # Safety
/// `a_sf` is NULL or a VPN channel whose `ch` is NULL or open; with a channel, only on its worker's thread. `a_pkt` is
/// NULL or points to a header and `a_pkt_data_size` bytes behind it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ch_sf_tun_addr_leased(
    a_sf: *mut dap_chain_net_srv_ch_vpn_t,
    a_pkt: *mut dap_stream_ch_vpn_pkt_t,
    a_pkt_data_size: usize,
) -> c_int {
    const NAME: &str = "ch_sf_tun_addr_leased";
    boundary(NAME, -1, || {
        if a_sf.is_null() || a_pkt.is_null() {
            log::warn!("{NAME}: {} is NULL", if a_sf.is_null() { "a_sf" } else { "a_pkt" });
            return -1;
        }
        if a_pkt_data_size > usize::from(u16::MAX) {
            log::warn!("{NAME}: a_pkt_data_size is {a_pkt_data_size}; expected at most 65535");
            return -1;
        }
        // SAFETY: not NULL, and by the caller's promise a header and a_pkt_data_size bytes.
        let packet = unsafe { std::slice::from_raw_parts(a_pkt.cast::<u8>(), wire::HEADER_LEN + a_pkt_data_size) };
        match wire::parse_from_server(packet) {
            Ok((_, wire::FromServer::AddrReply(reply))) => match judged(&reply) {
                // SAFETY: not NULL, and a VPN channel by the caller's promise.
                Ok(offer) => leased(&offer, unsafe { ExternalChannel::of(a_sf) }),
                Err((code, error)) => {
                    host::log_bounded!(Warn, "{NAME}: {error}");
                    code
                }
            },
            Ok(_) => {
                host::log_bounded!(Warn, "{NAME}: the packet is not an ADDR_REPLY");
                -1
            }
            Err(error) => {
                host::log_bounded!(Warn, "{NAME}: malformed ADDR_REPLY: {error}");
                -1
            }
        }
    })
}

/// How often a server may have a worker judge its reply: a few times at once, so that a program can connect anew, then
/// one in ten seconds. A judgement reads the host's tables, while the worker's other streams wait.
static JUDGEMENTS: Mutex<Budget> = Mutex::new(Budget::new(8, Duration::from_secs(10)));

/// Judges a reply: what a server gives is not the C program's choice. One that leases what the device has already is
/// judged no more.
fn judged(reply: &wire::AddrReply) -> Result<Offer, (c_int, String)> {
    let allow = client::allowed_subnets().map_err(|error| (-2, error.to_string()))?;
    let offer = Offer::validate(reply, None, &allow).map_err(|error| (-1, error.to_string()))?;
    let own = device::own();
    if own.is_some_and(|own| own.network == Subnet { network: offer.addr, prefix: offer.prefix }) {
        return Ok(offer);
    }
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    if worker::current().is_some() && !JUDGEMENTS.lock().take(STARTED.elapsed()) {
        return Err((-2, "the server sends too many replies; one in ten seconds is expected".into()));
    }
    judge(offer.subnet(), own).map_err(|collision| (-2, collision.to_string()))?;
    Ok(offer)
}

fn leased(offer: &Offer, channel: Option<ExternalChannel>) -> c_int {
    let mut settings = device::Settings::from_offer(offer, device::MTU);
    match channel {
        Some(channel) => {
            settings.worker = Some(channel.worker());
            settings.usage_id = channel.usage_id();
            settings.uplink = Some(device::UplinkChannel::External(Arc::new(channel)));
        }
        None => {
            host::log_bounded!(Info, "the tunnel has no channel: it drops the packets that the host sends into it");
        }
    }
    super::codes::tunnel(device::create(&settings))
}

/// Writes a packet from the server to the tunnel's device. Drops and counts data that is not one whole IPv4 packet to
/// the leased address.
///
/// # Safety
/// `pkt_data` is NULL or points to `pkt_data_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ch_sf_tun_client_send(
    ch_sf: *mut dap_chain_net_srv_ch_vpn_t,
    pkt_data: *mut c_void,
    pkt_data_size: usize,
) {
    const NAME: &str = "ch_sf_tun_client_send";
    boundary(NAME, (), || {
        if ch_sf.is_null() || pkt_data.is_null() {
            log::warn!("{NAME}: {} is NULL", if ch_sf.is_null() { "ch_sf" } else { "pkt_data" });
            return;
        }
        if pkt_data_size > usize::from(u16::MAX) {
            log::warn!("{NAME}: pkt_data_size is {pkt_data_size}; expected at most 65535");
            return;
        }
        // SAFETY: not NULL, and by the caller's promise pkt_data_size bytes.
        device::deliver(unsafe { std::slice::from_raw_parts(pkt_data.cast::<u8>(), pkt_data_size) });
    });
}

/// A VPN packet as C passes it. cbindgen.toml defines its layout for C; Rust reads it through `wire` only.
#[allow(non_camel_case_types)]
#[repr(C, packed)]
pub struct dap_stream_ch_vpn_pkt_t {
    header: [u8; wire::HEADER_LEN],
    data: [u8; 0],
}
const _: () = assert!(size_of::<dap_stream_ch_vpn_pkt_t>() == 20 && align_of::<dap_stream_ch_vpn_pkt_t>() == 1);

/// Creates a plain TUN device and returns its descriptor, which the caller closes, or a negative errno. `dev` holds the
/// wanted name or "" and receives the device's name (16 bytes).
///
/// # Safety
/// `dev` is NULL or points to 16 bytes that are writable and NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tun_device_create(dev: *mut c_char) -> c_int {
    const NAME: &str = "tun_device_create";
    boundary(NAME, -libc::EIO, || {
        // SAFETY: the caller's promise.
        let Some(wanted) = (unsafe { text(NAME, "dev", dev) }) else { return -libc::EINVAL };
        match host::tun::open_plain((!wanted.is_empty()).then_some(wanted)) {
            Ok((descriptor, name)) => {
                for (index, byte) in name.bytes().take(15).chain(std::iter::once(0)).enumerate() {
                    // SAFETY: index <= 15, and dev has 16 bytes by the caller's promise.
                    let slot = unsafe { dev.add(index) };
                    // SAFETY: slot is inside dev.
                    unsafe { *slot = byte as c_char };
                }
                std::os::fd::IntoRawFd::into_raw_fd(descriptor)
            }
            Err(error) => {
                log::error!("{NAME}: {error}");
                -error.errno()
            }
        }
    })
}

/// Returns the device of the host's default route twice, as name and as device, or NULL without such a route. The
/// caller frees both with the SDK's allocator.
///
/// # Safety
/// Each pointer is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn save_current_connection_interface_data(
    a_last_used_connection_name: *mut *mut c_char,
    a_last_used_connection_device: *mut *mut c_char,
) {
    boundary("save_current_connection_interface_data", (), || {
        let device = device::default_route_device();
        for out in [a_last_used_connection_name, a_last_used_connection_device] {
            if !out.is_null() {
                // SAFETY: not NULL, and writable by the caller's promise.
                unsafe { *out = memory::c_string(device.as_deref()) };
            }
        }
    });
}

/// Disables IPv6 on a device; logs a failure.
///
/// # Safety
/// The name is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn disableIPV6(l_device_name: *const c_char) {
    boundary("disableIPV6", (), || {
        // SAFETY: the caller's promise.
        if let Some(device) = unsafe { text("disableIPV6", "l_device_name", l_device_name) } {
            device::set_ipv6(device, false);
        }
    });
}

/// Enables IPv6 on a device; logs a failure.
///
/// # Safety
/// The name is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn enableIPV6(l_device_name: *const c_char) {
    boundary("enableIPV6", (), || {
        // SAFETY: the caller's promise.
        if let Some(device) = unsafe { text("enableIPV6", "l_device_name", l_device_name) } {
            device::set_ipv6(device, true);
        }
    });
}

/// Hook for a new TUN event socket. Does nothing: the tunnel sets its own socket up. Warns about any other socket.
#[unsafe(no_mangle)]
pub extern "C" fn m_client_tun_new(a_es: *mut dap_events_socket_t, _arg: *mut c_void) {
    boundary("m_client_tun_new", (), || {
        if a_es.is_null() || a_es != device::event_socket() {
            log::warn!("m_client_tun_new: the event socket is not the tunnel's; ignored");
        }
    });
}

/// Parses an IPv4 address argument; logs the reason if it is invalid.
///
/// # Safety
/// `value` is NULL or NUL-terminated.
unsafe fn address(function: &str, argument: &str, value: *const c_char) -> Option<Ipv4Addr> {
    // SAFETY: the caller's promise.
    let value = unsafe { text(function, argument, value) }?;
    let parsed = value.parse().ok().filter(|addr: &Ipv4Addr| !addr.is_unspecified() && !addr.is_broadcast());
    if parsed.is_none() {
        log::warn!("{function}: {argument} is \"{value}\"; expected an IPv4 address like 10.0.1.100");
    }
    parsed
}
