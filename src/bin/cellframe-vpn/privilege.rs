//! The privileges that a TUN device needs. Commands check them first, so that the user gets one sentence instead of an
//! error code from a lower layer.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use rustix::thread::CapabilitySet;

use crate::exit::{Code, Failure};

const TUN: &str = "/dev/net/tun";

/// Fails with exit code 6 unless `/dev/net/tun` can be opened.
pub(crate) fn require_tun() -> Result<(), Failure> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(TUN) else { return Ok(()) };
    let message = match error.kind() {
        ErrorKind::NotFound => format!(
            "{TUN} is missing: load the kernel module (`modprobe tun`), or give the container the device \
             (`--device {TUN}`)"
        ),
        ErrorKind::PermissionDenied => format!("this user may not open {TUN}: run as root, or `chmod 0666` it"),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            format!("{TUN} has no driver: load the kernel module (`modprobe tun`)")
        }
        _ => format!("{TUN} cannot be opened: {error}"),
    };
    Err(Failure::new(Code::Privilege, message))
}

/// Fails with exit code 6 unless this process may create network devices.
pub(crate) fn require_network_admin() -> Result<(), Failure> {
    let allowed =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
    if allowed {
        return Ok(());
    }
    Err(Failure::new(
        Code::Privilege,
        "creating a network device needs the capability CAP_NET_ADMIN: run as root (`sudo`), give the container \
         `--cap-add NET_ADMIN`, or try `cellframe-vpn demo`, which needs no privileges",
    ))
}
