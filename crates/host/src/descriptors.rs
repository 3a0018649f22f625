//! Descriptors 0 to 2 belong to the host program.
//!
//! A program may run without them, or close them at any time: the next descriptor that the kernel hands out is then one
//! of them, and whatever the program writes to its stderr would go into a store, a tunnel or a peer's stream.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

/// The lowest descriptor that may be the library's.
const LOWEST: i32 = 3;

/// Moves a new descriptor above 2 if it is not there already.
///
/// # Errors
/// `EMFILE`; the descriptor is then closed.
pub fn above_stdio<T: From<OwnedFd>>(new: impl Into<OwnedFd>) -> Result<T, Errno> {
    let new = new.into();
    if new.as_raw_fd() >= LOWEST {
        return Ok(new.into());
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&new, LOWEST)?.into())
}

/// Calls `open` until its result is above 2: for a type that owns its descriptor for good.
///
/// # Errors
/// That of `open`.
pub fn open_above_stdio<T: AsRawFd, E>(mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut below = Vec::new();
    loop {
        let opened = open()?;
        if opened.as_raw_fd() >= LOWEST {
            return Ok(opened);
        }
        // Kept meanwhile, so that the next one is another.
        below.push(opened);
    }
}
