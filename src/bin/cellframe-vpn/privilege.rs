//! What the kernel must allow before a TUN device can be made. Asked for first, so that the answer is one sentence and
//! not a code from deep inside.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use rustix::thread::CapabilitySet;

use crate::exit::{Code, Failure};

const TUN: &str = "/dev/net/tun";

/// `Err` with exit code 6 unless `/dev/net/tun` can be opened.
pub(crate) fn require_tun() -> Result<(), Failure> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(TUN) else { return Ok(()) };
    let message = match error.kind() {
        ErrorKind::NotFound => format!(
            "{TUN} is missing: load the kernel module (`modprobe tun`), or give the container the device \
             (`--device {TUN}`)"
        ),
        ErrorKind::PermissionDenied => format!("{TUN} may not be opened by this user: run as root, or `chmod 0666` it"),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            format!("{TUN} has no driver behind it: load the kernel module (`modprobe tun`)")
        }
        _ => format!("{TUN} cannot be opened: {error}"),
    };
    Err(Failure::new(Code::Privilege, message))
}

/// `Err` with exit code 6 unless this process may make network devices.
pub(crate) fn require_network_admin() -> Result<(), Failure> {
    let allowed =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
    if allowed {
        return Ok(());
    }
    Err(Failure::new(
        Code::Privilege,
        "a network device needs the capability CAP_NET_ADMIN: run as root (`sudo`), give the container \
         `--cap-add NET_ADMIN`, or see it work without privileges with `cellframe-vpn demo`",
    ))
}
