//! What a service manager hears, and when.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::manager::Manager;
use testkit::netns::in_namespace;
use testkit::program::{Running, processes_of, send};
use testkit::tunnel::{Client, NETWORK};

use crate::{PROGRAM, start_managed};

/// Whether the process has a handler for SIGHUP yet.
fn catches_hangup(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 1 != 0
}

/// The clock of sd_notify(3), in microseconds.
fn monotonic() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u128 * 1_000_000 + now.tv_nsec as u128 / 1000
}

#[test]
fn a_server_is_ready_reloads_and_stops() {
    in_namespace("managed::a_server_is_ready_reloads_and_stops", || {
        let hosts = Hosts::new(PROGRAM);
        let manager = Manager::new(hosts.path());
        let config = hosts.config(NETWORK);
        let begin = monotonic();
        let mut server = start_managed(&hosts, &manager, &config, None);
        // While it starts: it is read again when the server serves.
        eventually("a handler of SIGHUP", || catches_hangup(server.child.id()));
        send(&server.child, Signal::HUP);
        manager.wait_for("READY=1", 2);
        let heard = manager.heard();
        assert!(heard[0].starts_with("READY=1\nSTATUS=0 sessions, listening on 0.0.0.0:8079, network"), "{heard:?}");
        let usec = heard[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{heard:?}"));
        assert!((begin..monotonic()).contains(&usec.trim().parse().unwrap()), "{heard:?}");
        assert!(server.stdout().contains("ready: listening"), "the line of the start comes first");

        let client = Client::connect(&hosts, 0, "client", &[]);
        manager.wait_for_status("1 session, ");
        (0..10).for_each(|_| send(&server.child, Signal::HUP));
        eventually("the end of the last of ten", || {
            let (begun, ended) = (manager.count("RELOADING=1"), manager.count("READY=1"));
            begun >= 2 && ended == begun + 1
        });
        assert!(client.running.stdout().lines().count() == 1, "the session lives");

        // While it stops.
        send(&server.child, Signal::TERM);
        // It has not been waited for, so that its number is no other process's.
        (0..3).for_each(|_| send(&server.child, Signal::HUP));
        assert_eq!(server.exit_code(), Some(0), "{}", server.log());
        let last = manager.heard().pop().unwrap();
        assert!(last.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=") && last.ends_with("STATUS=stopping\n"), "{last}");
    });
}

/// A process that the program starts has no part in that.
#[test]
fn the_processes_of_the_demo_do_not_find_the_service_manager() {
    in_namespace("managed::the_processes_of_the_demo_do_not_find_the_service_manager", || {
        let directory = tempfile::tempdir().unwrap();
        let manager = Manager::new(directory.path());
        let mut command = PROGRAM.command(directory.path());
        command.args(["demo", "--seconds", "60"]);
        manager.manage(&mut command, Some(Duration::from_secs(30)));
        let mut demo = Running::start(directory.path(), "demo", command, |mut command| command.spawn().unwrap());
        let own = demo.child.id().to_string();
        let mut seen = 0;
        eventually("two children", || {
            let children = processes_of(directory.path()).into_iter().filter(|pid| *pid != own);
            let environments = children.filter_map(|pid| fs::read(format!("/proc/{pid}/environ")).ok());
            // A child has the environment of the demo until its execve.
            let is_end = |text: &String| text.contains("RUST_LOG=");
            let of_ends: Vec<_> =
                environments.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).filter(is_end).collect();
            assert!(
                of_ends.iter().all(|text| !text.contains("NOTIFY_SOCKET") && !text.contains("WATCHDOG")),
                "{of_ends:?}"
            );
            seen = of_ends.len();
            seen >= 2
        });
        send(&demo.child, Signal::INT);
        assert_eq!(demo.exit_code(), Some(130), "{}", demo.log());
        assert_eq!(manager.heard(), [""; 0]);
    });
}
