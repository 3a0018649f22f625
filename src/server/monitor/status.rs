//! `/status.json`: all that the monitor knows, for the page and for programs of the operator.
//!
//! Unlike `/metrics` it names clients, by the first digits of their keys' hashes and by their inner addresses, and takes
//! locks of sessions, each for a moment, as `vpn_stat` does.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::earnings::Earnings;
use super::family::Classes;
use super::latency::round_trips;
use super::message::Response;
use crate::sdk::channel::{self, SessionView};
use crate::sdk::net::Net;
use crate::sdk::{clock, figures};
use crate::server::Server;
use crate::server::figures::{Kind, Refusal};
use crate::server::listing::SessionInfo;
use vpn_core::book::Sums;
use vpn_core::meter::Unit;
use vpn_core::money::Amount;
use vpn_core::queue::DELAY_BOUNDS;
use vpn_core::wire::HashText;

/// The version of the layout: it grows when a field changes its meaning or goes, and stays when one comes.
const LAYOUT: u32 = 1;
/// The most sessions that are listed: those with the most traffic of late.
const SESSIONS_MAX: usize = 100;

pub(super) fn answer(server: &Server) -> Response {
    server.figures.watch(server.now());
    Response::ok("application/json", status(server).to_string())
}

fn status(server: &Server) -> Value {
    let up = server.started.elapsed();
    let pool = server.figures.pool();
    json!({
        "layout": LAYOUT,
        "time": clock::wall(),
        "service": {
            "version": env!("CARGO_PKG_VERSION"),
            "sdk": figures::NAME,
            "started": clock::wall().saturating_sub(up.as_secs()),
            "uptime_seconds": up.as_secs(),
            "device": server.tunnel.name(),
            "network": server.settings().subnet.to_string(),
            "gateway": server.settings().subnet.gateway().to_string(),
            "mtu": server.settings().mtu,
            "workers": server.datapaths.len(),
        },
        "health": health(server),
        "sessions": sessions(server),
        "traffic": traffic(server),
        "drops": drops(server),
        "latency": latency(server),
        "leases": {
            "total": pool.capacity, "free": pool.free, "leased": pool.leased, "kept": pool.kept,
            "reserved": pool.reserved, "static": pool.all_reserved,
        },
        "earnings": server.monitor.senses.accounts.last().map(|earnings| earned(server, &earnings)).unwrap_or_default(),
        "workers": workers(server),
        "memory": figures::peer_memory().map(|memory| {
            json!({"used": memory.used, "limit": memory.most, "refused": memory.refused})
        }),
    })
}

fn health(server: &Server) -> Value {
    let findings = server.monitor.senses.findings();
    let level = findings.first().map_or("ok", |worst| worst.level.name());
    let findings = findings.iter().map(|finding| {
        json!({
            "level": finding.level.name(), "code": finding.code, "what": finding.what, "remedy": finding.remedy,
        })
    });
    json!({"level": level, "findings": findings.collect::<Vec<_>>()})
}

fn sessions(server: &Server) -> Value {
    let figures = &server.figures;
    let now = Kind::ALL.map(|kind| (kind.name().to_owned(), Value::from(figures.sessions_served(kind))));
    let refused = Refusal::ALL.map(|why| (why.name(), figures.refused(why)));
    let refused =
        refused.into_iter().filter(|(_, count)| *count > 0).map(|(why, count)| (why.to_owned(), count.into()));
    let mut infos = server.listing();
    infos.sort_by_key(|info| (Reverse(info.rates_now.0 + info.rates_now.1), Reverse(info.carried.0 + info.carried.1)));
    let left_out = infos.len().saturating_sub(SESSIONS_MAX);
    infos.truncate(SESSIONS_MAX);
    let views: HashMap<_, _> = channel::sessions().into_iter().map(|view| (view.address.to_ne_bytes(), view)).collect();
    let list = infos.iter().map(|info| session(info, views.get(&info.address.octets())));
    json!({
        "now": Value::Object(now.into_iter().collect()),
        "opened": figures.opened.get(),
        "served": figures.served.get(),
        "refused": Value::Object(refused.collect()),
        "given": figures.leases().map(|(how, count)| (how.to_owned(), count.into())).collect::<serde_json::Map<_, _>>(),
        "list": list.collect::<Vec<_>>(),
        "left_out": left_out,
    })
}

