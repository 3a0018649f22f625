//! The sessions of a worker with rate limits. What exceeds a limit waits, and a timer goes on with it; the timer runs
//! only while a limit alone is waited for.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use crate::datapath::Shaper;
use crate::sdk::worker::Timer;
use crate::server::rates::SessionRates;
use vpn_core::forward::{Load, Offload, Route};
use vpn_core::queue::Events;
use vpn_core::wire::{Ipv4View, VNET_LEN, VnetHeader};

use super::{State, WorkerDatapath};

/// How often packets that wait for a limit are looked at: half of what a limit lets pass at once after a pause.
const PERIOD: Duration = Duration::from_millis(2);
/// The largest packet with its header, in bytes.
const LARGEST: usize = VNET_LEN + 65_535;

/// What waits for rate limits.
#[derive(Default)]
pub(super) struct Limited {
    /// The slots of the sessions, each once.
    routes: VecDeque<Route>,
    timer: Option<Timer>,
    is_ticking: bool,
    /// Memory for a packet between the queue and the device, from the first one on.
    scratch: Vec<u8>,
}

impl Limited {
    /// The slot is freed.
    pub(super) fn forget(&mut self, route: Route) {
        self.routes.retain(|other| *other != route);
    }
}

impl WorkerDatapath {
    /// Sets the limits of the session in the slot, for which at most `limit` bytes wait up.
    pub(in crate::server) fn set_rates(&self, route: Route, rates: &SessionRates, limit: usize) {
        self.slot(route, |slot, _| {
            slot.outlet.set_rate(rates.down);
            if rates.up.is_some() || slot.shaper.is_some() {
                slot.shaper.get_or_insert_with(|| Shaper::new(limit)).set_rate(rates.up);
            }
        });
    }

    /// Lets a client's packet wait for the limit of its session. [`WorkerDatapath::write_due`] follows.
    pub(in crate::server) fn wait_up(&self, route: Route, packet: &[u8], described: (&Ipv4View, &Offload)) -> Events {
        let mut events = Events::default();
        self.slot(route, |slot, shared| {
            let tuning = slot.outlet.tuning();
            if let Some(shaper) = &mut slot.shaper {
                shaper.push(shared, packet, described, tuning, &mut events);
            }
        });
        events
    }

    /// Writes to the host what the limit of the session in the slot allows now, and returns it. `mtu` is the session's, as
    /// in [`WorkerDatapath::write_tun`].
    pub(in crate::server) fn write_due(&self, route: Route, mtu: Option<u16>, events: &mut Events) -> Load {
        let result = self.state.with(|state| {
            let State { slots, shared, limited, writer, .. } = state;
            let shaper = slots.get_mut(route.slot as usize)?.as_mut()?.shaper.as_mut()?;
            let mut load = Load::default();
            limited.scratch.resize(LARGEST, 0);
            while let Some(len) = shaper.pop(shared, &mut limited.scratch, events) {
                let Some((header, packet)) = limited.scratch.get(..len).and_then(<[u8]>::split_first_chunk) else {
                    break;
                };
                // The queue has kept it as it was checked.
                let Ok((view, offload)) = Offload::check(&VnetHeader::parse(header), packet) else { continue };
                load += Load::of(&offload, packet.len());
                writer.write(&self.queue, packet, &view, &offload, mtu);
            }
            writer.flush(&self.queue);
            Some((load, !shaper.is_empty()))
        });
        let (load, waits) = result.flatten().unwrap_or_default();
        if waits {
            self.limit_holds(route);
        }
        load
    }

    /// Drops what waits up for the session in the slot, and returns it.
    pub(in crate::server) fn clear_up(&self, route: Route) -> Load {
        let clear = |slot: &mut super::Slot, shared: &mut _| Some(slot.shaper.as_mut()?.clear(shared));
        self.slot(route, clear).flatten().unwrap_or_default()
    }

    /// Packets of the session in the slot wait for its limit alone: the timer comes back to them.
    pub(super) fn limit_holds(&self, route: Route) {
        self.state.with(|state| {
            let Some(Some(slot)) = state.slots.get_mut(route.slot as usize) else { return };
            if !std::mem::replace(&mut slot.is_limited_now, true) {
                state.limited.routes.push_back(route);
            }
            if !state.limited.is_ticking {
                let (server, worker) = (self.server.get().cloned().unwrap_or_else(Weak::new), self.worker);
                let tick = move || server.upgrade().is_some_and(|server| server.go_on_limited(worker));
                state.limited.timer = Timer::start(worker, PERIOD, tick);
                state.limited.is_ticking = state.limited.timer.is_some();
            }
        });
    }

    /// Returns how many sessions wait for their limits.
    pub(in crate::server) fn held(&self) -> usize {
        self.state.with(|state| state.limited.routes.len()).unwrap_or(0)
    }

    /// Takes the session that has waited for its limit for longest.
    pub(in crate::server) fn next_held(&self) -> Option<Route> {
        self.state.with(|state| {
            let route = state.limited.routes.pop_front()?;
            if let Some(Some(slot)) = state.slots.get_mut(route.slot as usize) {
                slot.is_limited_now = false;
            }
            Some(route)
        })?
    }

    /// Ends a call of the timer. Returns whether it goes on.
    pub(in crate::server) fn goes_on(&self) -> bool {
        let goes_on = self.state.with(|state| {
            state.limited.is_ticking = !state.limited.routes.is_empty();
            state.limited.is_ticking
        });
        goes_on.unwrap_or(false)
    }
}
