//! The host's name servers while the tunnel is up: which ones ([`choice`]), from when the device is there until the client
//! is stopped. While the client connects again they stay. They are put back, too, when the process exits without a stop, as
//! a node does on a signal: without its device nobody answers.

mod choice;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::stops::Began;
use crate::sdk::{at_exit, worker};
pub(super) use choice::{Choice, EXPECTED};
use choice::{answers, goes_inside, has_internet, of_lease};
use host::dns::{self, NameServers};
use host::resolvers::resolvers;
use host::threads;
use vpn_core::exchange::Offer;
use vpn_core::lease::Subnet;

/// How often it is looked whether they are in force still.
const LOOK: Duration = Duration::from_millis(750);

/// How long the exit of the process waits until they are put back.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// Those that are in force.
static IN_FORCE: Mutex<Option<NameServers>> = Mutex::new(None);
/// The thread that looks after them. Dropping the sender ends it.
static WATCH: Mutex<Option<(Sender<()>, JoinHandle<()>)>> = Mutex::new(None);
/// The process exits: none are set any more.
static IS_EXITING: AtomicBool = AtomicBool::new(false);

/// Undoes what a client has left on this host that was killed; nothing while this process has name servers in force.
pub(super) fn undo_leftovers() {
    if IN_FORCE.lock().is_none() {
        dns::undo_resolv_conf();
    }
}

/// Sets the host's name servers for a tunnel that is up, whose device has this index. Those that are in force already
/// stay as they are. Blocks for some seconds at most; not on a worker.
///
/// Returns why they cannot be set if the user has named them; otherwise the log says it, and the host's stay.
pub(super) fn set(choice: &Choice, offer: &Offer, routes: &[Subnet], device: u32, began: Began) -> Result<(), String> {
    let Some(servers) = servers(choice, offer, routes, began) else {
        unset();
        return Ok(());
    };
    let is_set = |now: &NameServers| now.servers() == servers && now.link() == device;
    if IN_FORCE.lock().as_ref().is_some_and(is_set) {
        return Ok(());
    }
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| at_exit(put_back_at_exit));
    if IS_EXITING.load(Ordering::Acquire) {
        return Ok(());
    }
    match NameServers::set(&servers, device) {
        Ok(set) => {
            log::info!("name servers: {} by {}", listed(&servers), set.way());
            *IN_FORCE.lock() = Some(set);
            watch();
            Ok(())
        }
        Err(error) if *choice == Choice::Auto => {
            warn_once(began, &format!("the host's name servers stay: {error}{}", stay(offer)));
            Ok(())
        }
        Err(error) => Err(format!("the name servers cannot be set: {error}")),
    }
}

/// Puts the host's name servers back. On a worker, which must not wait for the disk, another thread does it.
pub(super) fn unset() {
    if worker::current().is_none() {
        return put_back();
    }
    if let Err(error) = threads::spawn("vpn-dns", put_back) {
        log::warn!("the host's name servers are not put back, as no thread can be started: {error}; try a stop again");
    }
}

fn put_back() {
    let watch = WATCH.lock().take();
    if let Some((stop, thread)) = watch {
        drop(stop);
        let _ = thread.join();
    }
    let set = IN_FORCE.lock().take();
    if let Some(set) = set {
        set.undo();
    }
}

/// Puts them back in a process that exits. By a thread, because the exit may have interrupted one that holds a lock for
/// ever.
fn put_back_at_exit() {
    IS_EXITING.store(true, Ordering::Release);
    if IN_FORCE.try_lock_for(EXIT_WAIT).is_none_or(|set| set.is_none()) {
        return;
    }
    let _ = threads::spawn_heard("vpn-dns", put_back).recv_timeout(EXIT_WAIT);
}

/// The name servers of the tunnel that are in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The servers.
    pub servers: Vec<Ipv4Addr>,
    /// What they are in force by, for people: systemd-resolved, resolv.conf.
    pub way: &'static str,
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", listed(&self.servers), self.way)
    }
}

/// Returns the name servers in force; `None` if the host's are.
pub(crate) fn in_force() -> Option<InForce> {
    let set = IN_FORCE.lock();
    set.as_ref().map(|set| InForce { servers: set.servers().to_vec(), way: set.way() })
}

/// Returns the name servers for this lease; `None` if the host's stay.
fn servers(choice: &Choice, offer: &Offer, routes: &[Subnet], began: Began) -> Option<Vec<Ipv4Addr>> {
    match choice {
        Choice::Off => return None,
        Choice::Gateway => return Some(vec![offer.gateway]),
        Choice::Servers(servers) => {
            for outside in servers.iter().filter(|server| !server.is_loopback() && !goes_inside(**server, offer.addr)) {
                log::warn!("[vpn_client] dns = {outside}: it is asked outside of the tunnel, as no route leads inside");
            }
            return Some(servers.clone());
        }
        Choice::Auto => {}
    }
    if !has_internet(routes, offer.addr) {
        return None;
    }
    let (good, bad) = of_lease(&offer.dns, |server| goes_inside(server, offer.addr));
    if !bad.is_empty() {
        let bad: Vec<_> = bad.iter().map(|(server, why)| format!("{server}, which {why}")).collect();
        host::log_bounded!(
            Warn,
            "the lease names name servers that are not used: {}; expected ones that are reached through the tunnel",
            bad.join("; ")
        );
    }
    if !good.is_empty() {
        return Some(good);
    }
    let gateway = vec![offer.gateway];
    let is_in_force = IN_FORCE.lock().as_ref().is_some_and(|now| now.servers() == gateway);
    if is_in_force || answers(offer.gateway, || !began.is_stopped()) {
        return Some(gateway);
    }
    if !began.is_stopped() {
        let gateway = offer.gateway;
        let line = format!(
            "the host's name servers stay: the lease names none, and {gateway} answers no query{}; [vpn_client] dns or --dns \
             may name others",
            stay(offer)
        );
        warn_once(began, &line);
    }
    None
}

fn warn_once(began: Began, line: &str) {
    if began.is_news("dns", line) {
        log::warn!("{line}");
    }
}

/// Says where the host's own name servers are asked.
fn stay(offer: &Offer) -> String {
    let outside: Vec<_> =
        resolvers().into_iter().map(|one| one.addr).filter(|server| !goes_inside(*server, offer.addr)).collect();
    if outside.is_empty() { String::new() } else { format!("; {} is asked outside of the tunnel", listed(&outside)) }
}

/// Starts the thread that looks after them, if there is none.
fn watch() {
    let mut watch = WATCH.lock();
    if watch.is_some() {
        return;
    }
    let (stop, stopped) = mpsc::channel::<()>();
    let body = move || {
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if let Some(set) = &mut *IN_FORCE.lock() {
                set.look();
            }
        }
    };
    match threads::spawn("vpn-dns", body) {
        Ok(thread) => *watch = Some((stop, thread)),
        Err(error) => log::warn!("nobody looks whether the name servers stay in force: no thread: {error}"),
    }
}

fn listed(servers: &[Ipv4Addr]) -> String {
    servers.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")
}
