//! Connects again after a loss, from the start that succeeded until `stop`.
//!
//! A thread of the library waits for the loss. It connects as `start` does, while the device stays, so that the
//! addresses and the connections of the host's programs survive when the server gives the same address again. It gives up
//! when time alone heals nothing: a refusal, another identity, a wallet without money. What speaks another protocol than the
//! server did may be a captive portal, and heals.

use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::connect::connect;
use super::error::ClientError;
use super::stops::Began;
use super::{CHANGE, CLIENT, STOP_INTERVAL, connection, forget};
use crate::sdk::net::Net;
use crate::sdk::settle;
use host::outer_path::OuterPath;
use host::patience::{jittered, pause_since};
use host::threads;

/// The pause before the first attempt, and before the second; each later one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const SECOND_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause while a network's sign-in page may answer: nothing tells when the network opens.
const PORTAL_PAUSE: Duration = Duration::from_secs(5);
/// How often a pause looks at the host's way to the server.
const LOOK: Duration = Duration::from_millis(100);

/// What to connect to again.
#[derive(Clone)]
pub(super) struct Target {
    /// The server in its one spelling.
    pub(super) server: String,
    pub(super) net: Net,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Starts the thread. It ends with the first stop after `began`.
pub(super) fn start(began: Began) -> Option<JoinHandle<()>> {
    threads::spawn("vpn-reconnect", move || keep_up(began))
        .inspect_err(|error| log::warn!("the client will not connect again after a loss: no thread: {error}"))
        .ok()
}

fn keep_up(began: Began) {
    let mut pause = FIRST_PAUSE;
    while !began.is_stopped() {
        let mut server = None;
        // There is none after a start by the user that has failed.
        if let Some(current) = connection() {
            current.await_end();
            if !current.is_lost() {
                // It is stopped, or another one takes its place.
                began.pause(LOOK);
                continue;
            }
            server = current.server_address();
            // A server that accepts clients and drops them soon is asked ever less often.
            if current.lasted() >= LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
        }
        if !connect_again(began, server, &mut pause) {
            return;
        }
    }
}

/// Connects until that succeeds. `server` is the address of the connection that is lost, `pause` the next pause. Returns
/// false if it gives up.
fn connect_again(began: Began, server: Option<IpAddr>, pause: &mut Duration) -> bool {
    while !gives_up(began) {
        let length = jittered(*pause);
        *pause = (*pause * 2).clamp(SECOND_PAUSE, LONGEST_PAUSE);
        log::info!("next attempt in about {:.1} s", length.as_secs_f64());
        match wait(began, length, server) {
            Ended::Stopped => return false,
            Ended::Over => {}
            // What is out of reach for the first moments is there a little later: no long pause follows.
            Ended::By(what) => {
                log::info!("{what}: next attempt now");
                *pause = SECOND_PAUSE;
            }
        }
        match attempt(began, server) {
            Ok(()) => return true,
            Err(ClientError::Stopped) => return false,
            Err(error) => {
                // An event on one of the SDK's threads may hold what has failed for a moment.
                settle();
                let mut client = CLIENT.lock();
                if error.heals() || error.may_be_portal() {
                    log::warn!("not connected again: {error}");
                    if error.may_be_portal() {
                        *pause = (*pause).min(PORTAL_PAUSE);
                    }
                } else {
                    log::error!("not connected again, and not tried until the next start: {error}");
                    client.target = None;
                }
                client.last_error = Some(error);
            }
        }
    }
    false
}

/// Returns whether nothing is left to connect to. A start that succeeds later begins another thread.
fn gives_up(began: Began) -> bool {
    let mut client = CLIENT.lock();
    let gives_up = client.target.is_none();
    if gives_up && !began.is_stopped() {
        client.keeper = None;
    }
    gives_up
}

/// Connects once, unless the user has started the client meanwhile. `server` is the address that the name had.
fn attempt(began: Began, server: Option<IpAddr>) -> Result<(), ClientError> {
    let _change = change(began).ok_or(ClientError::Stopped)?;
    let old = connection();
    if old.as_ref().is_some_and(|current| !current.is_lost()) {
        return Ok(());
    }
    let Some(target) = CLIENT.lock().target.clone() else { return Err(ClientError::Stopped) };
    // Before the old one ends: a connection that is ending counts as stopped otherwise.
    CLIENT.lock().is_reconnecting = true;
    if let Some(old) = old {
        // The reason is told until the next attempt has its own.
        let loss = old.loss();
        old.end();
        forget(&old);
        CLIENT.lock().last_error = loss;
    }
    let result = connect(&target.net, (&target.host, target.port), began, server);
    let mut client = CLIENT.lock();
    client.is_reconnecting = false;
    if result.is_ok() {
        client.last_error = None;
    }
    drop(client);
    result.map(|_| ())
}

/// How a pause has ended.
enum Ended {
    /// Its time is over.
    Over,
    /// Something has happened after which another attempt may succeed.
    By(&'static str),
    /// The client is stopped.
    Stopped,
}

/// Waits for `length`, or until the host's way to the server has changed, or this process was stopped for a while.
fn wait(began: Began, length: Duration, server: Option<IpAddr>) -> Ended {
    let until = Instant::now() + length;
    let mut path = server.and_then(|server| OuterPath::new(server).ok());
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ended::Over;
        }
        let look = Instant::now() + left.min(LOOK);
        if !began.pause(left.min(LOOK)) {
            return Ended::Stopped;
        }
        let has_changed = path.as_mut().is_some_and(|path| path.look().is_some() && path.is_reachable());
        if has_changed {
            return Ended::By("this host's way to the server has changed");
        }
        if !pause_since(look).is_zero() {
            return Ended::By("this process was stopped for a while");
        }
    }
}

/// Takes the lock of starts and stops; `None` when the client is stopped, because the stop waits for this thread.
fn change(began: Began) -> Option<MutexGuard<'static, ()>> {
    while !began.is_stopped() {
        if let Some(change) = CHANGE.try_lock_for(STOP_INTERVAL) {
            return Some(change);
        }
    }
    None
}
