//! One queue of a TUN device: attaching, reading and writing.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use ::tun::{AbstractDevice, Layer};

use super::{TunError, ioctl};
use crate::descriptors::above_stdio;
use vpn_core::wire::{BUNDLE_HEADROOM, VNET_LEN, VnetHeader};

/// The kernel's default name pattern.
const ANY_NAME: &str = "tun%d";

/// Sets of offloads, the best first; the first one that the kernel supports is used. USO needs Linux 6.2.
const OFFLOADS: [(libc::c_uint, &str); 3] = [
    (CHECKSUM_AND_TSO | libc::TUN_F_USO4 | libc::TUN_F_USO6, "TCP and UDP"),
    (CHECKSUM_AND_TSO, "TCP"),
    (libc::TUN_F_CSUM, "checksums alone"),
];
const CHECKSUM_AND_TSO: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;

/// One queue of a TUN device: a non-blocking, close-on-exec descriptor, closed on drop.
///
/// The kernel keeps the packets of a flow on one queue, and moves the flow to the queue that last sent for it. `Send`
/// and `Sync`: each call moves one whole packet, so calls from several threads do not mix.
#[derive(Debug)]
pub struct Queue {
    file: File,
    has_header: bool,
    /// Whether the kernel cuts UDP super-packets.
    has_uso: bool,
}

impl Queue {
    /// Reads one whole IP packet or super-packet with its [`VnetHeader`] in front, and returns the length of both;
    /// `Ok(None)` if the queue is empty.
    ///
    /// The kernel silently truncates packets that exceed `buf`: [`VNET_LEN`] and 65535 bytes always suffice.
    ///
    /// # Errors
    /// `EBADFD` once the device is removed; the queue is then useless.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let offset = if self.has_header { 0 } else { VNET_LEN };
        let space = buf.get_mut(offset..).ok_or(ErrorKind::InvalidInput)?;
        let length = loop {
            match (&self.file).read(space) {
                Ok(length) => break offset + length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        if let Some(missing) = buf.get_mut(..offset) {
            missing.fill(0);
        }
        Ok(Some(length))
    }

    /// Passes one whole IP packet to the host's network stack, as if it had arrived from the network. With
    /// [`Queue::has_offload`], it may be a super-packet or lack its checksum; `header` describes that.
    ///
    /// # Errors
    /// `EINVAL` for bytes that are not an IP packet or a header that does not fit, `EIO` while the device is down,
    /// `EBADFD` once it is removed, `WouldBlock` or `ENOMEM` if the kernel's buffers are full, `Unsupported` for a
    /// header that this queue cannot pass on. In each case the packet is lost, as on any link.
    pub fn send(&self, header: &VnetHeader, packet: &[u8]) -> io::Result<()> {
        if !self.has_header && *header != VnetHeader::default() {
            return Err(ErrorKind::Unsupported.into());
        }
        let bytes = header.to_bytes();
        let parts = [IoSlice::new(&bytes), IoSlice::new(packet)];
        loop {
            let written = match self.has_header {
                true => (&self.file).write_vectored(&parts),
                false => (&self.file).write(packet),
            };
            match written {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result.map(|_| ()),
            }
        }
    }

    /// Whether super-packets and packets without a checksum pass, in both directions.
    pub fn has_offload(&self) -> bool {
        self.has_header
    }

    /// Whether UDP super-packets pass too.
    pub fn has_uso(&self) -> bool {
        self.has_uso
    }

    /// Prepares a packet that the caller has read from the descriptor, with [`BUNDLE_HEADROOM`] bytes of headroom in
    /// offset, to become the first record of a bundle. Returns the memory of that bundle, and the length of header and
    /// packet in its spare capacity. `None` if `read` holds no packet.
    pub fn lend<'a>(&self, read: &'a mut [u8]) -> Option<(&'a mut [u8], usize)> {
        let length = read.len().checked_sub(BUNDLE_HEADROOM).filter(|length| *length > 0)?;
        if self.has_header {
            return Some((read.get_mut(VNET_LEN..)?, length));
        }
        read.get_mut(BUNDLE_HEADROOM - VNET_LEN..BUNDLE_HEADROOM)?.fill(0);
        Some((read, VNET_LEN + length))
    }

    /// Makes this queue the one of another device, in place of a device that is gone. The number of the descriptor stays,
    /// so that other threads may read and write meanwhile: each call reaches one device or the other. No event loop may
    /// have the descriptor, because it would go on to wait for the old device.
    ///
    /// # Errors
    /// `Unsupported` if the two devices differ in their offloads; this queue is then as it was.
    pub fn replace(&self, by: Queue) -> io::Result<()> {
        if (by.has_header, by.has_uso) != (self.has_header, self.has_uso) {
            return Err(ErrorKind::Unsupported.into());
        }
        loop {
            // SAFETY: two numbers of open descriptors, each owned by the file of its queue. The call closes what
            // `self.file` had and puts a duplicate of `by.file` in its place in one step, so that `self.file` owns an
            // open descriptor throughout.
            let result = unsafe { libc::dup3(by.file.as_raw_fd(), self.file.as_raw_fd(), libc::O_CLOEXEC) };
            if result >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // Busy: another thread is opening a descriptor of that number, says dup(2).
            if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) {
                return Err(error);
            }
        }
    }

    /// Opens the driver; the descriptor is not attached to a device yet.
    fn open() -> Result<Queue, TunError> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
        let file = file.and_then(|file| Ok(above_stdio::<File>(file)?)).map_err(TunError::Open)?;
        Ok(Queue { file, has_header: false, has_uso: false })
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

