//! The ioctls of the TUN driver (linux/if_tun.h, Documentation/networking/tuntap.rst) as safe functions.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const NAME_LEN: usize = libc::IFNAMSIZ;

/// `struct ifreq` in the form of `TUNSETIFF`: a name and 16 bits of flags. `libc::ifreq` has a union there, which only
/// unsafe code can read, and it leaves bytes uninitialised that the kernel copies.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; NAME_LEN],
    flags: u16,
    rest: [u8; size_of::<libc::ifreq>() - NAME_LEN - 2],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());
const _: () = assert!(align_of::<InterfaceRequest>() >= align_of::<libc::ifreq>());

/// Attaches the driver's descriptor to the device `name`, or creates that device. Returns the device's name, in which
/// the kernel has replaced `%d` by a number.
///
/// # Errors
/// `InvalidInput` if the name is too long; otherwise the kernel's error: `EBUSY` if the name is taken, `EPERM` without
/// CAP_NET_ADMIN, `EINVAL` for an invalid name or a link that is not a TUN device.
pub(super) fn attach(driver: BorrowedFd<'_>, name: &str, flags: libc::c_int) -> io::Result<String> {
    let mut request = InterfaceRequest {
        name: [0; NAME_LEN],
        flags: flags as u16,
        rest: [0; size_of::<libc::ifreq>() - NAME_LEN - 2],
    };
    // The last byte remains the closing NUL.
    let field = request.name.get_mut(..name.len()).filter(|field| field.len() < NAME_LEN);
    field.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`; `request` is alive, exclusively borrowed, of that size and
    // alignment (asserted above), and any bytes are a valid value of it.
    let result = unsafe { libc::ioctl(driver.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    checked(result)?;
    let end = request.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
    let name = request.name.get(..end).unwrap_or_default();
    String::from_utf8(name.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The `IFF_` flags that the driver supports. The descriptor need not be attached.
pub(super) fn features(driver: BorrowedFd<'_>) -> io::Result<u32> {
    let mut flags: libc::c_uint = 0;
    // SAFETY: TUNGETFEATURES writes one unsigned int; `flags` is one, alive and exclusively borrowed.
    let result = unsafe { libc::ioctl(driver.as_raw_fd(), libc::TUNGETFEATURES, &raw mut flags) };
    checked(result)?;
    Ok(flags)
}

/// Sets the `TUN_F_` offloads of the whole device that the descriptor is attached to; 0 disables all.
pub(super) fn set_offload(queue: BorrowedFd<'_>, offloads: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of this process.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) };
    checked(result)
}

/// Makes the virtio_net_hdr of the queue's packets little-endian on any machine.
pub(super) fn set_vnet_little_endian(queue: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: TUNSETVNETLE reads one int; `on` is one, alive during the call.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETVNETLE, &raw const on) };
    checked(result)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_name_too_long_for_its_nul_is_refused() {
        let file = File::open("/dev/null").unwrap();
        for name in ["x".repeat(16), "x".repeat(17), "x".repeat(4096)] {
            assert_eq!(attach(file.as_fd(), &name, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(attach(file.as_fd(), &"x".repeat(15), 0).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn the_kernels_error_number_is_kept() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(features(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(set_offload(file.as_fd(), 0).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
