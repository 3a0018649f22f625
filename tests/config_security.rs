//! A security key that is there and cannot be read stops the start, with section, key, value and what is expected: the
//! default may be the opposite of what its owner wrote.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs;

use testkit::program::{Program, code, stderr, stdout};

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// 108 bytes, and the kernel takes 107.
const LONG_PATH: &str = concat!(
    "/run/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/cli.sock"
);

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
    ("srv_vpn", "limit_down", "4M", "4M"),
    ("srv_vpn", "limit_up", "-1", "-1"),
    ("srv_vpn", "order_limits", "[0x00:1:1", "never closed"),
    ("srv_vpn", "log_addresses", "nope", "nope"),
    ("srv_vpn", "store_leases", "nope", "nope"),
    ("srv_vpn", "static_leases", "[0x00:10.98.0.7", "never closed"),
    ("server", "enabled", "maybe", "maybe"),
    ("server", "max_streams", "-1", "-1"),
    ("server", "max_streams_per_address", "few", "few"),
    ("server", "idle_timeout", "0", "0"),
    ("server", "listen_address", "[]", "[]"),
    ("server", "listen_address", "[127.0.0.1:1", "never closed"),
    ("cli-server", "enabled", "nein", "nein"),
    ("cli-server", "listen-path", "[/run/a,/run/b]", "[/run/a,/run/b]"),
    ("cli-server", "listen-path", "run/cli.sock", "an absolute path"),
    ("cli-server", "listen-path", LONG_PATH, "107 bytes"),
    ("srv_vpn", "deny_host", "[]", "[]"),
    ("srv_vpn", "deny_host", "true,", "true,"),
    ("srv_vpn", "deny", "[10.0.0.0/8", "never closed"),
    ("srv_vpn", "leases_per_address", "many", "many"),
    ("srv_vpn", "new_leases_per_minute", "[]", "[]"),
    ("srv_vpn", "lease_unused", "5m", "5m"),
    ("server", "max_memory", "64M", "64M"),
    ("server", "max_memory_per_address", "[1]", "[1]"),
    ("vpn_client", "allow_source", "[10.0.0.0/8", "never closed"),
    ("vpn_client", "allow_subnet", "[10.0.0.0/8", "never closed"),
    ("vpn_client", "routes", "[0.0.0.0/0", "never closed"),
    ("vpn_client", "exclude_routes", "[10.0.0.0/8", "never closed"),
    ("vpn_client", "kill_switch", "yes please", "yes please"),
    ("vpn_client", "kill_switch_local", "[]", "[]"),
    ("srv_vpn", "nat", "maybe", "maybe"),
    ("vpn_client", "ipv6", "no", "one of block, leave"),
    ("vpn_client", "ipv6", "", "one of block, leave"),
    ("vpn_client", "dns", "[10.98.0.1", "never closed"),
    ("network_backbone", "role", "lite", "one of root-master"),
    ("network_backbone", "role", "", "one of root-master"),
    ("network_backbone", "role", "[light", "never closed"),
    ("network_backbone", "id", "zz", "zz"),
    ("general", "state_dir", "[/a,/b]", "[/a,/b]"),
];

fn refusal(text: impl AsRef<[u8]>, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.cfg");
    let text = text.as_ref();
    fs::write(&file, text).unwrap();
    let text = String::from_utf8_lossy(text);
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
            let line = refusal(format!("[{section}]\n{key}={value}\n"), command);
            let names = line.contains(&format!("a.cfg: [{section}] {key} = "));
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
        "[server]\nclient_isolation=true\n",
        "[vpn_server]\nclient_isolation=true\n",
        "[srv_vpn]\nserver_pin=sha256:00\n",
    ] {
        let line = refusal(text, &["check", "127.0.0.1:1"]);
        let key = if text.contains("pin") { "server_pin" } else { "client_isolation" };
        assert!(line.contains(&format!("] {key} = ")) && line.contains("expected"), "{text:?}: {line}");
    }
}

/// Without the lines that cannot be read, such a file would be an empty configuration, which starts.
#[test]
fn a_file_of_another_kind_stops_every_command() {
    let text = "[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\nclient_isolation=true\n";
    let utf_16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let files: [(Vec<u8>, &str); 3] = [
        (utf_16, "expected UTF-8"),
        (text.replace('\n', "\r").into(), "expected LF"),
        (b"{\"srv_vpn\": {\"client_isolation\": true}}\n".to_vec(), "expected `[section]`"),
    ];
    let commands: [&[&str]; 3] = [&["server"], &["client", "--connect", "127.0.0.1:1"], &["check", "127.0.0.1:1"]];
    for (file, said) in files {
        for command in commands {
            let line = refusal(&file, command);
            assert!(line.contains("a.cfg is not a configuration file") && line.contains(said), "{line}");
        }
    }
}

/// A socket cannot be made everywhere that a path can name: without the CLI nobody could stop or watch the server.
#[test]
fn a_path_without_a_socket_stops_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.cfg");
    fs::write(&file, "[cli-server]\nlisten-path=/proc/nowhere/cli.sock\n[server]\nlisten_address=127.0.0.1:0\n")
        .unwrap();
    let state = directory.path().join("state");
    let paths = [file.to_str().unwrap(), state.to_str().unwrap()];
    let output = PROGRAM.run(directory.path(), &["server", "--config", paths[0], "--state-dir", paths[1]]);
    let log = stderr(&output);
    assert_eq!((code(&output), stdout(&output)), (1, String::new()), "{log}");
    assert!(log.contains("[cli-server] listen-path = /proc/nowhere/cli.sock: expected a path where"), "{log}");
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

/// What the service reads itself. A start has made nothing but the state directory then.
#[test]
fn limits_of_orders_that_cannot_be_kept_stop_the_server() {
    let (order, network) =
        (format!("0x{}", "5a".repeat(32)), "network_address=10.98.0.0\nnetwork_mask=255.255.255.0\n");
    for (keys, said) in [
        (format!("order_limits=[{order}:1]"), "expected a list of 0x"),
        (format!("order_limits=[{order}:1:-1]"), "expected a list of 0x"),
        (format!("order_limits=[{order}:1:1,{order}:2:2]"), "each order once"),
        (format!("order_limits=[{order}:1:1]\ngate=false"), "the gate reads a session's order"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.cfg");
        fs::write(&file, format!("[server]\nlisten_address=[127.0.0.1:0]\n[srv_vpn]\n{network}{keys}\n")).unwrap();
        let state = directory.path().join("state");
        let (file, state) = (file.to_str().unwrap(), state.to_str().unwrap());
        let output = PROGRAM.run(directory.path(), &["server", "--config", file, "--state-dir", state]);
        let log = stderr(&output);
        assert!(code(&output) == 2 && log.contains("[srv_vpn] order_limits = ") && log.contains(said), "{keys}: {log}");
    }
}
