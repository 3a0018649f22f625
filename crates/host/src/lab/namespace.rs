//! Network namespaces: for the whole process, or for a thread that runs jobs in its namespace.
//!
//! A process leaves the host's network by unshare(2) on itself, before it starts a second thread: directly as root,
//! otherwise inside a user namespace in which it is root (user_namespaces(7)). A second process joins the user
//! namespace of the first: only there may it receive an end of the first one's cable.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, gettid};

use super::LabError;

/// The privileges that created a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// `CAP_SYS_ADMIN` on the host.
    Root,
    /// None: the namespace is inside a user namespace.
    UserNamespace,
}

/// Moves this process into a new network namespace. The process must have only one thread.
///
/// # Errors
/// [`LabError::NotPermitted`].
pub fn enter_new() -> Result<Privileges, LabError> {
    match unshare(UnshareFlags::NEWNET) {
        Ok(()) => return Ok(Privileges::Root),
        // Root in a container often lacks the capability; a user namespace may still work.
        Err(Errno::PERM) => {}
        Err(error) => return Err(no_network_namespace(error)),
    }
    let not_permitted = |source| LabError::NotPermitted { what: "an unprivileged user namespace", source };
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET).map_err(|error| not_permitted(error.into()))?;
    // Maps this user to root. An unprivileged process may write a group map only after "deny".
    fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {user} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {group} 1")))
        .map_err(not_permitted)?;
    Ok(Privileges::UserNamespace)
}

/// Like [`enter_new`], but in the user namespace of the process `pid`.
///
/// # Errors
/// [`LabError::Join`] or [`LabError::NotPermitted`].
pub fn enter_beside(pid: u32) -> Result<(), LabError> {
    join_user_namespace(pid).map_err(|source| LabError::Join { pid, source })?;
    enter_network()
}

/// Like [`enter_beside`], but into the network namespace that `thread`, one of the process `pid`, is in
/// ([`Namespace::thread`]).
///
/// # Errors
/// [`LabError::Join`].
pub fn enter_host_of(pid: u32, thread: u32) -> Result<(), LabError> {
    let join = || {
        join_user_namespace(pid)?;
        let namespace = fs::File::open(format!("/proc/{thread}/ns/net"))?;
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    };
    join().map_err(|source| LabError::Join { pid, source })
}

/// Moves only the calling thread into a new network namespace, which needs `CAP_SYS_ADMIN`. Threads and processes that
/// it starts later inherit the namespace.
///
/// # Errors
/// [`LabError::NotPermitted`].
pub fn enter_network() -> Result<(), LabError> {
    unshare(UnshareFlags::NEWNET).map_err(no_network_namespace)
}

fn join_user_namespace(pid: u32) -> io::Result<()> {
    let theirs = format!("/proc/{pid}/ns/user");
    // The kernel refuses to join a namespace twice.
    if fs::read_link(&theirs)? == fs::read_link("/proc/self/ns/user")? {
        return Ok(());
    }
    let namespace = fs::File::open(&theirs)?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    Ok(())
}

fn no_network_namespace(error: Errno) -> LabError {
    LabError::NotPermitted { what: "a network namespace", source: error.into() }
}

/// rustix deprecates its safe `unshare` because of the flag FILES, with which threads may see each other's descriptors.
/// This crate denies `unsafe` and passes only flags of namespaces.
#[allow(deprecated)]
pub(super) fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    rustix::thread::unshare(namespaces)
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace that a thread of this process holds. A clone is another handle to the same namespace. The thread
/// ends when the last handle is dropped; the namespace ends with the last process in it.
#[derive(Clone, Debug)]
pub struct Namespace {
    thread: u32,
    jobs: Sender<Job>,
}

impl Namespace {
    /// Creates a namespace, which needs `CAP_SYS_ADMIN`. It has only a loopback link, which is down.
    ///
    /// # Errors
    /// [`LabError::NotPermitted`] or [`LabError::Thread`].
    pub fn new() -> Result<Namespace, LabError> {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (entered, entry) = mpsc::channel();
        let hold = move || {
            let result = enter_network().map(|()| gettid().as_raw_nonzero().get().unsigned_abs());
            let is_inside = result.is_ok();
            if entered.send(result).is_ok() && is_inside {
                to_do.into_iter().for_each(|job| job());
            }
        };
        thread::Builder::new().name("namespace".into()).spawn(hold).map_err(LabError::Thread)?;
        let thread = entry.recv().expect("the thread reports before it ends")?;
        Ok(Namespace { thread, jobs })
    }

    /// The id of the thread that holds the namespace; the kernel finds the namespace by it.
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// Runs a job in this namespace. A socket that the job opens stays in this network on any thread, and a process
    /// that the job starts is in the namespace.
    ///
    /// # Panics
    /// If the job panics, which also ends the thread.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            // The caller waits for the job below.
            let _ = done.send(job());
        });
        self.jobs.send(job).expect("a job in this namespace has panicked before");
        result.recv().expect("the job in this namespace has panicked")
    }
}
