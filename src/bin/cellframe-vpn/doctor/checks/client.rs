//! What a client says of its tunnel, and what goes around it.

use serde_json::Value;

use crate::doctor::facts::{ClientEnd, Facts};
use crate::doctor::finding::Finding;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(end) = &facts.client else { return Vec::new() };
    let mut findings = Vec::new();
    findings.extend(end.status.as_ref().map(connection));
    findings.push(ipv6(facts, end));
    findings
}

fn connection(status: &Value) -> Finding {
    const CHECK: &str = "connection";
    let text = |key: &str| status[key].as_str();
    match (text("state"), text("address"), text("server")) {
        (Some("started" | "stopped"), Some(address), server) => Finding::ok(
            CHECK,
            format!("the tunnel to {} is up, with the address {address}", server.unwrap_or("the server")),
        ),
        (Some("lost connection"), ..) => Finding::fault(
            CHECK,
            format!("the client has lost its connection: {}", text("reason").unwrap_or("no reason is known")),
            if status["reconnects"] == true {
                "what is routed into the tunnel does not leave; the client connects again by itself"
            } else {
                "the tunnel is gone"
            },
            &["cellframe-vpn doctor --client --connect HOST", "cellframe-vpn check HOST"],
        ),
        (state, ..) => Finding::warning(
            CHECK,
            format!("the client has no tunnel: it is {}", state.unwrap_or("in an unknown state")),
            "nothing goes through the tunnel yet",
            &["cellframe-vpn status"],
        ),
    }
}

/// The tunnel carries IPv4 alone.
fn ipv6(facts: &Facts, end: &ClientEnd) -> Finding {
    const CHECK: &str = "ipv6";
    if !facts.network.has_ipv6_default {
        return Finding::ok(CHECK, "this machine has no IPv6 to the Internet that could leave around a tunnel");
    }
    let in_force = end.status.as_ref().and_then(|status| status["ipv6"].as_str());
    let leaves = in_force.map_or(end.ipv6 == "leave", |in_force| in_force == "left");
    if !leaves {
        return Finding::ok(CHECK, "IPv6 does not leave around the tunnel: the client answers it with \"unreachable\"");
    }
    Finding::warning(
        CHECK,
        "this machine has IPv6 to the Internet, which leaves around the tunnel",
        "sites with IPv6 see this machine's own address",
        &["cellframe-vpn client ... --ipv6 block", "[vpn_client] ipv6=block"],
    )
}
