//! The watchdog is fed while all that must run does.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::manager::Manager;
use testkit::netns::in_namespace;
use testkit::program::send;
use testkit::skip;
use testkit::stopped_thread::{thread_of, while_stopped};
use testkit::tunnel::NETWORK;

use crate::{PROGRAM, start_managed};

/// What the service manager is told to expect.
const WATCHDOG: Duration = Duration::from_secs(4);

#[test]
fn a_worker_that_hangs_misses_the_watchdog() {
    const NAME: &str = "watchdog::a_worker_that_hangs_misses_the_watchdog";
    in_namespace(NAME, || {
        let hosts = Hosts::new(PROGRAM);
        let manager = Manager::new(hosts.path());
        let config = hosts.config(&format!("[resources]\nthreads_cnt=2\n{NETWORK}"));
        let mut server = start_managed(&hosts, &manager, &config, Some(WATCHDOG));
        let begin = Instant::now();
        manager.wait_for("WATCHDOG=1", 2);
        assert!(begin.elapsed() < 2 * WATCHDOG, "{:?}", begin.elapsed());
        // Each of them is needed.
        for name in ["vpn-worker-0", "vpn-worker-1"] {
            let thread = thread_of(server.child.id(), name).unwrap();
            let missed = while_stopped(thread, || {
                // What was on its way.
                std::thread::sleep(Duration::from_millis(1500));
                let before = manager.count("WATCHDOG=1");
                std::thread::sleep(Duration::from_secs(2));
                manager.count("WATCHDOG=1") - before
            });
            match missed {
                Ok(fed) => assert_eq!(fed, 0, "{name} hangs, and the watchdog is fed"),
                Err(error) => return skip(NAME, &format!("a thread cannot be stopped: {error}")),
            }
            manager.wait_for("WATCHDOG=1", manager.count("WATCHDOG=1") + 1);
        }
        send(&server.child, Signal::TERM);
        assert_eq!(server.exit_code(), Some(0), "{}", server.log());
        assert!(!server.log().contains("watchdog expects"), "{}", server.log());
    });
}
