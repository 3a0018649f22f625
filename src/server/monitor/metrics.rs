//! `/metrics`: the service's figures in OpenMetrics' text, for Prometheus.
//!
//! Everything here is a number that workers have written already, or that the monitor has made ready: a scrape takes no
//! lock that a worker waits for. Labels name causes and kinds, never a client.

use std::borrow::Cow;

use prometheus_client::registry::Unit;

use super::family::{Classes, Family, Labels, MIME, Samples, encode};
use super::health::Level;
use super::message::Response;
use super::process;
use crate::sdk::{clock, figures as sdk};
use crate::server::Server;
use crate::server::figures::{Kind, Refusal};
use vpn_core::queue::DELAY_BOUNDS;
use vpn_core::times::BOUNDS;

pub(super) fn answer(server: &Server) -> Response {
    match encode(families(server), process::families()) {
        Ok(text) => Response::ok(MIME, text),
        Err(error) => Response::refusal(500, format!("the figures cannot be written: {error}\n")),
    }
}

/// A datoshi is this part of a token.
const DATOSHI: f64 = 1e-18;

fn families(server: &Server) -> Vec<Family> {
    let mut all = service(server);
    all.extend(sessions(server));
    all.extend(traffic(server));
    all.extend(leases(server));
    all.extend(account(server));
    all.extend(host(server));
    all
}

fn family(name: &'static str, unit: Option<Unit>, help: &'static str, samples: Samples) -> Family {
    Family { name, unit, help, samples }
}

/// The labels of a sample with one of them.
fn label(name: &'static str, value: impl Into<Cow<'static, str>>) -> Labels {
    vec![(name, value.into())]
}

fn one_gauge(value: f64) -> Samples {
    Samples::Gauge(vec![(Vec::new(), value)])
}

fn one_counter(value: u64) -> Samples {
    Samples::Counter(vec![(Vec::new(), value)])
}

fn service(server: &Server) -> Vec<Family> {
    let findings = server.monitor.senses.findings();
    let of_level = |level: Level| findings.iter().filter(|finding| finding.level == level).count() as f64;
    let is_healthy = of_level(Level::Error) == 0.0;
    let levels = Level::ALL.map(|level| (label("level", level.name()), of_level(level)));
    let build = vec![("version", env!("CARGO_PKG_VERSION").into()), ("sdk", sdk::NAME.into())];
    let started = clock::wall() as f64 - server.started.elapsed().as_secs_f64();
    vec![
        family("build", None, "The build that runs", Samples::Info(build)),
        family("start_time", Some(Unit::Seconds), "When the service started, since 1970", one_gauge(started)),
        family("healthy", None, "1 while no finding is an error", one_gauge(f64::from(u8::from(is_healthy)))),
        family("findings", None, "What is wrong now; /status.json has the words", Samples::Gauge(levels.into())),
    ]
}

fn sessions(server: &Server) -> Vec<Family> {
    let figures = &server.figures;
    let refused = |why: Refusal| (label("reason", why.name()), figures.refused(why));
    let begin =
        |step, times: ([u64; BOUNDS.len() + 1], f64)| (label("step", step), Classes::new(BOUNDS, &times.0, times.1));
    let connections = sdk::connections();
    let mut steps: Vec<_> = connections.iter().map(|all| begin("stream", all.opening)).collect();
    steps.extend([begin("service", figures.to_service.read()), begin("lease", figures.to_lease.read())]);
    let mut families = vec![
        family(
            "sessions",
            None,
            "Sessions now, by how they are served",
            Samples::Gauge(
                Kind::ALL.map(|kind| (label("service", kind.name()), figures.sessions_served(kind).into())).into(),
            ),
        ),
        family("sessions_opened", None, "Sessions that clients have begun", one_counter(figures.opened.get())),
        family("sessions_served", None, "Services that sessions have got", one_counter(figures.served.get())),
        family(
            "refusals",
            None,
            "Requests for service or an address that were refused",
            Samples::Counter(Refusal::ALL.map(refused).into()),
        ),
        family(
            "handshake",
            Some(Unit::Seconds),
            "From accept to the stream, and from the begin of a session to its service and to its address",
            Samples::Histogram(steps),
        ),
    ];
    families.extend(connections.map(|all| {
        let closed = [("limit", all.turned_away), ("handshake", all.failed_handshakes), ("idle", all.idle)];
        let closed = closed.map(|(reason, count)| (label("reason", reason), count));
        family("connections_closed", None, "Connections that got no service", Samples::Counter(closed.into()))
    }));
    families
}

