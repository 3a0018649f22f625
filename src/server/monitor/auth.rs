//! Who may see the status page: whoever knows its token. The page is at a loopback address, which every local user reaches.
//!
//! The operator opens an address that ends in `?token=...`. The answer puts the token into a cookie and leads to the
//! address without it, so that it stays in no history and leaves in no Referer. Programs send it as a Bearer token.

use std::fmt::Write;

use subtle::ConstantTimeEq;

use crate::sdk::store::{self, StoreError};

use super::super::leases::random;

/// The group of the token in the store. The node gives groups that begin so to no other node.
const GROUP: &str = "local.vpn_server.monitor";
const KEY: &str = "token";
/// The bytes of a token: nobody guesses 192 bits.
const SIZE: usize = 24;
/// How long a browser keeps the cookie: 30 days, in seconds.
const COOKIE_LASTS: u32 = 30 * 24 * 3600;

/// Where the operator finds the token.
pub(super) const REFUSAL: &str = "\
This page shows who uses this VPN server, so it asks for the server's token.

Run this on the server, as the user that runs it, and open the address that it prints:

    cellframe-vpn stat --url

On a Cellframe node: cellframe-node-cli vpn_stat -url

A program sends the token as `Authorization: Bearer TOKEN`.
";

/// The secret of the status page. It outlasts the process, and so does a page that is open.
#[derive(Clone)]
pub(super) struct Token([u8; SIZE]);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// A token could be guessed.
    #[error("the kernel provides no random numbers")]
    NoRandom,
    /// The next start would not know it.
    #[error("the token cannot be stored: {0}")]
    Store(#[from] StoreError),
}

/// What a request may see.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// What it asks for.
    Granted,
    /// The same at [`PAGE`], with the cookie that it is given: the value of `Set-Cookie`.
    Redirected(String),
    /// Nothing.
    Refused,
}

/// The address of the page, without the token.
pub(super) const PAGE: &str = "/";

/// What a request shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// The value of `Cookie`.
    pub(super) cookie: Option<&'a str>,
    /// The value of `Authorization`.
    pub(super) authorization: Option<&'a str>,
}

impl Token {
    /// Returns the stored token. Without one, it makes one and stores it.
    pub(super) fn load() -> Result<Token, TokenError> {
        match store::get(GROUP, KEY).map(<[u8; SIZE]>::try_from) {
            Some(Ok(bytes)) => Ok(Token(bytes)),
            Some(Err(_)) => {
                log::warn!("{GROUP} / {KEY}: no token of {SIZE} bytes; a new one is made: see `cellframe-vpn stat --url`");
                Token::renew()
            }
            None => Token::renew(),
        }
    }

    /// Makes another token and stores it: whoever knows the former sees nothing more.
    pub(super) fn renew() -> Result<Token, TokenError> {
        let token = Token(random().ok_or(TokenError::NoRandom)?);
        store::set(GROUP, KEY, &token.0)?;
        Ok(token)
    }

    /// Returns the address of the page with the token, for the operator.
    pub(super) fn url(&self, address: std::net::SocketAddr) -> String {
        format!("http://{address}{PAGE}?token={}", self.text())
    }

    fn text(&self) -> String {
        self.0.iter().fold(String::with_capacity(2 * SIZE), |mut text, byte| {
            // A String takes everything.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Compares in a time that does not tell how much is right.
    fn is(&self, offered: &str) -> bool {
        self.text().as_bytes().ct_eq(offered.as_bytes()).into()
    }

    /// Returns what a request may see. `port` is the listener's: cookies are the host's, whatever the port, and a host may
    /// have several servers.
    pub(super) fn access(&self, shown: Shown<'_>, port: u16) -> Access {
        let name = format!("cellframe-vpn-{port}");
        let mut tokens = shown.query.split('&').filter_map(|pair| pair.strip_prefix("token="));
        if let Some(token) = tokens.next() {
            // A wrong one is refused although the cookie may be right: it is a mistake, which should be seen.
            return match (self.is(token), shown.path) {
                (false, _) => Access::Refused,
                (true, PAGE) => Access::Redirected(format!(
                    "{name}={token}; Path=/; Max-Age={COOKIE_LASTS}; HttpOnly; SameSite=Strict"
                )),
                (true, _) => Access::Granted,
            };
        }
        let bearer = shown.authorization.and_then(|value| value.split_once(' '));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let cookies = shown.cookie.unwrap_or_default().split(';').filter_map(|pair| pair.trim().split_once('='));
        let mut offered = bearer.into_iter().chain(cookies.filter(|(has, _)| *has == name).map(|(_, token)| token));
        if offered.any(|token| self.is(token)) { Access::Granted } else { Access::Refused }
    }
}

/// Hides the secret from logs.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 8078;

    fn token() -> Token {
        Token(std::array::from_fn(|at| at as u8))
    }

    const TEXT: &str = "000102030405060708090a0b0c0d0e0f1011121314151617";

    fn access(shown: Shown<'_>) -> Access {
        token().access(shown, PORT)
    }

    #[test]
    fn the_address_gives_a_cookie_that_opens_the_page() {
        let address = "127.0.0.1:8078".parse().expect("an address");
        let url = token().url(address);
        assert_eq!(url, format!("http://127.0.0.1:8078/?token={TEXT}"));
        let (_, query) = url.split_once('?').expect("a query");
        let Access::Redirected(cookie) = access(Shown { path: "/", query, ..Shown::default() }) else { panic!("{url}") };
        for property in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.split("; ").any(|has| has == property), "{cookie}");
        }
        let (pair, _) = cookie.split_once(';').expect("properties");
        for sent in [pair.to_owned(), format!("a=b; {pair}; c=d"), format!("cellframe-vpn-{PORT}=old; {pair}")] {
            assert_eq!(access(Shown { path: "/", cookie: Some(&sent), ..Shown::default() }), Access::Granted, "{sent}");
        }
        let other_port = token().access(Shown { path: "/", cookie: Some(pair), ..Shown::default() }, 8079);
        assert_eq!(other_port, Access::Refused, "the cookie of another server");
    }

    #[test]
    fn a_program_sends_it_as_it_likes() {
        let bearer = format!("bearer {TEXT}");
        let shown = Shown { path: "/status.json", authorization: Some(&bearer), ..Shown::default() };
        assert_eq!(access(shown), Access::Granted);
        let query = format!("token={TEXT}");
        assert_eq!(access(Shown { path: "/status.json", query: &query, ..Shown::default() }), Access::Granted);
    }

    #[test]
    fn all_else_is_refused() {
        let cookie = format!("cellframe-vpn-{PORT}={TEXT}");
        let cut = &TEXT[..46];
        let longer = format!("token={TEXT}0");
        let refused = [
            Shown { path: "/", ..Shown::default() },
            Shown { query: "token=", ..Shown::default() },
            Shown { path: "/", query: "token=0", cookie: Some(&cookie), ..Shown::default() },
            Shown { path: "/", query: &longer, ..Shown::default() },
            Shown { authorization: Some(TEXT), ..Shown::default() },
            Shown { authorization: Some("Bearer "), ..Shown::default() },
            Shown { authorization: Some(cut), ..Shown::default() },
            Shown { cookie: Some(TEXT), ..Shown::default() },
            Shown { cookie: Some("cellframe-vpn-8078="), ..Shown::default() },
        ];
        for shown in refused {
            assert_eq!(access(shown), Access::Refused, "{shown:?}");
        }
        let upper = TEXT.to_uppercase();
        assert!(!token().is(&upper) && token().is(TEXT));
        assert_eq!(format!("{:?}", token()), "Token");
    }
}