fn session(info: &SessionInfo, view: Option<&SessionView>) -> Value {
    let stats = view.map(|view| view.stats).unwrap_or_default();
    let (carried, now) = (info.carried, info.rates_now);
    json!({
        "address": info.address.to_string(),
        "client": info.client.as_ref().map(short),
        "net": info.net.map(Net::name_of),
        "service": info.service,
        "seconds": info.age.as_secs(),
        "up": {"packets": stats.packets_sent, "bytes": carried.0, "bytes_per_second": now.0, "dropped": stats.packets_sent_lost},
        "down": {"packets": stats.packets_recv, "bytes": carried.1, "bytes_per_second": now.1, "dropped": stats.packets_recv_lost},
        "round_trip_ms": info.round_trip.map(milliseconds),
        "queued_bytes": info.queued,
        "unit": info.unit.map(|unit| match unit {
            Unit::Bytes => "B",
            Unit::Seconds => "SEC",
        }),
        "left": info.unit.map(|_| info.left),
        "worker": info.worker,
    })
}

fn traffic(server: &Server) -> Value {
    let totals = server.figures.never_less(server.counters.totals());
    let rates = server.monitor.senses.speed.rates();
    let way = |packets, bytes, packet_rate: f64, rate: f64| {
        json!({
            "packets": packets, "bytes": bytes, "packets_per_second": packet_rate.round() as u64,
            "bytes_per_second": rate.round() as u64,
        })
    };
    json!({
        "up": way(totals.up_packets, totals.up_bytes, rates.up_packets, rates.up_bytes),
        "down": way(totals.down_packets, totals.down_bytes, rates.down_packets, rates.down_bytes),
        "marked": totals.marked,
    })
}

fn drops(server: &Server) -> Value {
    let (_, of_minute) = server.monitor.senses.speed.last_minute();
    let drops = server.counters.drops_both_ways().into_iter().filter(|(_, up, down)| up + down > 0);
    let drops = drops.map(|(cause, up, down)| {
        let last = of_minute.iter().find(|(other, _)| *other == cause).map_or(0, |(_, packets)| *packets);
        json!({
            "cause": cause.name(), "what": cause.description(), "advice": cause.advice(),
            "packets": up + down, "up": up, "down": down, "last_minute": last,
        })
    });
    Value::Array(drops.collect())
}

fn latency(server: &Server) -> Value {
    let round_trip = round_trips(server).map(
        |times| json!({"p50": milliseconds(times.p50), "p90": milliseconds(times.p90), "max": milliseconds(times.max)}),
    );
    let [_, (counts, sum)] = server.figures.delays();
    let classes = Classes::new(DELAY_BOUNDS.iter().map(|nanoseconds| *nanoseconds as f64 / 1e6), &counts, sum);
    let queue = classes.quantile(0.5).zip(classes.quantile(0.9)).map(|(p50, p90)| {
        // What is above the last bound has none: the mean says more than nothing.
        let or_mean = |bound: f64| if bound == f64::INFINITY { 1e3 * sum / classes.count() as f64 } else { bound };
        json!({"p50": or_mean(p50), "p90": or_mean(p90), "waited": classes.count()})
    });
    json!({"round_trip_ms": round_trip, "queue_ms": queue})
}

/// What was earned, for the token that the service is paid in; nothing if none was signed for.
fn earned(server: &Server, earnings: &Earnings) -> Value {
    let Earnings { token, all, clients, left_out } = earnings;
    if all.asked == 0 {
        return Value::Array(Vec::new());
    }
    let clients = clients.iter().map(|(client, sums)| {
        let mut value = sums_json(sums);
        value["client"] = short(&client.key).into();
        value["net"] = Net::name_of(client.net).into();
        value
    });
    let mut value = sums_json(all);
    value["token"] = token.as_deref().unwrap_or("tokens").into();
    value["net"] = server.billing.net().map(|net| net.name()).into();
    value["clients"] = clients.collect();
    value["left_out"] = (*left_out).into();
    Value::Array(vec![value])
}

fn sums_json(sums: &Sums) -> Value {
    json!({
        "signed": Amount(sums.signed_value).to_string(),
        "settled": Amount(sums.settled_value).to_string(),
        "sessions": sums.sessions,
        "receipts": {"asked": sums.asked, "signed": sums.signed, "in_ledger": sums.settled},
        "sold": {"bytes": sums.bought_bytes, "seconds": sums.bought_seconds},
        "charged": {"bytes": sums.charged_bytes, "seconds": sums.charged_seconds},
    })
}

fn workers(server: &Server) -> Value {
    let lags = server.monitor.senses.probes.lags();
    let workers = server.figures.sessions().enumerate().map(|(number, sessions)| {
        let lag = lags.get(number).copied().map(milliseconds);
        json!({"worker": number, "sessions": sessions.iter().sum::<u32>(), "lag_ms": lag})
    });
    Value::Array(workers.collect())
}

/// The first digits of a key's hash: enough to tell the clients of a server apart, and to find one in the log.
fn short(hash: &[u8; 32]) -> String {
    let digits = HashText(hash).to_string();
    format!("{}\u{2026}", &digits[..10])
}

/// With two digits behind the point.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}
