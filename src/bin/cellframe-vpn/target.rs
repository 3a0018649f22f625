//! Parses what names a server on the command line: `HOST[:PORT]` and the pin.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use vpn_core::lease::{Subnet, dotted};

/// The port that a server listens on unless its configuration says otherwise.
pub(crate) const DEFAULT_PORT: u16 = 8079;

/// The network in the embedded SDK's default configuration.
pub(crate) const DEFAULT_NETWORK: &str = "backbone";

/// A server's host name or address, not resolved, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The reason why a `HOST[:PORT]` is invalid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the host is empty; expected HOST or HOST:PORT")]
    EmptyHost,
    #[error("{0:?} is not a host name or an IP address")]
    BadHost(String),
    #[error("{0:?} is not a port; expected a number from 1 to 65535")]
    BadPort(String),
    #[error("{0:?} is a URL; expected HOST or HOST:PORT, without what stands before :// and behind the host")]
    Url(String),
    #[error("{0:?} is not an IPv4 address; expected four numbers from 0 to 255, such as 192.0.2.1, or a name")]
    BadIpv4(String),
    #[error("the bracket of the IPv6 address is not closed; expected [ADDRESS]:PORT")]
    OpenBracket,
    #[error("unexpected {0:?} after the IPv6 address; expected [ADDRESS]:PORT")]
    AfterBracket(String),
    #[error("{0:?} is not an IPv6 address; expected [ADDRESS]:PORT")]
    BadIpv6(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.contains("://") {
            return Err(TargetError::Url(text.to_owned()));
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, after) = rest.split_once(']').ok_or(TargetError::OpenBracket)?;
            if !is_ipv6(address) {
                return Err(TargetError::BadIpv6(address.to_owned()));
            }
            let port = match after.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if after.is_empty() => DEFAULT_PORT,
                None => return Err(TargetError::AfterBracket(after.to_owned())),
            };
            return Ok(Self { host: address.to_owned(), port });
        }
        // Without brackets the whole text is the address: 8079 in "::1:8079" is its last group.
        if is_ipv6(text) {
            return Ok(Self { host: text.to_owned(), port: DEFAULT_PORT });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) if port.contains(':') => return Err(TargetError::BadIpv6(format!("{host}:{port}"))),
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, DEFAULT_PORT),
        };
        if host.is_empty() {
            return Err(TargetError::EmptyHost);
        }
        if !is_host(host) {
            return Err(TargetError::BadHost(host.to_owned()));
        }
        // No name ends in a number (RFC 3696, 2); the resolver would look for one.
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        if host.trim_end_matches('.').rsplit('.').next().is_some_and(is_number) && dotted(host).is_none() {
            return Err(TargetError::BadIpv4(host.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn parse_port(text: &str) -> Result<u16, TargetError> {
    // u16's parser accepts a plus sign.
    let number = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None };
    number.filter(|port| *port != 0).ok_or_else(|| TargetError::BadPort(text.to_owned()))
}

/// Accepts an IPv6 address, also with a zone as in `fe80::1%eth0` (RFC 4007 section 11).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let zone_is_good = zone.is_none_or(|zone| !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic()));
    zone_is_good && address.parse::<Ipv6Addr>().is_ok()
}

/// Accepts a name that a resolver can look up: labels of letters, digits, `-` and `_`, at most 253 bytes (RFC 1035
/// section 2.3.4; underscores are common in practice).
fn is_host(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Validates a pin before the program starts anything; the library would report a bad pin only after connecting.
pub(crate) fn parse_pin(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("expected sha256: and 64 hexadecimal digits, as the server's ready line shows them".into())
}

/// Validates a network for the lists of `[vpn_client]`.
pub(crate) fn parse_network(text: &str) -> Result<String, String> {
    match Subnet::parse_cidr(text) {
        Some(subnet) => Ok(subnet.to_string()),
        None => {
            let expected = "expected a network such as 203.0.113.0/24, whose bits behind the prefix are 0";
            Err(around(text).map_or_else(|| expected.to_owned(), |around| format!("{expected}: {around}?")))
        }
    }
}

/// The network that an address with a prefix is in.
fn around(text: &str) -> Option<Subnet> {
    let (address, prefix) = text.split_once('/')?;
    let (network, prefix) = (address.parse().ok()?, prefix.parse().ok().filter(|prefix: &u8| *prefix <= 32)?);
    Some(Subnet::around(network, prefix))
}

/// Validates an inner address.
pub(crate) fn parse_inner(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| "expected an IPv4 address such as 10.98.0.7, as `cellframe-vpn leases` shows it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones() {
        let table = [
            ("vpn.example.com", "vpn.example.com", 8079),
            ("vpn.example.com:8089", "vpn.example.com", 8089),
            ("vpn.example.com.:1", "vpn.example.com.", 1),
            ("localhost", "localhost", 8079),
            ("127.1", "127.1", 8079),
            ("1a.2b.example3", "1a.2b.example3", 8079),
            ("my_host-1", "my_host-1", 8079),
            ("bücher.example", "bücher.example", 8079),
            ("192.0.2.1", "192.0.2.1", 8079),
            ("192.0.2.1:65535", "192.0.2.1", 65535),
            ("[::1]", "::1", 8079),
            ("[::1]:8079", "::1", 8079),
            ("[2001:db8::2]:443", "2001:db8::2", 443),
            ("[fe80::1%eth0]:443", "fe80::1%eth0", 443),
            ("[::ffff:192.0.2.1]:5", "::ffff:192.0.2.1", 5),
            ("::1", "::1", 8079),
            ("2001:db8::2", "2001:db8::2", 8079),
        ];
        for (text, host, port) in table {
            assert_eq!(text.parse(), Ok(Target { host: host.to_owned(), port }), "{text}");
        }
    }

    #[test]
    fn bad_ones() {
        let port = |text: &str| TargetError::BadPort(text.to_owned());
        let host = |text: &str| TargetError::BadHost(text.to_owned());
        let ipv6 = |text: &str| TargetError::BadIpv6(text.to_owned());
        let long_label = "a".repeat(64);
        let long_name = ["a"; 128].join(".");
        let table = [
            ("", TargetError::EmptyHost),
            (":8079", TargetError::EmptyHost),
            ("host:", port("")),
            ("host:0", port("0")),
            ("host:65536", port("65536")),
            ("host:+80", port("+80")),
            ("host:-1", port("-1")),
            ("host:80x", port("80x")),
            ("host: 80", port(" 80")),
            ("[::1]:0", port("0")),
            ("[::1]:", port("")),
            ("[::1", TargetError::OpenBracket),
            ("[", TargetError::OpenBracket),
            ("[::1]8079", TargetError::AfterBracket("8079".to_owned())),
            ("[]", ipv6("")),
            ("[192.0.2.1]:80", ipv6("192.0.2.1")),
            ("[fe80::1%]", ipv6("fe80::1%")),
            ("a:b:c", ipv6("a:b:c")),
            ("1:2:3:8079", ipv6("1:2:3:8079")),
            ("a b", host("a b")),
            (" host", host(" host")),
            ("host\n", host("host\n")),
            ("a..b", host("a..b")),
            (".", host(".")),
            ("-host", host("-host")),
            ("http//host", host("http//host")),
            ("http://host", TargetError::Url("http://host".to_owned())),
            ("https://host:1/x", TargetError::Url("https://host:1/x".to_owned())),
            ("192.0.2.256", TargetError::BadIpv4("192.0.2.256".to_owned())),
            ("192.0.2.1.5:80", TargetError::BadIpv4("192.0.2.1.5".to_owned())),
            ("user@host", host("user@host")),
            (&long_label, host(&long_label)),
            (&long_name, host(&long_name)),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Target>(), Err(error), "{text}");
        }
    }

    #[test]
    fn printed_as_it_is_read() {
        for text in ["vpn.example.com:8089", "192.0.2.1:1", "[::1]:8079", "[fe80::1%eth0]:443"] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn networks() {
        assert_eq!(parse_network("10.0.0.0/8"), Ok("10.0.0.0/8".to_owned()));
        assert!(parse_network("10.0.0.1/8").unwrap_err().ends_with(": 10.0.0.0/8?"));
        for bad in ["", "all", "10.0.0.0/33", "10.0.0/8"] {
            assert!(parse_network(bad).unwrap_err().ends_with("are 0"), "{bad}");
        }
    }

    #[test]
    fn pins() {
        let digits = "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789";
        assert_eq!(parse_pin(&format!("sha256:{digits}")), Ok(format!("sha256:{}", digits.to_lowercase())));
        for bad in ["", "sha256:", digits, &format!("sha1:{digits}"), &format!("sha256:{digits}0"), "sha256:zz"] {
            assert!(parse_pin(bad).is_err(), "{bad}");
        }
    }
}
