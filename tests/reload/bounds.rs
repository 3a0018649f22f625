//! Bounds that a reload changes, each shown by what the server then grants or refuses.

use serde_json::Value;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{code, stderr, stdout};
use testkit::tunnel::{Client, NETWORK};

use crate::server::stat;
use crate::{PROGRAM, keys, reloaded};

/// Runs a command that must succeed, with the state directory of `state`, and returns what it prints.
fn printed(hosts: &Hosts, state: &str, arguments: &[&str]) -> String {
    let output = hosts.near(&[arguments, &["--state-dir", &hosts.state(state)]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn a_source_has_the_reloaded_share_of_addresses() {
    in_namespace("bounds::a_source_has_the_reloaded_share_of_addresses", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(NETWORK);
        let (_server, pin) = hosts.server_with("server", &["--config", &config]);
        let _first = Client::connect(&hosts, 0, "first", &["--pin", &pin]);
        hosts.config(&format!("{NETWORK}leases_per_address=1\n"));
        assert_eq!(keys(&reloaded(&hosts, &config), "applied"), ["srv_vpn/leases_per_address"]);
        let mut second = hosts.client_at(0, "second", &["--pin", &pin]);
        assert_eq!(second.exit_code(), Some(8), "{}", second.log());
        assert_eq!(stat(&hosts)["sessions"].as_array().unwrap().len(), 1, "the first one lives");
    });
}

#[test]
fn sessions_of_an_order_have_its_reloaded_limits() {
    in_namespace("bounds::sessions_of_an_order_have_its_reloaded_limits", || {
        let hosts = Hosts::new(PROGRAM);
        let sells = format!("{NETWORK}prices=[1 GB for 0.5 CELL]\n");
        let config = hosts.config(&sells);
        let (server, pin) = hosts.server_with("server", &["--config", &config]);
        let address = printed(&hosts, "client", &["wallet", "new", "purse"]);
        printed(&hosts, "server", &["wallet", "fund", address.trim(), "2"]);
        let options = ["--pin", &pin, "--wallet", "purse", "--value", "1"];
        let _client = Client::connect(&hosts, 0, "client", &options);
        let limits = || {
            let session = stat(&hosts)["sessions"][0].clone();
            [session["limit_down"].clone(), session["limit_up"].clone()]
        };
        assert_eq!(limits(), [Value::Null, Value::Null]);
        let offers = server.stdout();
        let (_, order) = offers.split_once("order 0x").unwrap_or_else(|| panic!("{offers}"));
        hosts.config(&format!("{sells}order_limits=[0x{}:4000:3000]\n", &order[..64]));
        assert_eq!(keys(&reloaded(&hosts, &config), "applied"), ["srv_vpn/order_limits"]);
        eventually("the limits of the order", || limits() == [4000, 3000]);
    });
}
