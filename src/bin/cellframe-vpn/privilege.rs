//! The privileges that a TUN device needs. Commands check them first, so that the user gets one sentence instead of an
//! error code from a lower layer.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};

use rustix::thread::CapabilitySet;

use crate::exit::{Code, Failure};

const TUN: &str = "/dev/net/tun";

/// Why the driver of TUN devices cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TunProblem {
    Missing,
    Denied,
    NoDriver,
    Other(String),
}

impl From<io::Error> for TunProblem {
    fn from(error: io::Error) -> TunProblem {
        match error.kind() {
            ErrorKind::NotFound => TunProblem::Missing,
            ErrorKind::PermissionDenied => TunProblem::Denied,
            _ if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => TunProblem::NoDriver,
            _ => TunProblem::Other(error.to_string()),
        }
    }
}

/// Fails with exit code 6 unless `/dev/net/tun` can be opened.
pub(crate) fn require_tun() -> Result<(), Failure> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(TUN) else { return Ok(()) };
    let message = match TunProblem::from(error) {
        TunProblem::Missing => format!(
            "{TUN} is missing: load the kernel module (`modprobe tun`), or give the container the device \
             (`--device {TUN}`)"
        ),
        TunProblem::Denied => format!("this user may not open {TUN}: run as root, or `chmod 0666` it"),
        TunProblem::NoDriver => format!("{TUN} has no driver: load the kernel module (`modprobe tun`)"),
        TunProblem::Other(error) => format!("{TUN} cannot be opened: {error}"),
    };
    Err(Failure::new(Code::Privilege, message))
}

/// Whether this process may change the network.
pub(crate) fn has_network_admin() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// Fails with exit code 6 unless this process may create network devices.
pub(crate) fn require_network_admin() -> Result<(), Failure> {
    if has_network_admin() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Privilege,
        "creating a network device needs the capability CAP_NET_ADMIN: run as root (`sudo`), give the container \
         `--cap-add NET_ADMIN`, or try `cellframe-vpn demo`, which needs no privileges",
    ))
}
