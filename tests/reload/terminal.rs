//! SIGHUP of a terminal that is gone ends the program, as ever; another one has it read its configuration again.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::Running;
use testkit::terminal::Terminal;
use testkit::tunnel::NETWORK;

use crate::PROGRAM;

#[test]
fn the_end_of_its_terminal_ends_the_program() {
    in_namespace("terminal::the_end_of_its_terminal_ends_the_program", || {
        let hosts = Hosts::new(PROGRAM);
        let (config, state) = (hosts.config(NETWORK), hosts.state("server"));
        let number = hosts.path().join("pid");
        let script = format!(
            "{} server --config {config} --state-dir {state} & echo $! > {}; wait",
            PROGRAM.0,
            number.display()
        );
        let (_terminal, end) = Terminal::new();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-c", &script]).stdin(end).env_remove("RUST_LOG");
        let mut shell = Running::start(hosts.path(), "shell", command, |mut command| command.spawn().unwrap());
        shell.wait_for("ready: listening");
        let server = Pid::from_raw(fs::read_to_string(number).unwrap().trim().parse().unwrap()).unwrap();
        kill_process(server, Signal::HUP).unwrap();
        shell.wait_for_log("the configuration was read again: nothing has changed");
        // The session's leader: the kernel takes the terminal away, and sends SIGHUP.
        kill_process(Pid::from_child(&shell.child), Signal::KILL).unwrap();
        eventually("the end of the server", || {
            // It is a zombie for a moment, or for good where nobody waits for orphans.
            let state = fs::read_to_string(format!("/proc/{}/stat", server.as_raw_nonzero())).unwrap_or_default();
            test_kill_process(server).is_err() || state.contains(") Z ")
        });
        assert!(shell.log().contains("stopping") && !shell.log().contains(" ERROR "), "{}", shell.log());
    });
}
