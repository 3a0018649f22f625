//! Whether the host's clock is kept right, as the kernel knows it from the program that sets it (adjtimex(2)).
#![allow(unsafe_code)]

use std::io;

/// What the kernel knows of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// A program such as chronyd, ntpd or systemd-timesyncd keeps it right.
    pub is_synchronised: bool,
    /// By how much it may be wrong, in microseconds, as that program has told the kernel.
    pub error_us: u64,
}

/// Asks the kernel. Changes nothing, and needs no privilege.
///
/// # Errors
/// If a sandbox forbids the question.
pub fn kept() -> io::Result<Kept> {
    let mut question = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: adjtimex reads and writes one `struct timex`; this one is alive and exclusively borrowed. `modes` is 0, so
    // that the kernel sets nothing.
    let state = unsafe { libc::adjtimex(question.as_mut_ptr()) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made of zeros, which is a value of a struct of integers; the kernel has written over it.
    let answer = unsafe { question.assume_init() };
    let is_synchronised = answer.status & libc::STA_UNSYNC == 0 && state != TIME_ERROR;
    Ok(Kept { is_synchronised, error_us: u64::try_from(answer.maxerror).unwrap_or(0) })
}

/// The clock is not synchronised (linux/timex.h).
const TIME_ERROR: libc::c_int = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_every_user() {
        assert_eq!(kept().unwrap().is_synchronised, kept().unwrap().is_synchronised);
    }
}
