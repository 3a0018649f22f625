//! The TUN device: its creation, its queues, its address and MTU.
//!
//! [`Device::create`] makes a device that lives as long as the process wants it and hands out one [`Queue`] for each
//! worker. A queue's descriptor is non-blocking and goes into that worker's event loop; one read or write is one whole
//! IP packet without a link-layer header, or, with offload, a super-packet of up to 64 KiB: many segments of one flow
//! that whoever sends them on a wire cuts, as its [`VnetHeader`](vpn_core::wire::VnetHeader) says.
//!
//! Who does what:
//! - Queues are attached here, with the ioctls of the kernel's tuntap.rst: the crate `tun` makes one queue of a device,
//!   and none with offload. It makes the bare device of [`open_plain`].
//! - Address, MTU and "up" are set through [`crate::netlink`]: with the crate they would be ioctls that replace whatever
//!   address is there and cannot tell what failed.

mod device;
mod ioctl;
mod queue;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

pub use device::Device;
pub use queue::Queue;

use crate::netlink::NetlinkError;

/// The most queues one device takes (`MAX_TAP_QUEUES` of the kernel).
pub const MAX_QUEUES: usize = 256;

/// The smallest MTU that IPv4 allows (RFC 791), in bytes; the kernel refuses less on any link. The largest is 65535.
pub const MIN_MTU: u16 = 68;

/// What a device is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The name, 1 to 15 bytes; `None` lets the kernel pick the first free `tunN`. A name with `%d` in it is a pattern
    /// whose number the kernel picks.
    pub name: Option<String>,
    /// How many queues, 1 to [`MAX_QUEUES`].
    pub queues: usize,
    /// The host's own address in the tunnel.
    pub addr: Ipv4Addr,
    /// The length of the prefix of the tunnel's subnet, which is routed into the device.
    pub prefix: u8,
    /// The largest IP packet in bytes, [`MIN_MTU`] or more.
    pub mtu: u16,
    /// How many packets wait in each queue for the reader; `None` is the kernel's default of 500.
    pub txqlen: Option<u32>,
    /// Super-packets and packets without checksum pass, as far as the kernel can: [`Queue::has_offload`] says it.
    pub offload: bool,
}

/// Why there is no device.
#[derive(thiserror::Error, Debug)]
pub enum TunError {
    /// The TUN driver is not there or not ours to use.
    #[error(
        "open /dev/net/tun: {0} (a VPN needs the kernel module `tun` and, as root or with CAP_NET_ADMIN, access to \
         /dev/net/tun; in a container, pass that device in)"
    )]
    Open(#[source] io::Error),
    /// The driver refused to make the device.
    #[error("create TUN device {name}: {source}{}", privilege_hint(.source))]
    Create {
        /// The name that was asked for, or the pattern.
        name: String,
        /// `AlreadyExists` when a link has that name, `PermissionDenied` without CAP_NET_ADMIN.
        source: io::Error,
    },
    /// No queue at all, or more than the kernel takes.
    #[error("a TUN device has 1 to {MAX_QUEUES} queues, not {0}")]
    TooManyQueues(usize),
    /// Below the smallest MTU of IPv4.
    #[error("an MTU is {MIN_MTU} to 65535 bytes, not {0}")]
    BadMtu(u16),
    /// The device was made, but its configuration failed; it is removed again.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The kernel's TUN driver lacks multiple queues (Linux before 3.8).
    #[error("this kernel's TUN driver has no multiple queues")]
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
            TunError::Netlink(error) => error.errno().unwrap_or(libc::EIO),
            TunError::NotSupported => libc::ENOTSUP,
        }
    }
}

/// A bare device of one queue, down and without an address: its descriptor, which blocks, and its name.
///
/// The device is gone when the descriptor is closed.
pub fn open_plain(name: Option<&str>) -> Result<(OwnedFd, String), TunError> {
    queue::open_plain(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_needed() {
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
