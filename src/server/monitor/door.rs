//! How the operator's browser gets in: an address with the token once, then a cookie. As Jupyter does it.
//!
//! The answer to the address leads to the same without the token, so that it stays in no history and in no Referer. The
//! token outlasts the process, so that a page that is open goes on after a restart.

use std::borrow::Cow;
use std::net::SocketAddr;

use host::outer_path::on_this_host;
use parking_lot::Mutex;
use vpn_http::Head;

use super::access::{COOKIE, PARAMETER, Token, parameters};
use super::message::Response;
use crate::sdk::store::{self, StoreError};

/// The group of the token in the store. The node gives groups that begin so to no other node.
const GROUP: &str = "local.vpn_server.monitor";
const KEY: &str = "token";
/// How long a browser keeps the cookie: 30 days, in seconds.
const COOKIE_LASTS: u32 = 30 * 24 * 3600;
/// The path of the page.
pub(super) const PAGE: &str = "/";

/// What prints the address with the token, on what this library is built for.
pub(super) const COMMAND: &str =
    if cfg!(feature = "embedded") { "cellframe-vpn stat --url" } else { "cellframe-node-cli vpn_stat -url" };

/// What a reader without the token is told.
const REFUSAL: &str = "\
This page shows who uses this VPN server, so it asks for the server's token.

Run this on the server, as root or as the user that runs it, and open the address that it prints:

    cellframe-vpn stat --url

On a Cellframe node: cellframe-node-cli vpn_stat -url

A program sends the token as `Authorization: Bearer TOKEN`.
";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It could be guessed.
    #[error("the kernel provides no random numbers: {0}")]
    NoRandom(#[from] std::io::Error),
    /// The next start would not know it.
    #[error("its token cannot be stored: {0}")]
    Store(#[from] StoreError),
}

/// The token of a running service.
#[derive(Debug)]
pub(super) struct Door(Mutex<Token>);

impl Door {
    /// Takes the stored token. Without one, it draws one and stores it.
    pub(super) fn open() -> Result<Door, TokenError> {
        let stored = store::get(GROUP, KEY);
        let known = stored.as_ref().and_then(|bytes| Token::parse(std::str::from_utf8(bytes).ok()?));
        if known.is_none() && stored.is_some() {
            log::warn!("{GROUP} / {KEY} is no token; a new one is made, and `{COMMAND}` shows it");
        }
        Ok(Door(Mutex::new(known.map_or_else(draw, Ok)?)))
    }

    /// Takes another token: who knows the former sees nothing more.
    pub(super) fn renew(&self) -> Result<(), TokenError> {
        let mut token = self.0.lock();
        *token = draw()?;
        Ok(())
    }

    pub(super) fn token(&self) -> Token {
        self.0.lock().clone()
    }

    /// Returns the address of the page with the token, as a browser on this host takes it.
    pub(super) fn url(&self, listening: SocketAddr) -> String {
        format!("http://{}{PAGE}?{PARAMETER}={}", on_this_host(listening), self.0.lock().text())
    }
}

/// Draws a token and stores it.
fn draw() -> Result<Token, TokenError> {
    let token = Token::draw()?;
    store::set(GROUP, KEY, token.text().as_bytes())?;
    Ok(token)
}

/// Answers a request for the page whose address has the token; `None` for any other. A browser keeps the cookies of a
/// host for all its ports: `port` tells those of several servers apart.
pub(super) fn enter(head: &Head<'_>, token: &Token, port: u16) -> Option<Response> {
    if head.path != PAGE {
        return None;
    }
    let (_, shown) = parameters(head.query).find(|(name, _)| *name == PARAMETER)?;
    if !token.is(shown.as_bytes()) {
        // Also with the right cookie: a mistake should be seen.
        return Some(refusal());
    }
    let cookie = format!("{COOKIE}_{port}={}; Path=/; Max-Age={COOKIE_LASTS}; HttpOnly; SameSite=Strict", token.text());
    let response = Response { status: 303, ..Response::ok("text/plain; charset=utf-8", "the page is at /\n") };
    Some(response.with("Location", PAGE).with("Set-Cookie", Cow::Owned(cookie)))
}

/// Refuses a reader without the token, and says where it is.
pub(super) fn refusal() -> Response {
    Response::refusal(403, REFUSAL)
}

#[cfg(test)]
mod tests {
    use super::super::with_head as with;
    use super::*;

    fn field<'a>(response: &'a Response, name: &str) -> &'a str {
        response.fields.iter().find(|(has, _)| *has == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn the_address_gives_a_cookie_that_opens_the_page() {
        let token = Token::draw().expect("random numbers");
        let url = Door(Mutex::new(token.clone())).url("127.0.0.1:8078".parse().expect("an address"));
        let target = url.strip_prefix("http://127.0.0.1:8078").expect("the host");
        let response = with(target, "", |head| enter(head, &token, 8078)).expect("an answer");
        assert_eq!((response.status, field(&response, "Location")), (303, "/"));
        let cookie = field(&response, "Set-Cookie");
        for property in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.split("; ").any(|has| has == property), "{cookie}");
        }
        let (pair, _) = cookie.split_once(';').expect("properties");
        for sent in [pair.to_owned(), format!("a=b; {pair}; c=d"), format!("{COOKIE}_8079=other; {pair}")] {
            assert!(with("/", &format!("Cookie: {sent}\r\n"), |head| token.is_shown(head)), "{sent}");
        }
        assert!(with("/", &format!("Cookie: {pair}\r\n"), |head| enter(head, &token, 8078)).is_none());
    }

    #[test]
    fn a_wrong_address_is_refused_and_told_where_the_token_is() {
        let token = Token::draw().expect("random numbers");
        for wrong in ["/?token=", "/?token=0", &format!("/?token={}0", token.text())] {
            let response = with(wrong, "", |head| enter(head, &token, 8078)).expect("an answer");
            assert_eq!((response.status, field(&response, "Set-Cookie")), (403, ""));
            let text = String::from_utf8_lossy(response.body.bytes()).into_owned();
            assert!(text.contains("cellframe-vpn stat --url"), "{text}");
        }
        let program = format!("/status.json?token={}", token.text());
        assert!(with(&program, "", |head| enter(head, &token, 8078)).is_none(), "a program gets what it asks for");
    }

    #[test]
    fn the_address_is_one_that_a_browser_reaches() {
        let door = Door(Mutex::new(Token::draw().expect("random numbers")));
        for (listening, expected) in [
            ("0.0.0.0:1", "http://127.0.0.1:1/?"),
            ("[::]:1", "http://[::1]:1/?"),
            ("192.0.2.1:1", "http://192.0.2.1:1/?"),
        ] {
            let url = door.url(listening.parse().expect("an address"));
            assert!(url.starts_with(expected), "{url}");
        }
    }
}
