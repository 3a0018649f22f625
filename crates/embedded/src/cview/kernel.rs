//! What the kernel keeps for a connection.

use libc::{SK_MEMINFO_WMEM_QUEUED, SO_MEMINFO, SOL_SOCKET, socklen_t};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// The number of values that are read: up to [`SK_MEMINFO_WMEM_QUEUED`], the last one needed.
const VALUES: usize = SK_MEMINFO_WMEM_QUEUED as usize + 1;

/// Returns the memory of what a TCP connection's peer has not acknowledged yet, in bytes, with the kernel's own
/// overhead; 0 if the kernel does not say.
pub(crate) fn send_queue(io: &TcpStream) -> usize {
    let mut values = [0_u32; VALUES];
    let mut size = size_of_val(&values) as socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `size` bytes, which `values` has.
    let result =
        unsafe { libc::getsockopt(io.as_raw_fd(), SOL_SOCKET, SO_MEMINFO, values.as_mut_ptr().cast(), &raw mut size) };
    let is_complete = result == 0 && size as usize == size_of_val(&values);
    if is_complete { values[VALUES - 1] as usize } else { 0 }
}
