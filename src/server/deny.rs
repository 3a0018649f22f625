//! The destinations that clients must not reach: `[srv_vpn] deny` outside the tunnel's subnet, and with `deny_host` the
//! host's own addresses but the gateway, inside the subnet too. These change while the service runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::{Settings, SettingsError};
use host::netlink::{Netlink, NetlinkError};
use vpn_core::forward::Networks;

/// How often the host's addresses are read: clients reach a new one for no longer than that. A listing of a few
/// addresses takes a tenth of a millisecond, and unlike a subscription it misses no change.
const PERIOD: Duration = Duration::from_secs(1);

/// The denied networks, which packets read without a lock.
pub(super) struct Deny {
    networks: Arc<ArcSwap<Networks>>,
    /// Whether there are any: packets look no further without.
    is_any: AtomicBool,
    watch: Mutex<Option<Watch>>,
}

/// The thread that reads the host's addresses. It begins with the first message, and ends when the sender is dropped.
struct Watch {
    go_on: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// What is to be denied, ready to take effect.
pub(super) struct Prepared {
    networks: Networks,
    watch: Option<Watch>,
}

/// What packets are checked against.
pub(super) enum Denied {
    Nothing(Networks),
    These(Guard<Arc<Networks>>),
}

impl std::ops::Deref for Denied {
    type Target = Networks;

    fn deref(&self) -> &Networks {
        match self {
            Denied::Nothing(networks) => networks,
            Denied::These(networks) => networks,
        }
    }
}

impl Deny {
    /// Reads the host's addresses, if the settings deny them, and follows their changes until [`Deny::close`].
    pub(super) fn start(settings: &Settings) -> Result<Deny, SettingsError> {
        let deny = Deny { networks: Arc::default(), is_any: AtomicBool::new(false), watch: Mutex::default() };
        deny.change(deny.prepare(settings)?);
        Ok(deny)
    }

    /// Does what can fail of a change to these settings.
    pub(super) fn prepare(&self, settings: &Settings) -> Result<Prepared, SettingsError> {
        let subnet = &settings.subnet;
        let fixed = settings.deny.without(&Networks::of([(subnet.network, subnet.prefix)]));
        if !settings.deny_host {
            return Ok(Prepared { networks: fixed, watch: None });
        }
        let gateway = Networks::of([(subnet.gateway(), 32)]);
        let mut netlink = Netlink::open()?;
        let networks = read(&mut netlink, &fixed, &gateway)?;
        let (go_on, stopped) = mpsc::channel();
        let current = Arc::clone(&self.networks);
        let follow = move || {
            let mut has_failed = false;
            if stopped.recv().is_err() {
                return;
            }
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let result = read(&mut netlink, &fixed, &gateway);
                if let Err(error) = &result
                    && !has_failed
                {
                    log::warn!("[srv_vpn] deny_host: cannot read this host's addresses, those before count: {error}");
                }
                has_failed = result.is_err();
                match result {
                    Ok(networks) if networks != **current.load() => current.store(Arc::new(networks)),
                    _ => {}
                }
            }
        };
        let thread = host::threads::spawn("vpn-addresses", follow).map_err(SettingsError::Thread)?;
        Ok(Prepared { networks, watch: Some(Watch { go_on, thread }) })
    }

    /// Denies what was prepared, in place of what is denied now.
    pub(super) fn change(&self, Prepared { networks, watch }: Prepared) {
        // Its thread must not store what was denied before.
        self.close();
        let is_any = !networks.is_empty();
        self.networks.store(Arc::new(networks));
        self.is_any.store(is_any, Ordering::Release);
        if let Some(watch) = &watch {
            // It fails only if the thread has panicked.
            let _ = watch.go_on.send(());
        }
        *self.watch.lock() = watch;
    }

    /// Returns what is denied now.
    #[inline]
    pub(super) fn load(&self) -> Denied {
        if self.is_any.load(Ordering::Acquire) {
            Denied::These(self.networks.load())
        } else {
            Denied::Nothing(Networks::default())
        }
    }

    /// Ends the thread, and waits for it.
    pub(super) fn close(&self) {
        let watch = self.watch.lock().take();
        let Some(Watch { go_on, thread }) = watch else { return };
        drop(go_on);
        if thread.join().is_err() {
            log::error!("the thread that reads this host's addresses has panicked");
        }
    }
}

fn read(netlink: &mut Netlink, fixed: &Networks, gateway: &Networks) -> Result<Networks, NetlinkError> {
    let own = Networks::of(netlink.own_destinations()?);
    Ok(fixed.join(&own.without(gateway)))
}
