//! What C asks of the host's links.

use host::netlink::Netlink;

/// Returns the device of the host's default route.
pub(crate) fn default_route_device() -> Option<String> {
    let mut netlink = Netlink::open().ok()?;
    let routes = netlink.routes().ok()?;
    let default = routes.iter().filter(|route| route.prefix == 0).min_by_key(|route| route.metric.unwrap_or(0))?;
    Some(netlink.link(default.index?).ok()?.name)
}

/// Enables or disables IPv6 on a device; logs a failure.
pub(crate) fn set_ipv6(device: &str, on: bool) {
    let fits =
        (1..=15).contains(&device.len()) && !device.contains(['/', '.']) && !device.contains(char::is_whitespace);
    if !fits {
        log::warn!("\"{device}\" is not a valid name for a network device");
        return;
    }
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    if let Err(error) = std::fs::write(&path, if on { "0" } else { "1" }) {
        log::warn!("cannot {} IPv6 on {device}: {path}: {error}", if on { "enable" } else { "disable" });
    }
}
