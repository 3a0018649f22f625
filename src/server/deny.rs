//! The destinations that clients must not reach: `[srv_vpn] deny` outside the tunnel's subnet, and with `deny_host` the
//! host's own addresses but the gateway, inside the subnet too. These change while the service runs.

use std::sync::Arc;
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
    /// `None` if nothing is denied.
    networks: Option<Arc<ArcSwap<Networks>>>,
    watch: Mutex<Option<Watch>>,
}

/// The thread that reads the host's addresses. It ends when the sender is dropped.
struct Watch {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
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
        let subnet = &settings.subnet;
        let fixed = settings.deny.without(&Networks::of([(subnet.network, subnet.prefix)]));
        let gateway = Networks::of([(subnet.gateway(), 32)]);
        if !settings.deny_host {
            let networks = (!fixed.is_empty()).then(|| Arc::new(ArcSwap::from_pointee(fixed)));
            return Ok(Deny { networks, watch: Mutex::default() });
        }
        let mut netlink = Netlink::open()?;
        let networks = Arc::new(ArcSwap::from_pointee(read(&mut netlink, &fixed, &gateway)?));
        let (stop, stopped) = mpsc::channel();
        let current = Arc::clone(&networks);
        let follow = move || {
            let mut has_failed = false;
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
        Ok(Deny { networks: Some(networks), watch: Mutex::new(Some(Watch { stop, thread })) })
    }

    /// Returns what is denied now.
    #[inline]
    pub(super) fn load(&self) -> Denied {
        match &self.networks {
            Some(networks) => Denied::These(networks.load()),
            None => Denied::Nothing(Networks::default()),
        }
    }

    /// Ends the thread, and waits for it.
    pub(super) fn close(&self) {
        let watch = self.watch.lock().take();
        let Some(Watch { stop, thread }) = watch else { return };
        drop(stop);
        if thread.join().is_err() {
            log::error!("the thread that reads this host's addresses has panicked");
        }
    }
}

fn read(netlink: &mut Netlink, fixed: &Networks, gateway: &Networks) -> Result<Networks, NetlinkError> {
    let own = Networks::of(netlink.own_destinations()?);
    Ok(fixed.join(&own.without(gateway)))
}
