//! The kernel, this process's rights, and what ended runs have left.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use host::dns::resolv_conf::Place;
use host::{clock, nft, tun};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket, sockopt};

use crate::doctor::facts::{Clock, Machine};
use crate::privilege::{self, TunProblem};

pub(super) fn machine() -> Machine {
    Machine {
        is_root: rustix::process::geteuid().is_root(),
        has_net_admin: privilege::has_network_admin(),
        container: container(),
        tun: tun::driver().map_err(TunProblem::from),
        nf_tables: nft::kill_switch::check().map_err(|error| error.to_string()),
        bbr: bbr().map_err(|error| error.to_string()),
        sysctls_are_read_only: statvfs("/proc/sys/net").is_ok_and(|at| at.f_flag.contains(StatVfsMountFlags::RDONLY)),
        clock: Clock { now: seconds(SystemTime::now()), passed: passed(), kept: clock::kept().ok() },
        tables: nft::own_tables().map_err(|error| error.to_string()),
        resolv_conf: Place::of_host().left().map_err(|error| error.to_string()),
    }
}

/// Tries the congestion control on a socket of its own, as the service does.
fn bbr() -> Result<(), Errno> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_tcp_congestion(socket, "bbr")
}

/// Names what runs this machine as a container, by the marks that container managers leave (systemd's "Container
/// Interface", Docker, Podman).
fn container() -> Option<String> {
    let word = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if let Some(manager) = word("/run/systemd/container").filter(|manager| !manager.is_empty()) {
        return Some(manager);
    }
    for (file, manager) in [("/run/.containerenv", "podman"), ("/.dockerenv", "docker")] {
        if Path::new(file).exists() {
            return Some(manager.to_owned());
        }
    }
    let environment = fs::read("/proc/1/environ").unwrap_or_default();
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let manager = entry.strip_prefix(b"container=")?;
        Some(String::from_utf8_lossy(manager).into_owned())
    })
}

/// When the program's file was written: no clock can be before that.
fn passed() -> u64 {
    let written = std::env::current_exe().and_then(fs::metadata).and_then(|file| file.modified());
    written.map_or(0, seconds)
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