/// Opens the driver without a device, and asks what it can.
pub(super) fn driver() -> io::Result<super::Driver> {
    let queue = Queue::open().map_err(|error| match error {
        TunError::Open(source) => source,
        other => io::Error::other(other),
    })?;
    let features = ioctl::features(queue.as_fd())?;
    let has = |flag: libc::c_int| features & flag as u32 != 0;
    Ok(super::Driver { has_queues: has(libc::IFF_MULTI_QUEUE), has_offload: has(libc::IFF_VNET_HDR) })
}

/// Attaches `count` queues of a new device; returns its name and the queues. The device is down and has no address. If
/// the kernel has no offload, the queues are plain.
pub(super) fn attach(name: &Option<String>, count: usize, offload: bool) -> Result<(String, Vec<Queue>), TunError> {
    let asked = name.as_deref().unwrap_or(ANY_NAME);
    let first = Queue::open()?;
    let features = ioctl::features(first.as_fd()).map_err(|source| create_error(asked, source))?;
    let has = |flag: libc::c_int| features & flag as u32 != 0;
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
    if count > 1 {
        if !has(libc::IFF_MULTI_QUEUE) {
            return Err(TunError::NotSupported);
        }
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let has_header = offload && has(libc::IFF_VNET_HDR);
    if has_header {
        flags |= libc::IFF_VNET_HDR;
    }
    // The first queue creates the device and fails if the name is taken; the others join.
    let created = ioctl::attach(first.as_fd(), asked, flags | libc::IFF_TUN_EXCL);
    let name = created.map_err(|source| create_error(asked, source))?;
    let mut queues = Vec::with_capacity(count);
    queues.push(Queue { has_header, ..first });
    while queues.len() < count {
        let queue = Queue::open()?;
        ioctl::attach(queue.as_fd(), &name, flags).map_err(|source| create_error(&name, source))?;
        queues.push(Queue { has_header, ..queue });
    }
    let has_uso = set_offload(&name, &queues, offload).map_err(|source| create_error(&name, source))?;
    queues.iter_mut().for_each(|queue| queue.has_uso = has_uso);
    Ok((name, queues))
}

/// Offloads belong to the device, the byte order of a header to each queue. Returns true if the kernel supports all
/// offloads.
fn set_offload(name: &str, queues: &[Queue], wanted: bool) -> io::Result<bool> {
    let Some(first) = queues.first() else { return Ok(false) };
    if !first.has_header {
        if wanted {
            log::info!("TUN device {name}: the kernel's driver has no offload; packets pass singly");
        }
        return ioctl::set_offload(first.as_fd(), 0).map(|()| false);
    }
    for queue in queues {
        ioctl::set_vnet_little_endian(queue.as_fd())?;
    }
    let set = OFFLOADS.iter().position(|(offloads, _)| ioctl::set_offload(first.as_fd(), *offloads).is_ok());
    match set.and_then(|set| OFFLOADS.get(set)) {
        Some((_, what)) => log::debug!("TUN device {name}: offload of {what}"),
        None => {
            log::info!("TUN device {name}: the kernel refuses every offload; the host's packets arrive singly");
            ioctl::set_offload(first.as_fd(), 0)?;
        }
    }
    Ok(set == Some(0))
}

/// Opens a bare device with one queue and no offload by the crate `tun`. `ensure_root_privileges(false)` is the crate's
/// switch for "attach, configure nothing".
pub(super) fn open_plain(name: Option<&str>) -> Result<(OwnedFd, String), TunError> {
    let asked = name.unwrap_or(ANY_NAME);
    let failed = |error: ::tun::Error| create_error(asked, error.into());
    let mut config = ::tun::configure();
    config.layer(Layer::L3).tun_name(asked);
    config.platform_config(|platform| {
        platform.ensure_root_privileges(false);
    });
    let device = ::tun::create(&config).map_err(failed)?;
    let name = device.tun_name().map_err(failed)?;
    let raw = device.into_raw_fd();
    // SAFETY: `into_raw_fd` gave up the device's ownership of this open descriptor, and nothing else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    // Offloads belong to the device. A plain queue has no header to describe a packet that needs one.
    ioctl::set_offload(fd.as_fd(), 0).map_err(|source| create_error(&name, source))?;
    Ok((above_stdio(fd).map_err(|error| create_error(&name, error.into()))?, name))
}

/// The driver reports a taken name as "busy".
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
