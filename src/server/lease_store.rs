//! The leases that a restart does not end: loaded at the start, stored on a thread of its own, because a write blocks.
//!
//! [`Pool`](vpn_core::lease::Pool) says what is stored, in pages. One that has changed is written at once if none was in
//! the second before, and some pages a second at most: a flood of sessions costs no more writes. A lease that a kill in
//! that second loses is one that the server does not know: its client gets another address, and nobody else's.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::leases::{Owner, random};
use crate::sdk::store;
use vpn_core::exchange::Leases;
use vpn_core::lease::{KeyTokens, PAGES, Restored, empty_page};

/// The group of the service's leases in the store. The node gives groups that begin so to no other node.
const GROUP: &str = "local.vpn_server.leases";
/// The key of the secret that the tokens of clients without capabilities are made with.
const SECRET: &str = "secret";
/// The time between two writings.
const PERIOD: Duration = Duration::from_secs(1);
/// The most pages of one writing.
const PAGES_AT_ONCE: usize = 16;

/// What stores the leases.
pub(super) struct LeaseStore {
    writer: Arc<Writer>,
    /// Wakes the thread.
    changed: Sender<()>,
    /// The thread; it ends when its sender is dropped.
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Writer {
    leases: Arc<Mutex<Leases<Owner>>>,
    /// Held while a page is written, so that an older one of another thread does not replace it.
    writing: Mutex<()>,
    is_on: bool,
}

impl LeaseStore {
    /// Loads what is stored into the leases, of which none is given yet, and stores what changes from now on. If it is
    /// off, what is stored is removed.
    pub(super) fn start(leases: &Arc<Mutex<Leases<Owner>>>, is_on: bool) -> LeaseStore {
        let pages = (0..PAGES).filter_map(|page| Some((page, store::get(GROUP, &key(page))?)));
        let writer = Arc::new(Writer { leases: Arc::clone(leases), writing: Mutex::default(), is_on });
        let (changed, changes) = bounded(1);
        let mut thread = None;
        if is_on {
            tell(&leases.lock().restore(pages));
            let (stop, stopped) = bounded(0);
            let shared = Arc::clone(&writer);
            match host::threads::spawn("vpn-leases", move || shared.run(&changes, &stopped)) {
                Ok(handle) => thread = Some((stop, handle)),
                Err(error) => {
                    log::error!("no thread for the store of leases: {error}; leases are stored when the service stops");
                }
            }
        } else {
            remove(pages);
        }
        LeaseStore { writer, changed, thread: Mutex::new(thread) }
    }

    /// Has what has changed stored, by the thread. Does not block.
    pub(super) fn wake(&self) {
        // If it is full, the thread is about to look.
        let _ = self.changed.try_send(());
    }

    /// Stores everything, and ends the thread.
    pub(super) fn close(&self) {
        if let Some((stop, thread)) = self.thread.lock().take() {
            drop(stop);
            self.wake();
            if thread.join().is_err() {
                log::error!("the thread that stores leases has panicked");
            }
        }
        self.writer.write(usize::MAX);
    }

    /// Stores everything in a process that exits, also while the thread is about to.
    pub(super) fn flush(&self) {
        self.writer.write(usize::MAX);
    }
}

impl Writer {
    fn run(&self, changes: &Receiver<()>, stopped: &Receiver<()>) {
        // What the start has changed is to be written.
        let mut is_due = true;
        while is_due || changes.recv().is_ok() {
            is_due = self.write(PAGES_AT_ONCE);
            if stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    }

    /// Writes so many pages. Returns whether more are to be written.
    fn write(&self, most: usize) -> bool {
        if !self.is_on {
            return false;
        }
        for _ in 0..most {
            let _writing = self.writing.lock();
            let Some((page, bytes)) = self.leases.lock().next_changed() else { return false };
            if let Err(error) = store::set(GROUP, &key(page), &bytes) {
                host::log_bounded!(Warn, "leases not stored: {error}; a restart of the service would change addresses");
                self.leases.lock().not_stored(page);
                break;
            }
        }
        true
    }
}

fn key(page: u16) -> String {
    format!("page-{page:03}")
}

/// Says what became of the stored leases.
fn tell(Restored { kept, unfit, damaged }: &Restored) {
    if let Some((page, error)) = damaged.first() {
        let (number, key) = (damaged.len(), key(*page));
        log::warn!("stored leases are ignored: {number} of {PAGES} pages cannot be read; {GROUP} / {key}: {error}");
    }
    if *unfit > 0 {
        log::warn!(
            "{unfit} stored leases are ignored, and their clients get other addresses: by [srv_vpn] network_address, \
             network_mask or static_leases these are no longer theirs"
        );
    }
    if *kept > 0 {
        log::info!("{kept} addresses are kept for the clients that had them before the start");
    }
}

/// Removes what is stored.
fn remove(pages: impl Iterator<Item = (u16, Vec<u8>)>) {
    let mut removed = 0;
    for (page, _) in pages.filter(|(_, bytes)| *bytes != empty_page()) {
        match store::set(GROUP, &key(page), &empty_page()) {
            Ok(()) => removed += 1,
            Err(error) => return log::warn!("stored leases are not removed: {error}"),
        }
    }
    if removed > 0 {
        log::info!("[srv_vpn] store_leases = false: the stored leases are removed ({removed} pages)");
    }
}

/// Returns what makes the tokens of clients that keep none: with the secret of the server before, so that these clients
/// get their addresses back as well. `None` if the kernel has no random numbers.
pub(super) fn key_tokens(is_stored: bool) -> Option<KeyTokens> {
    if !is_stored {
        return random().map(KeyTokens::new);
    }
    let stored = store::get(GROUP, SECRET);
    if let Some(secret) = stored.as_deref().and_then(|bytes| bytes.try_into().ok()) {
        return Some(KeyTokens::new(secret));
    }
    if let Some(bytes) = stored {
        log::warn!(
            "{GROUP} / {SECRET} has {} bytes, expected 32: it is drawn anew, and clients that keep no token get other \
             addresses",
            bytes.len()
        );
    }
    let secret: [u8; 32] = random()?;
    if let Err(error) = store::set(GROUP, SECRET, &secret) {
        log::warn!("{error}: after a restart of the service, clients that keep no token get other addresses");
    }
    Some(KeyTokens::new(secret))
}
