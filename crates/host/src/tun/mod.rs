//! The TUN device: its creation, its queues, its address and MTU.
//!
//! [`Device::create`] creates a device that exists until it is dropped, and returns one [`Queue`] per worker. A queue's
//! descriptor is non-blocking and belongs in that worker's event loop. One read or write is one whole IP packet without
//! a link-layer header or, with offload, a super-packet of up to 64 KiB: many segments of one flow, which the sender
//! onto a wire cuts as its [`VnetHeader`](vpn_core::wire::VnetHeader) says.
//!
//! Division of work:
//! - This module attaches queues, with the ioctls of the kernel's tuntap.rst: the crate `tun` attaches one queue per
//!   device, without offload. It makes the bare device of [`open_plain`].
//! - [`crate::netlink`] sets address, MTU and "up". The crate would use ioctls that replace any existing address and
//!   cannot report which step failed.

mod device;
mod ioctl;
mod queue;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

pub use device::{Device, DeviceState};
pub use queue::Queue;

use crate::netlink::NetlinkError;

/// The largest number of queues per device (`MAX_TAP_QUEUES` of the kernel).
pub const MAX_QUEUES: usize = 256;

/// The smallest MTU that IPv4 allows (RFC 791), in bytes; the kernel refuses less on any link. The largest is 65535.
pub const MIN_MTU: u16 = 68;

/// The properties of a new device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The name, 1 to 15 bytes; `None` lets the kernel choose the first free `tunN`. In a name with `%d` the kernel
    /// replaces that by a number.
    pub name: Option<String>,
    /// The number of queues, 1 to [`MAX_QUEUES`].
    pub queues: usize,
    /// The host's own address in the tunnel.
    pub addr: Ipv4Addr,
    /// The prefix length of the tunnel's subnet, which is routed to the device.
    pub prefix: u8,
    /// The largest IP packet in bytes, [`MIN_MTU`] or more.
    pub mtu: u16,
    /// The capacity of each queue in packets; `None` is the kernel's default of 500.
    pub txqlen: Option<u32>,
    /// Whether super-packets and packets without a checksum may pass, if the kernel supports it: see
    /// [`Queue::has_offload`].
    pub offload: bool,
}

/// Why a device could not be created.
#[derive(thiserror::Error, Debug)]
pub enum TunError {
    /// The TUN driver is missing or access is denied.
    #[error(
        "open /dev/net/tun: {0} (a VPN needs the kernel module `tun` and, as root or with CAP_NET_ADMIN, access to \
         /dev/net/tun; in a container, pass that device in)"
    )]
    Open(#[source] io::Error),
    /// The driver refused to create the device.
    #[error("create TUN device {name}: {source}{}", privilege_hint(.source))]
    Create {
        /// The requested name or pattern.
        name: String,
        /// `AlreadyExists` if a link has that name, `PermissionDenied` without CAP_NET_ADMIN.
        source: io::Error,
    },
    /// No queue, or more than the kernel supports.
    #[error("a TUN device has 1 to {MAX_QUEUES} queues, not {0}")]
    TooManyQueues(usize),
    /// Below the smallest MTU of IPv4.
    #[error("an MTU is {MIN_MTU} to 65535 bytes, not {0}")]
    BadMtu(u16),
    /// The device was created and removed again, because its configuration failed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The device was set down for its new name and cannot be set up again.
    #[error("the device stays down: {0}")]
    Down(#[source] NetlinkError),
    /// The kernel's TUN driver does not support multiple queues (Linux before 3.8).
    #[error("this kernel's TUN driver does not support multiple queues")]
    NotSupported,
}

fn privilege_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (it needs root or CAP_NET_ADMIN)",
        _ => "",
    }
}

impl TunError {
    /// The error as an errno, for C.
    pub fn errno(&self) -> i32 {
        let of = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        match self {
            TunError::Create { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => libc::EEXIST,
            TunError::Open(source) | TunError::Create { source, .. } => of(source),
            TunError::TooManyQueues(_) | TunError::BadMtu(_) => libc::EINVAL,
            TunError::Netlink(error) | TunError::Down(error) => error.errno().unwrap_or(libc::EIO),
            TunError::NotSupported => libc::ENOTSUP,
        }
    }
}

/// What the kernel's TUN driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Devices with several queues (Linux 3.8).
    pub has_queues: bool,
    /// Super-packets, by a header in front of each packet.
    pub has_offload: bool,
}

/// Opens the driver, /dev/net/tun, and returns what it can do. Creates no device, and needs no more than the right to open
/// the file.
///
/// # Errors
/// The kernel's: `NotFound` without the file, `PermissionDenied` for another user's, `ENODEV` without a driver behind it.
pub fn driver() -> io::Result<Driver> {
    queue::driver()
}

/// A bare device with one queue, down and without an address. Returns its blocking descriptor and its name.
///
/// The kernel removes the device when the descriptor is closed.
pub fn open_plain(name: Option<&str>) -> Result<(OwnedFd, String), TunError> {
    queue::open_plain(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_is_missing() {
        let denied = || io::Error::from_raw_os_error(libc::EPERM);
        let create = TunError::Create { name: "tun0".into(), source: denied() }.to_string();
        assert!(create.starts_with("create TUN device tun0: Operation not permitted"), "{create}");
        assert!(create.ends_with("(it needs root or CAP_NET_ADMIN)"), "{create}");
        let open = TunError::Open(denied()).to_string();
        assert!(open.contains("module `tun`") && open.contains("CAP_NET_ADMIN"), "{open}");
        assert_eq!(TunError::TooManyQueues(0).to_string(), "a TUN device has 1 to 256 queues, not 0");
        assert_eq!(TunError::BadMtu(67).to_string(), "an MTU is 68 to 65535 bytes, not 67");
    }
}
