//! The commands of docs/operate.md work, word for word, in their order: on a server's host, a client's, and an Internet.
//!
//! A block of shell whose fence says "server" or "client" runs there as root, with the program in front of PATH; one that
//! "stays" runs on beside the next. Their /etc and /var/lib are the test's own. systemd runs in no namespace of a test:
//! systemctl.sh runs the units' command lines in its place.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use host::lab::add_loopback_address;
use host::netlink::Netlink;
use rustix::process::{Pid, Signal, kill_process};
use testkit::eventually;
use testkit::hosts::{Host, Hosts};
use testkit::netns::{in_namespace, mount};
use testkit::program::{Program, Running, stderr, stdout};
use testkit::skip;

use crate::document;
use crate::markdown::Block;
use crate::repository::root;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cellframe-vpn");
const SYSTEMCTL: &str = include_str!("systemctl.sh");
/// The address that the guide pings.
const INTERNET: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

/// The guide's machines, and what the reader copies from one block into the next.
struct Machines {
    hosts: Hosts,
    run: PathBuf,
    pin: String,
    address: String,
    staying: Vec<Running>,
}

impl Machines {
    fn new() -> Machines {
        let hosts = Hosts::with_clients(Program(PROGRAM), 2);
        let run = hosts.path().join("run");
        fs::create_dir(&run).unwrap();
        symlink(PROGRAM, run.join("cellframe-vpn")).unwrap();
        fs::write(run.join("systemctl"), SYSTEMCTL).unwrap();
        fs::set_permissions(run.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("systemctl", run.join("journalctl")).unwrap();
        for private in ["/var/lib", "/var/backups"] {
            mount(&["-t", "tmpfs", "tmpfs", private]);
        }
        // The name that the guide gives the server.
        fs::remove_file("/etc/hosts").unwrap();
        fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{} vpn.example.com\n", hosts.at(0).server)).unwrap();
        default_route(Ipv4Addr::new(10, 55, 1, 2));
        let server = hosts.at(0).server;
        hosts.at(0).run(move || default_route(server));
        hosts.at(1).run(|| add_loopback_address(INTERNET).unwrap());
        Machines { hosts, run, pin: String::new(), address: String::new(), staying: Vec::new() }
    }

    fn command(&self, block: &Block) -> Command {
        let mut command = Command::new("bash");
        let path = format!("{}:{}", self.run.display(), std::env::var("PATH").unwrap());
        command.args(["-eu", "-o", "pipefail", "-c", &block.text]).env("PATH", path).env_remove("RUST_LOG");
        command.env("GUIDE_ROOT", root()).env("GUIDE_RUN", &self.run).env_remove("XDG_STATE_HOME");
        command.env("PIN", &self.pin).env("ADDRESS", &self.address).stdin(Stdio::null());
        command
    }

    /// Runs a block, and takes what the reader copies out of its output. Returns the output.
    fn run(&mut self, block: &Block) -> String {
        let words: Vec<&str> = block.info.split_whitespace().collect();
        let (client, mut command) = (self.hosts.at(0), self.command(block));
        if words.contains(&"stays") {
            let spawn = |command: Command| on(client, command, |mut command| command.spawn().unwrap());
            let mut running = Running::start(&self.run, "client", command, spawn);
            running.wait_for("connected to ");
            self.staying.push(running);
            return String::new();
        }
        let output: Output = match words[1] {
            "server" => command.output().unwrap(),
            "client" => on(client, command, |mut command| command.output().unwrap()),
            other => panic!("docs/operate.md:{}: no machine {other}", block.line),
        };
        let said = stdout(&output);
        let at = format!("docs/operate.md:{}:\n{}", block.line, block.text);
        assert!(output.status.success(), "{at}\n{}\n{said}{}", output.status, stderr(&output));
        if let Some(copied) = said.lines().last() {
            if copied.starts_with("sha256:") {
                copied.clone_into(&mut self.pin);
            } else if copied.starts_with("0x") && copied.len() == 66 {
                copied.clone_into(&mut self.address);
            }
        }
        said
    }
}

/// Ends what systemctl.sh has started, also after a failure.
impl Drop for Machines {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.run).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_pid = path.extension().is_some_and(|extension| extension == "pid");
            let number = fs::read_to_string(&path).ok().filter(|_| is_pid).and_then(|text| text.trim().parse().ok());
            if let Some(pid) = number.and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Runs a job with a command on a host.
fn on<T: Send + 'static>(host: &Host, command: Command, job: impl FnOnce(Command) -> T + Send + 'static) -> T {
    host.run(move || job(command))
}

fn default_route(gateway: Ipv4Addr) {
    Netlink::open().unwrap().add_route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), None).unwrap();
}

fn is_installed(tool: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(tool).exists())
}

#[test]
fn the_commands_of_the_guide_work() {
    const NAME: &str = "guide::the_commands_of_the_guide_work";
    if let Some(tool) = ["bash", "ping", "tar"].into_iter().find(|tool| !is_installed(tool)) {
        return skip(NAME, &format!("{tool} is not installed"));
    }
    in_namespace(NAME, || {
        let guide = document("docs/operate.md");
        let mut machines = Machines::new();
        let mut ran = 0;
        for block in guide.blocks.iter().filter(|block| block.info.starts_with("sh ")) {
            let said = machines.run(block);
            ran += 1;
            // What the guide says of the output.
            let has = |text: &str| assert!(said.contains(text), "docs/operate.md:{}: no {text:?}:\n{said}", block.line);
            match block.text.lines().next().unwrap_or_default() {
                first if first.starts_with("systemctl enable --now cellframe-vpn-server") => has("ready: "),
                first if first.starts_with("systemctl enable --now cellframe-vpn-client") => has("kill switch:up"),
                first if first.starts_with("cellframe-vpn check") => has("vpn.example.com:8079 answers: "),
                first if first.starts_with("cellframe-vpn status") => has("1 received"),
                first if first.starts_with("cellframe-vpn stat --url") => has("http://127.0.0.1:8078/?token="),
                first if first.starts_with("cellframe-vpn stat") => {
                    has("receipts...........1 signed of 1, 1 in the ledger")
                }
                first if first.starts_with("cellframe-vpn wallet balance") => has("10 CELL, and 0 locked"),
                _ => {}
            }
            if block.text.contains("cellframe-vpn reload") {
                has("limit_down");
            }
            if block.text.contains("tar -C / -xzf") {
                has("given out 20 CELL: held 19.6, earned 0.4, fees 0");
            }
        }
        assert!(ran >= 12, "{ran} blocks");
        for mut running in machines.staying.drain(..) {
            assert_eq!(running.exit_code(), Some(0), "{}", running.log());
        }
        // The guide leaves the server running.
        let server = fs::read_to_string(machines.run.join("cellframe-vpn-server.pid")).unwrap();
        let server = Pid::from_raw(server.trim().parse().unwrap()).unwrap();
        kill_process(server, Signal::TERM).unwrap();
        eventually("the server has ended", || !Path::new(&format!("/proc/{}", server.as_raw_nonzero())).exists());
        fs::remove_file(machines.run.join("cellframe-vpn-server.pid")).unwrap();
    });
}
