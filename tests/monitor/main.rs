//! The monitor as its readers have it: Prometheus, programs, and hostile users of the same host.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod documents;
mod exposition;
mod figures;
mod hostile;
mod places;

use std::net::SocketAddr;

use testkit::hosts::Hosts;
use testkit::http::get;
use testkit::program::{Program, stdout};

use exposition::Exposition;

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// Where the monitor is by default.
fn at() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8078))
}

/// Reads the figures, by the rules of OpenMetrics.
fn scrape() -> Exposition {
    let reply = get(at(), "/metrics", "");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    Exposition::parse(&reply.body).unwrap_or_else(|why| panic!("{why}\n{}", reply.body))
}

/// Returns the monitor's token, which is in the address of the page.
fn token(hosts: &Hosts, state: &str) -> String {
    let url = stdout(&hosts.near(&["stat", "--url", "--state-dir", &hosts.state(state)]));
    url.split_once("token=").unwrap_or_else(|| panic!("{url:?}")).1.trim().to_owned()
}
