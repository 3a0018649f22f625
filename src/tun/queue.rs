//! One queue of a TUN device: how it is attached, and packets in and out.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use ::tun::{AbstractDevice, Layer};

use super::{TunError, ioctl};

/// The kernel's own pattern for a device without a given name.
const ANY_NAME: &str = "tun%d";

/// One queue of a TUN device: a non-blocking, close-on-exec descriptor, closed on drop.
///
/// The kernel keeps the packets of one flow on one queue, and moves a flow to the queue that last sent for it. `Send`
/// and `Sync`; each call moves one whole packet, so calls from several threads do not mix.
#[derive(Debug)]
pub struct Queue {
    file: File,
}

impl Queue {
    /// Reads one whole IP packet into `buf` and returns its length; `Ok(None)` when none is waiting.
    ///
    /// A packet longer than `buf` is cut to it without notice, so `buf` holds at least the device's MTU.
    ///
    /// # Errors
    /// `EBADFD` once the device is removed; the queue is then of no more use.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match (&self.file).read(buf) {
                Ok(length) => return Ok(Some(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands one whole IP packet to the host's network stack, as if it had arrived from the network; returns its
    /// length.
    ///
    /// # Errors
    /// `EINVAL` for bytes that are not an IP packet, `EIO` while the device is down, `EBADFD` once it is removed,
    /// `WouldBlock` or `ENOMEM` when the kernel has no room. The packet is lost in each case, as on any link.
    pub fn send(&self, packet: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.file).write(packet) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Opens the driver, without a device yet.
    fn open() -> Result<Queue, TunError> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
        Ok(Queue { file: file.map_err(TunError::Open)? })
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl From<Queue> for OwnedFd {
    /// Hands the descriptor on, for an event loop that closes it itself.
    fn from(queue: Queue) -> OwnedFd {
        queue.file.into()
    }
}

impl From<OwnedFd> for Queue {
    /// Takes an attached, non-blocking descriptor over.
    fn from(fd: OwnedFd) -> Queue {
        Queue { file: fd.into() }
    }
}

/// Attaches `count` queues of a new device; its name, and the queues. The device is down and has no address.
pub(super) fn attach(name: Option<&str>, count: usize) -> Result<(String, Vec<Queue>), TunError> {
    let first = Queue::open()?;
    let (name, queues) = match count {
        1 => {
            drop(first);
            let (name, queue) = attach_one(name)?;
            (name, vec![queue])
        }
        _ => attach_several(first, name.unwrap_or(ANY_NAME), count)?,
    };
    // Offloads belong to the device, and a plain queue passes no header that could describe a packet that needs them.
    if let Some(queue) = queues.first() {
        ioctl::set_offload(queue.as_fd(), 0).map_err(|source| create_error(&name, source))?;
    }
    Ok((name, queues))
}

/// A device of one queue, by the crate `tun`. `ensure_root_privileges(false)` is its switch for "attach, configure
/// nothing".
fn attach_one(name: Option<&str>) -> Result<(String, Queue), TunError> {
    let asked = name.unwrap_or(ANY_NAME);
    let failed = |error: ::tun::Error| create_error(asked, error.into());
    let mut config = ::tun::configure();
    config.layer(Layer::L3).tun_name(asked);
    config.platform_config(|platform| {
        platform.ensure_root_privileges(false);
    });
    let device = ::tun::create(&config).map_err(failed)?;
    device.set_nonblock().map_err(|source| create_error(asked, source))?;
    let name = device.tun_name().map_err(failed)?;
    let raw = device.into_raw_fd();
    // SAFETY: `into_raw_fd` gave up the device's ownership of this open descriptor, and nothing else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    Ok((name, fd.into()))
}

/// A device of several queues: the first creates it, which fails where the name is taken, the others join.
fn attach_several(first: Queue, name: &str, count: usize) -> Result<(String, Vec<Queue>), TunError> {
    let features = ioctl::features(first.as_fd()).map_err(|source| create_error(name, source))?;
    if features & libc::IFF_MULTI_QUEUE as u32 == 0 {
        return Err(TunError::NotSupported);
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE;
    let created = ioctl::attach(first.as_fd(), name, flags | libc::IFF_TUN_EXCL);
    let name = created.map_err(|source| create_error(name, source))?;
    let mut queues = Vec::with_capacity(count);
    queues.push(first);
    while queues.len() < count {
        let queue = Queue::open()?;
        ioctl::attach(queue.as_fd(), &name, flags).map_err(|source| create_error(&name, source))?;
        queues.push(queue);
    }
    Ok((name, queues))
}

/// What the driver says of a taken name is "busy".
fn create_error(name: &str, source: io::Error) -> TunError {
    match source.raw_os_error() {
        Some(libc::EBUSY) => already_exists(name),
        _ => TunError::Create { name: name.to_owned(), source },
    }
}

pub(super) fn already_exists(name: &str) -> TunError {
    let source = io::Error::new(io::ErrorKind::AlreadyExists, "a network link of this name exists");
    TunError::Create { name: name.to_owned(), source }
}
