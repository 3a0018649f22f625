//! Asks a server by `check`, in a process of its own: with a state directory that is removed afterwards, so that the
//! client of this machine trusts nobody whom it did not trust before.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use host::narrow_path;

use crate::args::DoctorOptions;
use crate::doctor::facts::{Answer, Asked};
use crate::exit::{Code, DOCTOR};
use crate::private_directory;
use crate::target::Target;

/// Test data that fits into one small packet, in bytes.
pub(super) const FEW: u32 = 16;
/// Test data that fills several packets of any path, in bytes.
const FULL_PACKETS: u32 = 10_240;
/// The seconds that one check may take.
const TIMEOUT: u32 = 10;

/// Asks a server twice: with little data, and with full packets, which a path may lose. The handshake takes one, too: a
/// server that accepts and says no more is asked again without full packets. The kernel then knows the path for a narrow
/// one, and forgets that ten minutes later.
pub(super) fn server(target: &Target, options: &DoctorOptions) -> Asked {
    let pin = options.pin.as_deref();
    let answer = once(target, pin, &options.net, FEW, options);
    let full = (answer.code == Code::Success).then(|| once(target, pin, &options.net, FULL_PACKETS, options));
    let address = (target.host.as_str(), target.port).to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.map(|address| address.ip()).filter(|ip| !ip.is_loopback());
    let path_mtu = address.and_then(|ip: IpAddr| narrow_path::mtu_to(ip).ok());
    let is_wide = path_mtu.is_some_and(|mtu| mtu > narrow_path::MTU.into());
    let silent = address.filter(|_| answer.code == Code::NoAnswer && is_wide);
    let narrow = silent.filter(|ip| narrow_path::narrow(*ip).is_ok());
    Asked {
        target: target.to_string(),
        path_mtu,
        narrow: narrow.map(|_| once(target, pin, &options.net, FEW, options)),
        answer,
        full,
        is_pinned: pin.is_some(),
    }
}

/// Runs `check` once, for this network.
pub(super) fn once(target: &Target, pin: Option<&str>, net: &str, bytes: u32, options: &DoctorOptions) -> Answer {
    let failed = |text: String| Answer { code: Code::Failure, text };
    let directory = match TemporaryDirectory::create() {
        Ok(directory) => directory,
        Err(error) => return failed(format!("no directory for the check can be made: {error}")),
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(format!("this program's file is not known: {error}")),
    };
    let mut command = Command::new(program);
    command.args(["check", &target.to_string(), "--net", net, "--timeout", &TIMEOUT.to_string()]);
    command.arg("--state-dir").arg(&directory.0).stdin(Stdio::null()).env("RUST_LOG", "off");
    if let Some(config) = &options.config {
        command.arg("--config").arg(config);
    }
    if let Some(pin) = pin {
        command.args(["--pin", pin]);
    }
    command.args(["--bytes", &bytes.to_string()]);
    match command.output() {
        Ok(output) => {
            let code = output.status.code().map_or(Code::Failure, |number| {
                if number == 0 { Code::Success } else { Code::from_number(u64::try_from(number).unwrap_or(1)) }
            });
            let said = if code == Code::Success { output.stdout } else { output.stderr };
            let said = String::from_utf8_lossy(&said);
            let line = said.trim().lines().last().unwrap_or_default();
            let line = line.strip_prefix("cellframe-vpn: ").unwrap_or(line);
            // It names this command.
            Answer { code, text: line.split(DOCTOR).next().unwrap_or(line).to_owned() }
        }
        Err(error) => failed(format!("the check cannot be started: {error}")),
    }
}

/// A private directory that is removed with this value.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn create() -> std::io::Result<TemporaryDirectory> {
        private_directory::create("cellframe-vpn-doctor-").map(TemporaryDirectory)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
