//! A bounded number of threads, one for each connection, with a stop that waits for them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::deadline::Connection;
use super::{panics, threads};

/// The threads of one server.
pub(crate) struct ConnectionThreads {
    /// The threads' name, at most 15 bytes.
    name: &'static str,
    limit: usize,
    members: Mutex<Members>,
    left: Condvar,
}

/// Why a connection gets no thread.
#[derive(Debug)]
pub(crate) enum Refused {
    /// All threads are busy, or [`ConnectionThreads::stop`] was called.
    Full,
    Io(io::Error),
}

#[derive(Default)]
struct Members {
    at_work: BTreeMap<u64, Member>,
    /// Threads that have only to return; the next `start`, or `stop`, joins them.
    ended: Vec<JoinHandle<()>>,
    next_id: u64,
    stopped: bool,
}

struct Member {
    thread: JoinHandle<()>,
    connection: Arc<dyn Connection>,
}

impl ConnectionThreads {
    pub(crate) fn new(name: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self { name, limit, members: Mutex::default(), left: Condvar::new() })
    }

    /// Starts `work` for the connection on a separate thread, unless all threads are busy.
    pub(crate) fn start<C: Connection>(
        self: &Arc<Self>,
        connection: &Arc<C>,
        work: impl FnOnce(&C) + Send + 'static,
    ) -> Result<(), Refused> {
        let mut members = self.members.lock();
        join(&mut members.ended);
        if members.stopped || members.at_work.len() >= self.limit {
            return Err(Refused::Full);
        }
        let id = members.next_id;
        members.next_id += 1;
        let (pool, its_connection) = (Arc::clone(self), Arc::clone(connection));
        // The lock is held until the member is in the table, so that `remove` finds it there.
        let thread = threads::spawn(self.name, move || {
            if let Err(panic) = panics::catch(|| work(&its_connection)) {
                log::error!("{}: internal error, the connection is closed: {panic}", pool.name);
            }
            drop(its_connection);
            pool.remove(id);
        });
        let thread = thread.map_err(Refused::Io)?;
        members.at_work.insert(id, Member { thread, connection: connection.clone() });
        Ok(())
    }

    /// Shuts down the peers' sending and waits until all threads have ended, at most `timeout`, except for the calling
    /// thread. Until [`Self::reopen`] no thread can start.
    pub(crate) fn stop(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let own = thread::current().id();
        let mut members = self.members.lock();
        members.stopped = true;
        members.at_work.values().for_each(|member| member.connection.hang_up());
        loop {
            let busy = members.at_work.values().filter(|member| member.thread.thread().id() != own).count();
            if busy == 0 {
                break;
            }
            if self.left.wait_until(&mut members, deadline).timed_out() {
                log::warn!(
                    "{}: {busy} threads are still busy after {timeout:?}; the stop continues without them",
                    self.name
                );
                break;
            }
        }
        join(&mut members.ended);
    }

    pub(crate) fn reopen(&self) {
        self.members.lock().stopped = false;
    }

    fn remove(&self, id: u64) {
        let mut members = self.members.lock();
        if let Some(member) = members.at_work.remove(&id) {
            members.ended.push(member.thread);
        }
        drop(members);
        self.left.notify_all();
    }
}

/// Called under the lock: a thread that has ended does not take it again.
fn join(ended: &mut Vec<JoinHandle<()>>) {
    for thread in ended.drain(..) {
        // The thread caught its panics.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn connection() -> (Arc<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Arc::new(ours), theirs)
    }

    #[test]
    fn bounded_and_stopped() {
        static ENDED: AtomicUsize = AtomicUsize::new(0);
        let pool = ConnectionThreads::new("test-pool", 2);
        let (ours, _theirs) = connection();
        let work = |mut connection: &UnixStream| {
            assert_eq!(connection.read(&mut [0]).unwrap(), 0);
            ENDED.fetch_add(1, Ordering::Relaxed);
        };
        pool.start(&ours, move |connection| work(connection)).unwrap();
        pool.start(&ours, move |connection| work(connection)).unwrap();
        assert!(matches!(pool.start(&ours, |_| ()), Err(Refused::Full)));
        pool.stop(Duration::from_secs(10));
        assert_eq!((ENDED.load(Ordering::Relaxed), Arc::strong_count(&ours)), (2, 1));
        assert!(matches!(pool.start(&ours, |_| ()), Err(Refused::Full)));
        pool.reopen();
        pool.start(&ours, |_| panic!("on purpose")).unwrap();
        pool.stop(Duration::from_secs(10));
        assert_eq!(Arc::strong_count(&ours), 1);
    }

    #[test]
    fn a_member_may_stop_its_own_pool() {
        let pool = ConnectionThreads::new("test-pool", 2);
        let (ours, _theirs) = connection();
        let (inner, (done, is_done)) = (pool.clone(), std::sync::mpsc::channel());
        pool.start(&ours, move |_| {
            inner.stop(Duration::from_secs(60));
            done.send(()).unwrap();
        })
        .unwrap();
        is_done.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn the_wait_for_a_busy_member_is_bounded() {
        let pool = ConnectionThreads::new("test-pool", 1);
        let (ours, _theirs) = connection();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        pool.start(&ours, move |_| assert!(wait.recv().is_err())).unwrap();
        let start = Instant::now();
        pool.stop(Duration::from_millis(50));
        assert!(start.elapsed() >= Duration::from_millis(50));
        drop(end);
        pool.stop(Duration::from_secs(10));
        assert!(pool.members.lock().at_work.is_empty());
    }
}
