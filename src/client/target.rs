//! What a user may name as a server.

use std::net::Ipv6Addr;

use super::ClientError;

/// Checks that the host name or address, and the port, are valid targets. Returns the host, without the brackets that an
/// IPv6 address has in a URL.
pub(super) fn check_target(host: &str, port: u16) -> Result<&str, ClientError> {
    if host.is_empty() || host.len() > 253 || host.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err(ClientError::Argument("the host is no name or address of 1 to 253 characters"));
    }
    if port == 0 {
        return Err(ClientError::Argument("the port is 0, 1 to 65535 is expected"));
    }
    let Some(inner) = host.strip_prefix('[') else { return Ok(host) };
    // A link-local address may name its link: fe80::1%eth0.
    let address = |text: &&str| text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    inner
        .strip_suffix(']')
        .filter(address)
        .ok_or(ClientError::Argument("the host begins with [: expected [IPv6 address]"))
}

#[cfg(test)]
mod tests {
    use super::check_target;

    #[test]
    fn an_ipv6_address_may_have_the_brackets_of_a_url() {
        for (host, expected) in [
            ("[2001:db8::1]", "2001:db8::1"),
            ("[::1]", "::1"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
            ("2001:db8::1", "2001:db8::1"),
            ("vpn.example.com", "vpn.example.com"),
            ("192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(check_target(host, 1).unwrap(), expected);
        }
        for wrong in ["[192.0.2.1]", "[vpn.example.com]", "[::1", "[]", "[", "[[::1]]", "", "a b"] {
            assert!(check_target(wrong, 1).is_err(), "{wrong}");
        }
        assert!(check_target("::1", 0).is_err());
    }
}
