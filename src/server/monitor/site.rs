//! From the head of a request to its answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use vpn_http::{Head, Method, is_field_value};

use super::access::{self, Guard, PARAMETER, parameters};
use super::door::{self, Door};
use super::history;
use super::message::{Body, Response, Route};
use super::routes::{self, EVERY_SECOND};
use crate::sdk::boundary::guard;
use crate::server::Server;

/// What status 405 names.
pub(super) const METHODS: &str = "GET, HEAD";
/// Headers of every answer: it is nobody else's, neither a cache's nor another site's, and it is what its type says.
const FIELDS: [(&str, &str); 4] = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
];

const SECOND: Duration = Duration::from_secs(1);

/// The routes of one service, and the answers of the last moment. It belongs to the monitor's thread.
pub(super) struct Site {
    server: Weak<Server>,
    door: Arc<Door>,
    listens: SocketAddr,
    has_page: bool,
    /// When the next second's work is due.
    due: Instant,
    /// When the history takes the next sample.
    sample_due: Instant,
    recent: HashMap<&'static str, (Instant, Response)>,
}

/// An answer on its way: its head, then its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Vec<u8>,
    pub(super) body: Body,
}

impl Site {
    /// Creates the site of a listener at `listens`.
    pub(super) fn new(server: Weak<Server>, door: Arc<Door>, listens: SocketAddr, has_page: bool) -> Site {
        let now = Instant::now();
        Site { server, door, listens, has_page, due: now, sample_due: now, recent: HashMap::new() }
    }

    /// Does what is due once a second, and takes a sample for the history if one is due. Returns when to call it again.
    pub(super) fn tick(&mut self, now: Instant) -> Instant {
        if now < self.due {
            return self.due;
        }
        // Without catching up after a pause of the process.
        self.due = now + SECOND;
        let Some(server) = self.server.upgrade() else { return self.due };
        for work in EVERY_SECOND {
            guard("the monitor's look at the service", (), || work(&server));
        }
        if now >= self.sample_due {
            self.sample_due = now + history::PERIOD;
            guard("the monitor's history", (), || server.monitor.note(&server));
        }
        self.due
    }

    /// Answers a request whose head is whole.
    pub(super) fn answer(&mut self, head: &Head<'_>, now: Instant) -> Answer {
        let response = self.respond(head, now);
        finish(&response, head.method == Method::Head)
    }

    fn respond(&mut self, head: &Head<'_>, now: Instant) -> Response {
        if head.method == Method::Post || head.body_size > 0 {
            return Response::refusal(405, "nothing can be changed here: expected GET or HEAD without a body\n")
                .with("Allow", METHODS);
        }
        if !access::names_this_host(head) {
            return Response::refusal(
                421,
                "the header Host names another host: expected localhost or an IP address, which no foreign site can have\n",
            );
        }
        let Some(route) = routes::all(self.has_page).find(|route| route.path == head.path) else {
            let paths: Vec<_> = routes::all(self.has_page).map(|route| route.path).collect();
            return Response::refusal(404, format!("no such page; expected one of {}\n", paths.join(", ")));
        };
        if let Some(refusal) = self.refuse(route.guard, head) {
            return refusal;
        }
        if let Some(response) = door::enter(head, &self.door.token(), self.listens.port()).filter(|_| self.has_page) {
            return response;
        }
        self.make(route, head, now)
    }

    /// Returns why a request may not have what this guards.
    fn refuse(&self, guard: Guard, head: &Head<'_>) -> Option<Response> {
        let needs_token = match guard {
            Guard::Figures => !self.listens.ip().is_loopback(),
            Guard::Token => true,
        };
        if access::is_cross_site(head) {
            return Some(Response::refusal(403, "a page of another site has asked: expected a request of this one\n"));
        }
        if !needs_token || self.door.token().is_shown(head) {
            return None;
        }
        if guard == Guard::Token {
            return Some(door::refusal());
        }
        let text = "this needs the monitor's token: expected `Authorization: Bearer TOKEN` or `?token=TOKEN`\n";
        Some(Response::refusal(401, text).with("WWW-Authenticate", "Bearer realm=\"cellframe-vpn\""))
    }

    /// Makes an answer, or takes the one of a moment ago.
    fn make(&mut self, route: &'static Route, head: &Head<'_>, now: Instant) -> Response {
        // With other parameters it may be another one.
        let is_plain = parameters(head.query).all(|(name, _)| name == PARAMETER);
        if let Some((made, response)) = self.recent.get(route.path).filter(|_| is_plain)
            && now.saturating_duration_since(*made) < route.fresh_for
        {
            return response.clone();
        }
        let Some(server) = self.server.upgrade() else { return Response::refusal(503, "the service stops\n") };
        let failed = Response::refusal(500, "internal error, please report it: the log has more\n");
        let response = guard("a page of the monitor", failed, || (route.answer)(&server));
        drop(server);
        if is_plain && route.fresh_for > Duration::ZERO {
            self.recent.insert(route.path, (now, response.clone()));
        }
        response
    }
}

/// Makes the bytes of an answer.
fn finish(response: &Response, is_head_alone: bool) -> Answer {
    let own = response.fields.iter().map(|(name, value)| (*name, &**value));
    let fields = FIELDS.into_iter().filter(|(name, _)| !response.fields.iter().any(|(own, _)| own == name)).chain(own);
    let fields = fields.filter(|(_, value)| is_field_value(value));
    let head = vpn_http::head(response.status, &response.mime, response.body.bytes().len(), fields).into_bytes();
    let body = if is_head_alone { Body::Static(&[]) } else { response.body.clone() };
    Answer { head, body }
}

/// Answers a peer that has sent no request that is answered.
pub(super) fn refusal(status: u16) -> Answer {
    Answer { head: vpn_http::refusal(status, METHODS).into_bytes(), body: Body::Static(&[]) }
}
