//! The status page as its reader has it: the program's server on a host, a browser or a program that asks it.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod browser;
mod fixture;
mod token;

use std::net::SocketAddr;

use testkit::hosts::Hosts;
use testkit::program::{Program, code, stderr, stdout};

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// Where the page is by default.
fn at() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8078))
}

/// The address with the token, as `stat --url` prints it.
fn url(hosts: &Hosts) -> String {
    let output = hosts.near(&["stat", "--url", "--state-dir", &hosts.state("server")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let url = stdout(&output).trim().to_owned();
    assert!(url.starts_with("http://127.0.0.1:8078/?token="), "{url}");
    url
}

/// The token of such an address.
fn token(url: &str) -> &str {
    url.split_once("token=").unwrap().1
}
