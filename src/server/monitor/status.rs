//! `/status.json`: all that the monitor knows, for the page and for programs of the operator.

use serde_json::{Value, json};

use super::message::{Request, Response};
use crate::sdk::clock;
use crate::server::Server;

/// The version of the layout: it grows when a field changes its meaning or goes, and stays when one comes.
const LAYOUT: u32 = 1;

pub(super) fn answer(server: &Server, _request: &Request<'_>) -> Response {
    Response::ok("application/json", status(server).to_string())
}

fn status(server: &Server) -> Value {
    let totals = server.counters.totals();
    let up = server.started.elapsed();
    json!({
        "layout": LAYOUT,
        "time": clock::wall(),
        "service": {
            "version": env!("CARGO_PKG_VERSION"),
            "started": clock::wall().saturating_sub(up.as_secs()),
            "uptime_seconds": up.as_secs(),
            "device": server.tunnel.name(),
            "network": server.settings.subnet.to_string(),
            "gateway": server.settings.subnet.gateway().to_string(),
            "mtu": server.settings.mtu,
            "workers": server.datapaths.len(),
        },
        "health": {"level": "ok", "findings": []},
        "sessions": {"now": {"free": 0, "grace": 0, "paid": 0}, "opened": 0, "refused": {}, "list": [], "left_out": 0},
        "traffic": {
            "up": {"packets": totals.up_packets, "bytes": totals.up_bytes, "bytes_per_second": 0},
            "down": {"packets": totals.down_packets, "bytes": totals.down_bytes, "bytes_per_second": 0},
        },
        "drops": [],
        "latency": {"round_trip_ms": null, "queue_ms": null},
        "leases": {"total": 0, "free": 0, "leased": 0, "kept": 0, "static": 0},
        "earnings": {"token": null, "signed": "0", "settled": "0", "clients": []},
        "workers": [],
    })
}
