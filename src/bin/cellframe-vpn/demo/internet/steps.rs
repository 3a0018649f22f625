//! The steps of the demo with an Internet, as its three ends perform them.

use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app::{self, Status};
use host::lab::Namespace;
use serde_json::{Value, json};

use super::super::control::number;
use super::hosts;
use super::sites;
use super::visitor::{self, Visit};
use super::wire::Wire;
use crate::args::EndRole;
use crate::exit::{Code, Failure};

/// How long the client may take to notice a loss, or to connect again.
const RECONNECT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// By then what is under way has arrived.
const SETTLE: Duration = Duration::from_millis(150);

/// What an end keeps from step to step.
#[derive(Default)]
pub(in super::super) struct Steps {
    /// The server's host, which ends with this value.
    server_host: Option<Namespace>,
    wire: Option<Wire>,
    has_own_files: bool,
    has_ipv6: bool,
    state: String,
    visit: Option<Visit>,
}

impl Steps {
    /// Client's end, before it has a second thread: files of its own. Returns why it has none.
    pub(in super::super) fn own_files(&mut self) -> Value {
        let result = visitor::own_files();
        self.has_own_files = result.is_ok();
        result.err().map(|error| error.to_string()).into()
    }

    /// Whether the client's host has name servers of its own.
    pub(in super::super) fn has_own_files(&self) -> bool {
        self.has_own_files
    }

    /// Performs a step; `None` if there is no such step.
    pub(in super::super) fn perform(
        &mut self,
        step: &str,
        role: EndRole,
        request: &Value,
    ) -> Option<Result<Value, Failure>> {
        Some(match (step, role) {
            ("lay", EndRole::Internet) => number(request, "client").and_then(|client| self.lay(client)),
            ("seen", EndRole::Internet) => self.seen(),
            ("take", EndRole::Client) => self.take(request["has_ipv6"] == true),
            ("note state", EndRole::Client) => visitor::state(self.has_own_files).map(|state| {
                self.state = state;
                json!({})
            }),
            ("compare state", EndRole::Client) => {
                visitor::state(self.has_own_files).map(|state| json!({"same": state == self.state}))
            }
            ("fetch", EndRole::Client) => visitor::fetch(self.has_own_files),
            ("attempts", EndRole::Client) => Ok(json!({"attempts": visitor::attempts(self.has_ipv6)})),
            ("visit", EndRole::Client) => Visit::begin().map(|(visit, page)| {
                self.visit = Some(visit);
                page
            }),
            ("request", EndRole::Client) => self.visit().and_then(Visit::request).map(|()| json!({})),
            ("page", EndRole::Client) => self.visit().and_then(|visit| visit.page(RECONNECT)),
            ("await loss", EndRole::Client) => {
                wait_until("noticed the loss", || app::client_status() == Status::ConnectionLost)
            }
            ("await return", EndRole::Client) => {
                wait_until("connected again", || app::client_status() == Status::Started && app::client_connects() == 2)
            }
            _ => return None,
        })
    }

    fn lay(&mut self, client: u32) -> Result<Value, Failure> {
        let laid = hosts::lay(client)?;
        sites::open(laid.has_ipv6)?;
        self.wire = Some(Wire::watch()?);
        let answer = json!({"server_host": laid.server_host.thread(), "has_ipv6": laid.has_ipv6});
        self.server_host = Some(laid.server_host);
        Ok(answer)
    }

    fn take(&mut self, has_ipv6: bool) -> Result<Value, Failure> {
        self.has_ipv6 = has_ipv6;
        hosts::take(has_ipv6).map(|()| json!({}))
    }

    fn seen(&self) -> Result<Value, Failure> {
        std::thread::sleep(SETTLE);
        self.wire.as_ref().map(Wire::take).ok_or_else(|| Failure::general("nothing is captured yet"))
    }

    fn visit(&self) -> Result<&Visit, Failure> {
        self.visit.as_ref().ok_or_else(|| Failure::general("no connection to the web server is open"))
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<Value, Failure> {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > RECONNECT {
            let why = app::client_last_error().map(|error| format!(": {error}")).unwrap_or_default();
            let message = format!("the client has not {what} within {} s{why}", RECONNECT.as_secs());
            return Err(Failure::new(Code::Failure, message));
        }
        std::thread::sleep(POLL);
    }
    Ok(json!({"milliseconds": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)}))
}
