//! The monitor's thread: it accepts, serves all connections in turn, and ends when it is woken.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use host::descriptors::above_stdio;
use host::threads;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::connection::{Connection, Next};
use super::site::Site;

/// Connections at once: one more takes the place of the one that is worth least, so that no number of silent ones keeps
/// the next out.
const PLACES: usize = 32;
/// Connections that are accepted before those that are there are looked at again.
const ACCEPTS: usize = 16;
/// The pause after a failure that does not go away by itself, such as the lack of descriptors.
const PAUSE: Duration = Duration::from_millis(200);
/// The thread's niceness: a flood of requests takes no time that a worker needs.
const NICE: i32 = 10;

/// A listening socket and its thread. Dropping it ends both.
pub(super) struct Listener {
    address: SocketAddr,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on the address, and serves `site` there.
    pub(super) fn start(address: SocketAddr, site: Site) -> io::Result<Listener> {
        let listener: TcpListener = above_stdio(TcpListener::bind(address)?)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let wake: OwnedFd = above_stdio(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?;
        let wake = Arc::new(wake);
        let thread = {
            let wake = Arc::clone(&wake);
            threads::spawn("vpn-monitor", move || Service { listener, places: Vec::new(), site }.run(&wake))?
        };
        Ok(Listener { address, wake, thread: Some(thread) })
    }

    /// Returns where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A full counter wakes as well.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the monitor's thread has panicked");
        }
    }
}

/// What the thread has.
struct Service {
    listener: TcpListener,
    places: Vec<Connection>,
    site: Site,
}

impl Service {
    fn run(mut self, wake: &OwnedFd) {
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
            log::debug!("the monitor's thread keeps its priority: {error}");
        }
        loop {
            let due = self.site.tick(Instant::now());
            let ready = match self.wait(wake, due) {
                Ok(Some(ready)) => ready,
                Ok(None) => return,
                Err(error) => {
                    host::log_bounded!(Warn, "monitor: cannot wait for connections: {error}");
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            self.serve(&ready.connections);
            if ready.newcomers {
                self.accept();
            }
        }
    }

    /// Waits until something is to do, `due` at the latest. `None` means the end.
    fn wait(&self, wake: &OwnedFd, due: Instant) -> io::Result<Option<Ready>> {
        let mut watched = vec![PollFd::new(wake, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        watched.extend(self.places.iter().map(|place| PollFd::new(place.stream(), place.interest())));
        let first = self.places.iter().map(Connection::deadline).fold(due, Instant::min);
        let timeout = Timespec::try_from(first.saturating_duration_since(Instant::now())).ok();
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<_> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        match ready.as_slice() {
            [true, ..] => Ok(None),
            [_, newcomers, connections @ ..] => {
                Ok(Some(Ready { newcomers: *newcomers, connections: connections.to_vec() }))
            }
            _ => Ok(None),
        }
    }

    /// Goes on with the connections that are ready, and ends those that are over.
    fn serve(&mut self, ready: &[bool]) {
        let now = Instant::now();
        let Service { places, site, .. } = self;
        let mut ready = ready.iter();
        places.retain_mut(|place| {
            let is_ready = ready.next().is_some_and(|ready| *ready);
            if is_ready && place.go_on(site, now) == Next::Close {
                return false;
            }
            let is_over = place.deadline() <= now;
            if is_over {
                place.expire();
            }
            !is_over
        });
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The peer has gone meanwhile.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
                Err(error) => {
                    host::log_bounded!(Warn, "monitor: cannot accept a connection: {error}");
                    return std::thread::sleep(PAUSE);
                }
            };
            let now = Instant::now();
            let newcomer = above_stdio(stream).map_err(io::Error::from).and_then(|stream| Connection::new(stream, now));
            let mut newcomer = match newcomer {
                Ok(newcomer) => newcomer,
                Err(error) => {
                    log::debug!("monitor: {error}");
                    continue;
                }
            };
            // The request is mostly there already.
            if newcomer.go_on(&mut self.site, now) == Next::Close {
                continue;
            }
            if self.places.len() >= PLACES {
                let least = self.places.iter().enumerate().min_by_key(|(_, place)| place.worth());
                if let Some((index, _)) = least {
                    self.places.swap_remove(index);
                }
            }
            self.places.push(newcomer);
        }
    }
}

/// What has something to do.
struct Ready {
    newcomers: bool,
    /// In the order of the places.
    connections: Vec<bool>,
}
