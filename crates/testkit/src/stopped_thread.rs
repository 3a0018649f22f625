//! Stops one thread of another process, as if it hung, while the others run (ptrace(2)).

use std::fs;
use std::io;
use std::ptr;

/// Returns the number of the thread of a process that has this name.
pub fn thread_of(pid: u32, name: &str) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap());
    let has_name =
        |entry: &fs::DirEntry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
    tasks.into_iter().find(has_name).and_then(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Runs `body` while the thread, of a process that this one has started, does not run.
///
/// # Errors
/// If the kernel does not let this process stop it.
pub fn while_stopped<T>(thread: i32, body: impl FnOnce() -> T) -> io::Result<T> {
    trace(libc::PTRACE_SEIZE, thread)?;
    trace(libc::PTRACE_INTERRUPT, thread)?;
    let mut status = 0;
    // SAFETY: the status lives through the call.
    #[allow(unsafe_code)]
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    assert_eq!(waited, thread, "{}", io::Error::last_os_error());
    let result = body();
    trace(libc::PTRACE_DETACH, thread)?;
    Ok(result)
}

#[allow(unsafe_code)]
fn trace(request: libc::c_uint, thread: i32) -> io::Result<()> {
    // SAFETY: these requests take no memory: address and data are 0.
    let result =
        unsafe { libc::ptrace(request, thread, ptr::null_mut::<libc::c_void>(), ptr::null_mut::<libc::c_void>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
