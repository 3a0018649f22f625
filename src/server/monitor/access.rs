//! Who may ask: programs of this host, and people who have the token.
//!
//! A page of any site can have a browser on this host send requests here. It cannot read the answers, because no header
//! allows that; but a site whose name resolves to 127.0.0.1 (DNS rebinding) would be this origin. So a request must name
//! this host by an address or as `localhost`, which no foreign name is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use vpn_http::Head;

use crate::server::leases::random;

/// How the name of the cookie begins in which a browser keeps the token.
pub(super) const COOKIE: &str = "cellframe_vpn_token";
/// The parameter of a URL that has it.
pub(super) const PARAMETER: &str = "token";
/// Its random bytes.
const BYTES: usize = 24;

/// What a request must show before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Nothing on a loopback address, else the token: figures that name nobody.
    Figures,
    /// The token, always: who the clients are and what they pay. Any user of this host reaches a loopback address.
    Token,
}

/// The secret that stands for the operator.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    /// Draws a new one.
    pub(super) fn draw() -> std::io::Result<Token> {
        let bytes: [u8; BYTES] = random().ok_or_else(|| std::io::Error::other("too few random bytes"))?;
        Ok(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Takes one that was drawn before; `None` if the text cannot be one.
    pub(super) fn parse(text: &str) -> Option<Token> {
        let is_token = text.len() == 2 * BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then(|| Token(text.to_owned()))
    }

    /// Returns it as it stands in a file, a URL or a header.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Whether the text is the token. How long it takes does not tell how much of it is right.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let differs = shown.iter().zip(self.0.as_bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        shown.len() == self.0.len() && std::hint::black_box(differs) == 0
    }

    /// Whether the request shows the token: in `Authorization: Bearer`, in the URL, or in the cookie.
    pub(super) fn is_shown(&self, head: &Head<'_>) -> bool {
        let bearer = head.only("authorization").and_then(|text| text.split_once(' '));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let parameter = parameters(head.query).find_map(|(name, value)| (name == PARAMETER).then_some(value));
        let cookies = head.values("cookie").filter_map(|value| std::str::from_utf8(value).ok());
        let cookies = cookies.flat_map(|text| text.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let cookie = cookies.filter(|(name, _)| name.starts_with(COOKIE)).map(|(_, value)| value);
        bearer.into_iter().chain(parameter).chain(cookie).any(|shown| self.is(shown.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Returns the parameters of a query.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// Whether the request is meant for this host by a name that only this host has.
pub(super) fn names_this_host(head: &Head<'_>) -> bool {
    head.only("host").is_some_and(|host| is_local_name(name_of(host)))
}

/// Whether a page of another site has made a browser send the request.
pub(super) fn is_cross_site(head: &Head<'_>) -> bool {
    head.values("sec-fetch-site").any(|value| !matches!(value, b"same-origin" | b"none"))
}

/// The host of `host:port`.
fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_local_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() || name.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::with_head as with;
    use super::*;

    #[test]
    fn only_names_of_this_host_are_answered() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8078", "[::1]:8078", "[::1]", "192.0.2.7", "127.0.0.1:"] {
            assert!(with("/", &format!("Host: {host}\r\n"), names_this_host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:8078", "127.0.0.1.evil.example", "[::1", "127.1"] {
            assert!(!with("/", &format!("Host: {host}\r\n"), names_this_host), "{host}");
        }
        assert!(!with("/", "", names_this_host));
        assert!(!with("/", "Host: localhost\r\nHost: localhost\r\n", names_this_host));
    }

    #[test]
    fn a_foreign_page_is_known_by_the_browsers_header() {
        for (value, expected) in [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)] {
            assert_eq!(with("/", &format!("Sec-Fetch-Site: {value}\r\n"), is_cross_site), expected, "{value}");
        }
        assert!(!with("/", "", is_cross_site));
    }

    #[test]
    fn the_token_is_shown_in_three_places() {
        let token = Token::draw().unwrap();
        let text = token.text().to_owned();
        assert_eq!(text.len(), 2 * BYTES);
        let shown = |target: &str, headers: &str| with(target, headers, |head| token.is_shown(head));
        assert!(shown(&format!("/?a=1&token={text}"), ""));
        assert!(shown("/", &format!("Authorization: bearer {text}\r\n")));
        assert!(shown("/", &format!("Cookie: a=b; {COOKIE}={text}\r\n")));
        let other = Token::draw().unwrap();
        for wrong in ["", other.text(), &text[1..], &format!("{text}0"), &text.to_uppercase().replace('0', "1")] {
            assert!(!shown(&format!("/?token={wrong}"), &format!("Cookie: {COOKIE}={wrong}\r\n")), "{wrong}");
        }
        assert!(!shown("/", &format!("Authorization: Basic {text}\r\n")));
        assert!(!format!("{token:?}").contains(&text));
    }

    #[test]
    fn a_stored_token_is_taken_only_whole() {
        let token = Token::draw().unwrap();
        assert_eq!(Token::parse(token.text()).map(|again| again.0), Some(token.0.clone()));
        for text in ["", "abc", &token.text()[1..], &format!("{}g", &token.text()[1..])] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }
}
