//! A security key that is there and cannot be read stops the start, with section, key, value and what is expected: the
//! default may be the opposite of what its owner wrote.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs;

use testkit::program::{Program, code, stderr, stdout};

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// Section, key, the value as written, and what the message says of it.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("vpn_client", "server_pin", "[sha256:00]", "[sha256:00]"),
    ("vpn_client", "server_pin", "sha256:00", "sha256:00"),
    ("vpn_client", "server_pin", "", "expected sha256:"),
    ("vpn_client", "server_pin", "[sha256:00", "never closed"),
    ("vpn_client", "tx_fee", "little", "little"),
    ("vpn_client", "order_hash", "[0x00]", "[0x00]"),
    ("srv_vpn", "client_isolation", "enabled", "enabled"),
    ("srv_vpn", "client_isolation", "[true]", "[true]"),
    ("srv_vpn", "client_isolation", "", "expected true or false"),
    ("srv_vpn", "allow_free_srv", "never", "never"),
    ("srv_vpn", "gate", "2", "2"),
    ("srv_vpn", "prove_key", "[]", "[]"),
    ("srv_vpn", "payment_timeout", "soon", "soon"),
    ("srv_vpn", "grace_bytes", "1G", "1G"),
    ("srv_vpn", "grace_at_once", "-1", "-1"),
    ("srv_vpn", "session_queue", "1 MiB", "1 MiB"),
    ("srv_vpn", "log_addresses", "nope", "nope"),
    ("server", "enabled", "maybe", "maybe"),
    ("server", "max_streams", "-1", "-1"),
    ("server", "max_streams_per_address", "few", "few"),
    ("server", "idle_timeout", "0", "0"),
    ("server", "listen_address", "[]", "[]"),
    ("server", "listen_address", "[127.0.0.1:1", "never closed"),
    ("cli-server", "enabled", "nein", "nein"),
    ("cli-server", "listen-path", "[/run/a,/run/b]", "[/run/a,/run/b]"),
    ("general", "state_dir", "[/a,/b]", "[/a,/b]"),
];

fn refusal(text: &str, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.cfg");
    fs::write(&file, text).unwrap();
    let mut all = arguments.to_vec();
    all.extend(["--config", file.to_str().unwrap()]);
    let output = PROGRAM.run(directory.path(), &all);
    assert_eq!((code(&output), stdout(&output)), (2, String::new()), "{text:?}: {}", stderr(&output));
    assert!(!directory.path().join("cellframe-vpn").exists(), "{text:?}: something was made");
    let log = stderr(&output);
    log.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_security_key_that_cannot_be_read_stops_every_command() {
    let commands: [&[&str]; 3] = [&["server"], &["client", "--connect", "127.0.0.1:1"], &["check", "127.0.0.1:1"]];
    for (section, key, value, said) in MISTAKES {
        for command in commands {
            let line = refusal(&format!("[{section}]\n{key}={value}\n"), command);
            let name = key.replace('-', "_");
            let names = line.contains(&section.replace('-', "_")) && line.contains(&name) && line.contains("a.cfg");
            assert!(names && line.contains(said) && line.contains("expected"), "{section} {key}={value}: {line}");
        }
    }
}

#[test]
fn a_misspelt_or_misplaced_one_stops_too() {
    for text in [
        "[srv_vpn]\nclient_isolaton=true\n",
        "[srv_vpn]\nCLIENT_ISOLATION=true\n",
        "[srv_vpn]\nclient_isolation: true\n",
        "[srv_vpm]\nclient_isolation=true\n",
        "[srv_vpn\nclient_isolation=true\n",
        "client_isolation=true\n[srv_vpn]\n",
        "[vpn_client]\nserver_pins=sha256:00\n",
    ] {
        let line = refusal(text, &["check", "127.0.0.1:1"]);
        let key = if text.contains("pin") { "server_pin" } else { "client_isolation" };
        assert!(line.contains(&format!("] {key} = ")) && line.contains("expected"), "{text:?}: {line}");
    }
}

/// `stop` must work whatever has become of the file since the start.
#[test]
fn a_mistake_does_not_keep_a_command_from_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.cfg");
    fs::write(&file, "[srv_vpn]\nclient_isolation=enabled\n").unwrap();
    let output = PROGRAM.run(directory.path(), &["stop", "--config", file.to_str().unwrap()]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}
