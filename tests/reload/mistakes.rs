//! A file that cannot be taken changes nothing, and the mistake is named.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::manager::Manager;
use testkit::netns::in_namespace;
use testkit::program::{code, send, stderr, stdout};
use testkit::sockets::{echo, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::{PROGRAM, keys, reloaded, start_managed};

#[test]
fn a_file_with_an_error_changes_nothing() {
    in_namespace("mistakes::a_file_with_an_error_changes_nothing", || {
        let hosts = Hosts::new(PROGRAM);
        let manager = Manager::new(hosts.path());
        let config = hosts.config(NETWORK);
        let socket = format!("{}/cli.sock", hosts.state("server"));
        let mut server = start_managed(&hosts, &manager, &config, None);
        manager.wait_for("READY=1", 1);
        let client = Client::connect(&hosts, 0, "client", &[]);

        type Spoil = fn(&str);
        let mistakes: [(Spoil, &str); 9] = [
            (|_| {}, "No such file or directory"),
            (|file| fs::create_dir(file).unwrap(), "Is a directory"),
            (|file| symlink(file, file).unwrap(), "symbolic links"),
            (|file| fs::write(file, b"[srv_vpn]\0").unwrap(), "NUL"),
            (|file| fs::write(file, "limit_down 5\n").unwrap(), "no `=` behind the key"),
            (
                |file| fs::write(file, format!("{NETWORK}deny=[10.0.0.1/8]\n")).unwrap(),
                "[srv_vpn] deny = 10.0.0.1/8: expected",
            ),
            (|file| fs::write(file, format!("{NETWORK}limit_donw=1000\n")).unwrap(), "limit_donw"),
            (|file| fs::write(file, "[srv_vpn]\nlimit_down=1000\n").unwrap(), "[srv_vpn] network_address is missing"),
            (|file| fs::write(file, format!("{NETWORK}prices=[1 KB for 1 CELL]\nlimit_down=1\n")).unwrap(), "prices"),
        ];
        for (spoil, expected) in mistakes {
            drop(fs::remove_file(&config));
            drop(fs::remove_dir(&config));
            spoil(&config);
            let output = hosts.near(&["reload", "--socket", &socket]);
            let text = stderr(&output);
            assert_eq!(code(&output), 2, "{expected}: {text}");
            assert!(text.contains(expected) && text.contains("nothing has changed"), "{expected}: {text}");
            manager.wait_for_status(expected);
            assert!(manager.status().unwrap().contains("the last reload failed: "), "{:?}", manager.status());
            assert!(server.log().contains(expected), "{expected}: {}", server.log());
        }
        // SIGHUP finds the same.
        let before = manager.count("READY=1");
        send(&server.child, Signal::HUP);
        manager.wait_for("READY=1", before + 1);
        assert_eq!(manager.count("RELOADING=1") + 1, manager.count("READY=1"));

        drop(fs::remove_file(&config));
        fs::write(&config, NETWORK).unwrap();
        let report = reloaded(&hosts, &config);
        assert!(keys(&report, "applied").is_empty() && keys(&report, "needs_restart").is_empty(), "{report}");
        manager.wait_for_status("1 session, listening on 0.0.0.0:8079, network 10.98.0.0/24");
        assert!(!manager.status().unwrap().contains("failed"));
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"as if nothing had been");
        send(&server.child, Signal::TERM);
        assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    });
}

#[test]
fn wrong_words_are_usage_errors() {
    let directory = tempfile::tempdir().unwrap();
    let help = PROGRAM.run(directory.path(), &["reload", "--help"]);
    for part in ["SIGHUP", "Possible values:", "Examples:", "Exit codes:"] {
        assert!(stdout(&help).contains(part), "{part}: {}", stdout(&help));
    }
    for (arguments, expected, reason) in [
        (&["reload", "node"][..], 2, "possible values: server, client"),
        (&["reload", "--config", "/nonexistent/x.cfg"], 2, "/nonexistent/x.cfg"),
        (&["reload", "--state-dir", "/nonexistent"], 3, "no server runs here"),
        (&["reload", "client", "--state-dir", "/nonexistent"], 3, "no client runs here"),
    ] {
        let output = PROGRAM.run(directory.path(), arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
    }
}
