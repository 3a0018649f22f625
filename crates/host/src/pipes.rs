//! Writing into a pipe that may be closed, in a program that has not ignored SIGPIPE.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;

/// Calls `write`. A closed pipe is its error `EPIPE` alone, and not the end of the process by SIGPIPE.
///
/// # Errors
/// That of `write`, or of the change of the thread's signal mask.
pub fn without_sigpipe<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    let before = pipe.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    if before.contains(Signal::SIGPIPE) {
        return write();
    }
    let written = write();
    if written.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::EPIPE as i32)) {
        // It waits for this thread, which takes it before the mask opens again. Without a descriptor to read it from
        // the mask stays closed: a thread that ignores SIGPIPE is better than a process that dies of it.
        let taken = SignalFd::with_flags(&pipe, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .and_then(|descriptor| descriptor.read_signal());
        if taken.is_err() {
            return written;
        }
    }
    before.thread_set_mask()?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// In a process of its own, because the runtime of a Rust program ignores SIGPIPE, which the test has to undo.
    #[test]
    fn a_closed_pipe_is_an_error() {
        if std::env::var_os("IN_CHILD").is_some() {
            let (reader, mut writer) = io::pipe().unwrap();
            drop(reader);
            for _ in 0..3 {
                let error = without_sigpipe(|| writer.write_all(b"x")).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGPIPE));
            }
            return;
        }
        // The shell's trap gives the signal its default action again, which the exec keeps.
        let own = std::env::current_exe().unwrap();
        let test = "pipes::tests::a_closed_pipe_is_an_error";
        let output = Command::new("env")
            .arg("--default-signal=PIPE")
            .arg(own)
            .args([test, "--exact"])
            .env("IN_CHILD", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
