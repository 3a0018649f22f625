//! A server's name with many addresses, of which one is good.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{code, stderr, stdout};
use testkit::skip;

use crate::PROGRAM;

/// Runs `check` of this name on the first client's host, with these addresses in /etc/hosts.
fn check(hosts: &Hosts, name: &str, addresses: &[String]) -> std::process::Output {
    let file = hosts.path().join("hosts");
    let lines: Vec<String> = addresses.iter().map(|address| format!("{address} {name}\n")).collect();
    fs::write(&file, lines.concat()).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#, "sh"]);
    command.arg(&file).args([PROGRAM.0, "check", name, "--state-dir", &hosts.state("check")]);
    hosts.at(0).run(move || command.output().unwrap())
}

/// 18 addresses that nobody has, one that accepts TCP and then says nothing, and the server, in three orders.
#[test]
fn one_good_address_among_many_is_found() {
    in_namespace("addresses::one_good_address_among_many_is_found", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        let dead: Vec<String> = (100..118).map(|last| format!("10.55.0.{last}")).collect();
        let silent = hosts.at(0).run(|| TcpListener::bind("10.55.0.2:8079").unwrap());
        let (good, mute) = ("10.55.0.1".to_owned(), "10.55.0.2".to_owned());
        let only = check(&hosts, "alone.test", std::slice::from_ref(&good));
        if code(&only) != 0 {
            return skip("one_good_address_among_many_is_found", &stderr(&only));
        }
        let orders = [
            [std::slice::from_ref(&mute), &dead, std::slice::from_ref(&good)].concat(),
            [&dead[..9], &[good.clone(), mute.clone()], &dead[9..]].concat(),
            [&dead[..], &[good, mute]].concat(),
        ];
        for (number, order) in orders.iter().enumerate() {
            let checked = check(&hosts, &format!("name{number}.test"), order);
            assert_eq!(code(&checked), 0, "{order:?}: {}", stderr(&checked));
            assert!(stdout(&checked).contains("answers"), "{}", stdout(&checked));
        }
        drop(silent);
    });
}
