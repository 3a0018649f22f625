//! The sessions of `vpn_stat`: as the SDK lists them, with what this library's server knows of each, if it is linked.

#[cfg(feature = "server")]
use std::collections::HashMap;
#[cfg(feature = "server")]
use std::fmt::Write;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

#[cfg(feature = "server")]
use super::names::{key, unit_name};
use crate::sdk::channel::{SessionStats, SessionView};
#[cfg(feature = "server")]
use crate::sdk::net::Net;
#[cfg(feature = "server")]
use crate::server::{self, SessionInfo};
#[cfg(feature = "server")]
use vpn_core::queue::Rate;

/// A session with an address.
pub(super) struct Known {
    pub(super) view: SessionView,
    #[cfg(feature = "server")]
    pub(super) info: Option<SessionInfo>,
}

/// Returns the sessions that use a network, and those of which no network is known; all with `None`.
pub(super) fn known(views: Vec<SessionView>, net: Option<u64>) -> Vec<Known> {
    #[cfg(feature = "server")]
    {
        let mut infos: HashMap<_, _> = server::listing().into_iter().map(|info| (info.address, info)).collect();
        let known = views.into_iter().map(|view| Known { info: infos.remove(&address(&view)), view });
        let is_wanted = |known: &Known| match (net, known.info.as_ref().and_then(|info| info.net)) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        };
        known.filter(is_wanted).collect()
    }
    #[cfg(not(feature = "server"))]
    {
        // A C server tells the network of no session.
        let _ = net;
        views.into_iter().map(|view| Known { view }).collect()
    }
}

/// Returns the leased inner address.
pub(super) fn address(view: &SessionView) -> Ipv4Addr {
    Ipv4Addr::from(view.address.to_ne_bytes())
}

/// Returns the lines of `-full`.
pub(super) fn details(known: &Known) -> String {
    #[cfg(feature = "server")]
    if let Some(info) = &known.info {
        let mut text = String::new();
        // A String takes everything.
        let _ = write_details(&mut text, info, &known.view.stats);
        return text;
    }
    #[cfg(not(feature = "server"))]
    let _ = known;
    String::new()
}

#[cfg(feature = "server")]
fn write_details(text: &mut String, info: &SessionInfo, stats: &SessionStats) -> std::fmt::Result {
    let or_none = |hash: &Option<[u8; 32]>| hash.as_ref().map_or_else(|| "none".into(), key);
    writeln!(text, "  user...............{}", or_none(&info.client))?;
    writeln!(text, "  usage..............{}, {}", info.usage, info.service)?;
    if let Some(net) = info.net {
        writeln!(text, "  net................{}", Net::name_of(net))?;
    }
    writeln!(text, "  order..............{}", or_none(&info.order))?;
    if let Some(unit) = info.unit.map(unit_name) {
        writeln!(text, "  left...............{} {unit}", info.left)?;
    }
    if let Some([asked, signed, settled]) = info.receipts.filter(|_| info.unit.is_some()) {
        writeln!(text, "  receipts...........{signed} signed of {asked}, {settled} in the ledger")?;
    }
    writeln!(text, "  queue..............{} bytes", info.queued)?;
    writeln!(text, "  drops..............{} packets", stats.packets_recv_lost + stats.packets_sent_lost)?;
    let limit =
        |rate: Option<Rate>| rate.map_or_else(|| "any rate".into(), |rate| format!("{} kbit/s", kilobits(rate)));
    writeln!(text, "  limits.............{} down, {} up", limit(info.rates.down), limit(info.rates.up))?;
    let worker = info.worker.map_or_else(|| "between two".into(), |worker| worker.to_string());
    writeln!(text, "  worker.............{worker}")
}

#[cfg(feature = "server")]
fn kilobits(rate: Rate) -> u64 {
    rate.bytes_per_second / 125
}

/// Returns a session for programs. A key is always there; it is null if its value is not known.
pub(super) fn as_json(known: &Known, now: u64) -> Value {
    let SessionView { time_created, stats, .. } = &known.view;
    let SessionStats { bytes_recv, bytes_recv_lost, packets_recv, packets_recv_lost, .. } = stats;
    let SessionStats { bytes_sent, bytes_sent_lost, packets_sent, packets_sent_lost, .. } = stats;
    #[cfg_attr(not(feature = "server"), expect(unused_mut, reason = "the rest is this library's server's"))]
    let mut session = json!({
        "address": address(&known.view).to_string(),
        "started": time_created,
        "seconds": now.saturating_sub(*time_created),
        "received": {"packets": packets_recv, "bytes": bytes_recv},
        "received_lost": {"packets": packets_recv_lost, "bytes": bytes_recv_lost},
        "sent": {"packets": packets_sent, "bytes": bytes_sent},
        "sent_lost": {"packets": packets_sent_lost, "bytes": bytes_sent_lost},
        "user": null, "usage": null, "service": null, "net": null, "order": null, "unit": null, "left": null,
        "receipts": null, "queue": null, "limit_down": null, "limit_up": null, "worker": null,
    });
    #[cfg(feature = "server")]
    if let Some(info) = &known.info {
        session["user"] = info.client.as_ref().map(key).into();
        session["usage"] = info.usage.into();
        session["service"] = info.service.into();
        session["net"] = info.net.map(Net::name_of).into();
        session["order"] = info.order.as_ref().map(key).into();
        session["unit"] = info.unit.map(unit_name).into();
        session["left"] = info.unit.map(|_| info.left).into();
        let receipts = info.receipts.filter(|_| info.unit.is_some());
        session["receipts"] = receipts
            .map(|[asked, signed, settled]| json!({"asked": asked, "signed": signed, "in_ledger": settled}))
            .into();
        session["queue"] = info.queued.into();
        session["limit_down"] = info.rates.down.map(kilobits).into();
        session["limit_up"] = info.rates.up.map(kilobits).into();
        session["worker"] = info.worker.into();
    }
    session
}
