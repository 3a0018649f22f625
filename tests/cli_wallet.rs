//! `cellframe-vpn wallet`: wallets in files, and accounts at the server on this machine.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::thread;

use embedded::config::{self, Config};
use embedded::ledger;
use embedded::lifecycle::{self, User};
use embedded::wallets::parse_address;
use testkit::program::{Program, code, stderr, stdout};
use vpn_core::money::{Amount, Token};

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));
/// A well-formed address of nobody.
const NOBODY: &str = "0xABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB";

/// A machine with a server's state directory and a client's.
struct Machine {
    directory: tempfile::TempDir,
    file: String,
}

impl Machine {
    fn new() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.cfg").to_str().unwrap().to_owned();
        fs::write(&file, format!("[general]\nstate_dir={}/state\n", directory.path().display())).unwrap();
        Machine { directory, file }
    }

    fn wallet(&self, arguments: &[&str]) -> Output {
        let arguments = [&["wallet"], arguments, &["--config", &self.file]].concat();
        PROGRAM.run(self.directory.path(), &arguments)
    }

    /// The output of a command that succeeds.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.wallet(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
        stdout(&output).trim_end().to_owned()
    }

    /// The code and the sentence of one that fails.
    fn bad(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.wallet(arguments);
        assert_eq!(stdout(&output), "", "{arguments:?}");
        (code(&output), stderr(&output))
    }
}

#[test]
fn wallets_are_made_listed_and_kept_private() {
    let machine = Machine::new();
    assert_eq!(machine.good(&["list"]), "");
    let address = machine.good(&["new", "alice"]);
    assert!(parse_address(&address).is_some(), "{address}");
    assert_eq!(machine.good(&["address", "alice"]), address);
    let other = machine.good(&["new", "bob"]);
    assert_eq!(machine.good(&["list"]), format!("{address} alice\n{other} bob"));
    let (exit, text) = machine.bad(&["new", "alice"]);
    assert!(exit == 1 && text.contains("a wallet \"alice\" already"), "{exit} {text}");
    let (exit, text) = machine.bad(&["new", "../alice"]);
    assert!(exit == 2 && text.contains("expected a wallet's name"), "{exit} {text}");
    let (exit, text) = machine.bad(&["address", "carol"]);
    assert!(exit == 1 && text.contains("cellframe-vpn wallet new carol"), "{exit} {text}");
    let file = machine.directory.path().join("state/client/wallets/alice.pem");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, text) = machine.bad(&["address", "alice"]);
    assert!(exit == 1 && text.contains("mode 0644): expected 0600"), "{exit} {text}");
}

#[test]
fn the_operator_funds_wallets_without_a_running_server() {
    let machine = Machine::new();
    let address = machine.good(&["new", "alice"]);
    let said = machine.good(&["fund", "alice", "10"]);
    assert_eq!(said, format!("10 CELL given to {address} (alice): 10 CELL, and 0 locked"));
    machine.good(&["fund", &address.to_lowercase().replace("0X", "0x"), "0.000000000000000001"]);
    machine.good(&["fund", NOBODY, "2.50"]);
    assert_eq!(
        machine.good(&["balance", "alice"]),
        format!("{address} (alice): 10.000000000000000001 CELL, and 0 locked")
    );
    let all = machine.good(&["balance"]);
    assert!(all.contains(&format!("{NOBODY}: 2.5 CELL, and 0 locked\n")), "{all}");
    assert!(
        all.ends_with("given out 12.500000000000000001 CELL: held 12.500000000000000001, earned 0, fees 0"),
        "{all}"
    );
    let history = machine.good(&["history"]);
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines.len() == 3 && lines[0].contains(&format!("Z funded 2.5 CELL {NOBODY} 0x")), "{history}");
    assert_eq!(machine.good(&["history", "alice", "--most", "1"]), lines[1]);

    for (arguments, exit, part) in [
        (["fund", "alice", "1,5"].as_slice(), 2, "expected a number of tokens such as 10 or 1.5"),
        (&["fund", "alice", "-1"], 2, "unexpected argument"),
        (&["fund", "alice", "0.0000000000000000001"], 2, "19 digits behind the point: expected at most 18"),
        (&["fund", "alice", "340282366920938463464"], 2, "is too large"),
        (&["fund", "alice", "0"], 1, "the amount is 0"),
        (&["fund", "alice", "340282366920938463463"], 1, "too large: all that was given out"),
        (&["fund", "carol", "1"], 2, "there is no wallet \"carol\" on this machine"),
        (&["fund", "0x12", "1"], 2, "there is no wallet \"0x12\""),
        (&["fund", "alice", "1", "--token", "mCELL"], 1, "mCELL pays for nothing in backbone"),
        (&["fund", "alice", "1", "--token", "A B"], 1, "expected a token's ticker"),
        (&["fund", "alice", "1", "--net", "other"], 1, "network \"other\" is not known: expected one of backbone"),
        (&["fund", "alice", "1", "--socket", "/nowhere/x"], 3, "no server runs here"),
    ] {
        let (got, text) = machine.bad(arguments);
        assert!(got == exit && text.contains(part), "{arguments:?}: {got} {text}");
    }
    assert_eq!(machine.good(&["balance"]), all, "none of it has changed anything");
}

/// This process is the server: it has the ledgers open.
#[test]
fn the_running_server_is_asked() {
    let machine = Machine::new();
    let address = machine.good(&["new", "alice"]);
    machine.good(&["fund", "alice", "1"]);
    let state = machine.directory.path().join("state/server");
    config::set_current(Config::parse(&format!("[general]\nstate_dir={}\n", state.display()), "test.cfg").0);
    lifecycle::retain(User::Program).unwrap();
    // A server that sells nothing leaves the ledger to others.
    machine.good(&["fund", "alice", "1"]);
    ledger::open().unwrap();
    let net = embedded::net::find_by_name("backbone").unwrap().id();
    let (owner, cell) = (parse_address(&address).unwrap(), Token::new("CELL").unwrap());
    let has = || Amount(ledger::balance(net, &owner, &cell)).to_string();
    assert_eq!(has(), "2");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| machine.good(&["fund", "alice", "0.25"]));
        }
    });
    assert_eq!(has(), "3");
    let said = machine.good(&["balance", "alice"]);
    assert_eq!(said, format!("{address} (alice): 3 CELL, and 0 locked"));
    // Its socket is gone, but its ledger is open.
    let socket = state.join("cli.sock");
    fs::rename(&socket, state.join("elsewhere")).unwrap();
    let (exit, text) = machine.bad(&["fund", "alice", "1"]);
    assert!(exit == 1 && text.contains("is in use by another process"), "{exit} {text}");
    fs::rename(state.join("elsewhere"), &socket).unwrap();
    lifecycle::release(User::Program);
    assert!(!ledger::is_open());
    assert_eq!(machine.good(&["balance", "alice"]), said);
}