fn traffic(server: &Server) -> Vec<Family> {
    let totals = server.figures.never_less(server.counters.totals());
    let both = |up, down| Samples::Counter(vec![(label("direction", "up"), up), (label("direction", "down"), down)]);
    let drops = server.counters.drops_both_ways().into_iter().flat_map(|(cause, up, down)| {
        [("up", up), ("down", down)].map(|(direction, packets)| {
            (vec![("cause", cause.name().into()), ("direction", direction.into())], packets)
        })
    });
    let [up, down] = server.figures.delays().map(|(counts, sum)| {
        Classes::new(DELAY_BOUNDS.iter().map(|nanoseconds| *nanoseconds as f64 / 1e9), &counts, sum)
    });
    let delays = vec![(label("direction", "up"), up), (label("direction", "down"), down)];
    vec![
        family(
            "packets",
            None,
            "Inner packets that were forwarded, as without super-packets",
            both(totals.up_packets, totals.down_packets),
        ),
        family("traffic", Some(Unit::Bytes), "Bytes of these packets", both(totals.up_bytes, totals.down_bytes)),
        family("drops", None, "Inner packets that were dropped", Samples::Counter(drops.collect())),
        family("congestion_marks", None, "Packets marked in place of a drop (RFC 3168)", one_counter(totals.marked)),
        family(
            "queue_delay",
            Some(Unit::Seconds),
            "How long packets waited that could not pass at once",
            Samples::Histogram(delays),
        ),
        family(
            "queued",
            Some(Unit::Bytes),
            "Bytes that wait for clients and from them",
            one_gauge(server.figures.queued() as f64),
        ),
    ]
}

fn leases(server: &Server) -> Vec<Family> {
    let pool = server.figures.pool();
    let states = [("free", pool.free), ("leased", pool.leased), ("kept", pool.kept), ("reserved", pool.reserved)];
    let states = states.map(|(state, addresses)| (label("state", state), f64::from(addresses)));
    let given = server.figures.leases().map(|(origin, count)| (label("origin", origin), count));
    vec![
        family("addresses", None, "Inner addresses for clients", Samples::Gauge(states.into())),
        family(
            "static_addresses",
            None,
            "Those of them that are one client's alone",
            one_gauge(f64::from(pool.all_reserved)),
        ),
        family(
            "leases",
            None,
            "Addresses that were given; resumed and taken over ones are clients that came back",
            Samples::Counter(given.collect()),
        ),
    ]
}

/// What the account book says, since it began.
fn account(server: &Server) -> Vec<Family> {
    let Some(earnings) = server.monitor.senses.accounts.last() else { return Vec::new() };
    let all = &earnings.all;
    let bytes = |name, help, bytes| family(name, Some(Unit::Bytes), help, one_counter(bytes));
    let seconds = |name, help, seconds| family(name, Some(Unit::Seconds), help, one_counter(seconds));
    let receipts = [("asked", all.asked), ("signed", all.signed), ("settled", all.settled)];
    let receipts = receipts.map(|(state, count)| (label("state", state), count));
    let mut families = vec![
        bytes("sold", "Bytes that signed receipts have sold", all.bought_bytes),
        bytes("charged", "Bytes that clients were charged", all.charged_bytes),
        seconds("sold", "Seconds that signed receipts have sold", all.bought_seconds),
        seconds("charged", "Seconds that clients were charged", all.charged_seconds),
        family(
            "receipts",
            None,
            "Receipts that clients were asked to sign, have signed, and whose payments the ledger has",
            Samples::Counter(receipts.into()),
        ),
    ];
    if let Some(token) = &earnings.token {
        let value = |state: &'static str, datoshi: u128| {
            (vec![("token", token.clone().into()), ("state", state.into())], datoshi as f64 * DATOSHI)
        };
        families.push(family(
            "earned",
            None,
            "Tokens of signed receipts, and of those whose payments the ledger has",
            Samples::Sum(vec![value("signed", all.signed_value), value("settled", all.settled_value)]),
        ));
    }
    families
}

fn host(server: &Server) -> Vec<Family> {
    let lags = server.monitor.senses.probes.lags().into_iter().zip(0..);
    let lags = lags.map(|(lag, worker): (_, u32)| (label("worker", worker.to_string()), lag.as_secs_f64()));
    let mut families = vec![family(
        "worker_lag",
        Some(Unit::Seconds),
        "How late a worker came to the last task that it was given",
        Samples::Gauge(lags.collect()),
    )];
    if let Some(memory) = sdk::peer_memory() {
        families.extend([
            family("peer_memory", Some(Unit::Bytes), "Memory that clients use", one_gauge(memory.used as f64)),
            family(
                "peer_memory_limit",
                Some(Unit::Bytes),
                "Memory that clients may use together",
                one_gauge(memory.most as f64),
            ),
            family("peer_memory_refusals", None, "How often a client was refused memory", one_counter(memory.refused)),
        ]);
    }
    families
}
