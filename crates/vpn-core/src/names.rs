//! A server's name in one spelling, so that what is known of it is found again however the user writes it.

use std::net::{IpAddr, Ipv6Addr};

use crate::lease::dotted;

/// The server at `host` and `port` in the spelling under which its identity and its lease are kept: `host:port`, or
/// `[address]:port` for IPv6.
///
/// A name is in lower case and has no dot at its end. An address is written as the standard library writes it, whatever
/// form the system's look-up takes it in; an IPv6 address that stands for an IPv4 address is that one. A zone stays as
/// it is, because names of interfaces differ by case.
///
/// ```
/// use vpn_core::names::server;
///
/// assert_eq!(server("VPN.Test.", 8079), "vpn.test:8079");
/// assert_eq!(server("[2001:DB8:0::1]", 443), "[2001:db8::1]:443");
/// assert_eq!(server("127.1", 1), "127.0.0.1:1");
/// ```
pub fn server(host: &str, port: u16) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    match (address.parse::<Ipv6Addr>(), zone) {
        (Ok(address), Some(zone)) => return format!("[{address}%{zone}]:{port}"),
        (Ok(address), None) => {
            return match IpAddr::V6(address).to_canonical() {
                IpAddr::V4(address) => format!("{address}:{port}"),
                IpAddr::V6(address) => format!("[{address}]:{port}"),
            };
        }
        _ => {}
    }
    if let Some(address) = dotted(host) {
        return format!("{address}:{port}");
    }
    // With a dot behind it an address is a name to the system's look-up.
    let name = Some(host.trim_end_matches('.')).filter(|name| dotted(name).is_none()).unwrap_or(host);
    format!("{}:{port}", name.to_ascii_lowercase())
}

/// The one spelling of a key that was stored in any; `None` if it is no `host:port`.
pub fn of_key(key: &str) -> Option<String> {
    let (host, port) = key.rsplit_once(':')?;
    Some(server(host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_server_are_one() {
        let table: &[(&[&str], &str)] = &[
            (&["vpn.test", "VPN.test", "Vpn.Test.", "vpn.test."], "vpn.test:8079"),
            (
                &["192.0.2.1", "[::ffff:192.0.2.1]", "::FFFF:c000:0201", "3221225985", "0xc0.0.0x201", "192.0.513"],
                "192.0.2.1:8079",
            ),
            (&["::1", "[::1]", "0:0:0:0:0:0:0:1", "[0000::0001]"], "[::1]:8079"),
            (&["fe80::1%eth0", "[FE80:0::1%eth0]"], "[fe80::1%eth0]:8079"),
            (&["fe80::1%Eth0"], "[fe80::1%Eth0]:8079"),
            (&["localhost", "LOCALHOST"], "localhost:8079"),
            (&["1.2.3.4.5"], "1.2.3.4.5:8079"),
            (&["192.0.2.1."], "192.0.2.1.:8079"),
        ];
        for (spellings, expected) in table {
            for spelling in *spellings {
                assert_eq!(server(spelling, 8079), *expected, "{spelling}");
                assert_eq!(of_key(&format!("{spelling}:8079")).as_deref(), Some(*expected), "{spelling}");
            }
        }
        assert_eq!(of_key("VPN.test:08079").as_deref(), Some("vpn.test:8079"));
        for none in ["", "host", "host:", "host:x", "host:70000"] {
            assert_eq!(of_key(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn one_spelling_stays(host in "[a-zA-Z0-9.:%\\[\\]-]{0,30}", port: u16) {
            let once = server(&host, port);
            if let Some(twice) = of_key(&once).filter(|_| !host.ends_with("..") && !host.contains(['[', ']'])) {
                prop_assert_eq!(twice, once);
            }
        }
    }
}
