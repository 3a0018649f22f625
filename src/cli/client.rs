//! `vpn_client`: start, stop, status, check, check result, init.

use super::{Answer, option, value};
#[cfg(feature = "client")]
use crate::client::report::{
    self, Details, LeaseInfo, Paid, Routed, Status, details, has_kill_switch, last_error, lease, paid, reconnects,
    routed, totals,
};
#[cfg(feature = "client")]
use crate::client::{ClientError, dns};
use crate::sdk::config::Config;
use crate::sdk::net::Net;
use crate::sdk::parts;
#[cfg(feature = "client")]
use serde_json::Map;
use serde_json::{Value, json};
#[cfg(feature = "client")]
use vpn_core::forward::Totals;

/// Runs the command. `words` are its name and its arguments.
pub(crate) fn run(words: &[String]) -> Answer {
    let format = match option(words, "-H").map(|word| word.unwrap_or_default()) {
        None | Some("hex") => c"hex",
        Some("base58") => c"base58",
        Some(_) => return Answer::new(-1, "invalid parameter -H, valid values: -H <hex | base58>"),
    };
    let name = words.first().map_or("vpn_client", String::as_str);
    let Some(net_name) = value(words, "-net") else {
        return Answer::new(-2, format!("{name} requires parameter '-net'"));
    };
    let Some(net) = Net::by_name(net_name) else {
        return Answer::new(-2, format!("{name} can't find network \"{net_name}\""));
    };
    match (words.get(1).map(String::as_str), words.get(2).map(String::as_str)) {
        (Some("start"), _) => start(&net, words),
        (Some("stop"), _) => stop(),
        (Some("status"), _) if option(words, "-json").is_some() => Answer::new(0, status_json(&net).to_string()),
        (Some("status"), _) => Answer::new(0, status(&net)),
        (Some("check"), Some("result")) => Answer::new(0, parts::client_check_result(&net, format).unwrap_or_default()),
        (Some("check"), _) => check_server(&net, words),
        (Some("init"), _) => init(&net, words),
        (Some(other), _) => Answer::new(-1, format!("parameter {other} not recognized")),
        (None, _) => Answer::new(-1, "invalid parameters"),
    }
}

/// Returns `-addr` and `-port`, or the reply that asks for the missing one.
fn target(words: &[String]) -> Result<(&str, u16), Answer> {
    let Some(host) = value(words, "-addr") else {
        return Err(Answer::new(0, "VPN server address not defined, use -addr <vpn server ipv4 address> parameter"));
    };
    match value(words, "-port").and_then(|port| port.parse().ok()).filter(|port| *port != 0) {
        Some(port) => Ok((host, port)),
        None => Err(Answer::new(0, "VPN server port not defined, use -port <vpn server port>  parameter")),
    }
}

fn start(net: &Net, words: &[String]) -> Answer {
    let (host, port) = match target(words) {
        Ok(target) => target,
        Err(answer) => return answer,
    };
    let code = parts::client_start(net, host, port);
    let sentence = match code {
        0 => "VPN client started successfully".to_owned(),
        1 => "VPN client already started".to_owned(),
        -2 | -3 => format!("Can't connect to VPN server{}", reason()),
        _ => format!("Can't start VPN client{}", reason()),
    };
    Answer::new(code, sentence)
}

/// Returns the error of the last start, if this library's client is linked and knows it.
fn reason() -> String {
    #[cfg(feature = "client")]
    if let Some(error) = last_error() {
        return format!(": {error}");
    }
    String::new()
}

fn stop() -> Answer {
    match parts::client_stop() {
        0 => Answer::new(0, "VPN client stopped successfully"),
        code => Answer::new(code, "VPN client not stopped"),
    }
}

fn status(net: &Net) -> String {
    let status = match parts::client_status() {
        0 => "VPN client not started",
        1 => "VPN client started",
        2 => "VPN client stopped",
        3 => "VPN client lost connection",
        _ => "VPN client status unknown",
    };
    let (wallet, token, value) = parts::client_wallet(net);
    format!(
        "{status}\nused:\nwallet:{}\nreceipt:{value} {}{}{}{}{}",
        wallet.as_deref().unwrap_or("none"),
        token.as_deref().unwrap_or("none"),
        tunnel(),
        loss(),
        connection(),
        kill_switch()
    )
}

/// Says that the kill switch is up, also while there is no connection.
fn kill_switch() -> &'static str {
    #[cfg(feature = "client")]
    if has_kill_switch() {
        return "\nkill switch:up";
    }
    ""
}

/// Returns what [`status`] says as JSON, for programs. A key is always there; it is null if its value is not known.
fn status_json(net: &Net) -> Value {
    let state = match parts::client_status() {
        0 => "not started",
        1 => "started",
        2 => "stopped",
        3 => "lost connection",
        _ => "unknown",
    };
    let (wallet, token, value) = parts::client_wallet(net);
    let mut status = json!({
        "state": state, "wallet": wallet, "token": token, "value": value.to_string(),
        "server": null, "connected_seconds": null, "round_trip_ms": null,
        "address": null, "gateway": null, "device": null, "mtu": null,
        "sent": null, "received": null, "marked": null, "dropped": null,
        "routes": null, "ipv6": null, "dns": null, "kill_switch": null, "reconnects": null, "paid": null,
        "reason": null,
    });
    if let Value::Object(known) = tunnel_json() {
        known.into_iter().for_each(|(key, value)| status[key] = value);
    }
    status
}

/// Returns what this library's client knows, if it is linked.
fn tunnel_json() -> Value {
    #[cfg(feature = "client")]
    {
        let mut known = json!({});
        known["reason"] = last_reason().map(|error| error.to_string()).into();
        if let Some(Details { server, lasted, round_trip }) = details() {
            known["server"] = server.into();
            known["connected_seconds"] = lasted.as_secs().into();
            known["round_trip_ms"] = round_trip.map(|time| time.as_micros() as f64 / 1000.0).into();
        }
        known["paid"] = paid().map(|paid| payments_json(&paid)).into();
        known["dns"] = dns::in_force().map(|dns| json!({"servers": dns.servers, "by": dns.way})).into();
        known["reconnects"] = reconnects().into();
        known["kill_switch"] = has_kill_switch().into();
        // They stay with the device while the client connects again.
        if let Some(routed) = routed() {
            let networks: Vec<_> = routed.networks.iter().map(ToString::to_string).collect();
            known["routes"] = json!({"networks": networks, "count": routed.routes});
            known["ipv6"] = ipv6(&routed).into();
        }
        let Some(LeaseInfo { addr, gateway, device, mtu }) = lease() else { return known };
        known["address"] = addr.to_string().into();
        known["gateway"] = gateway.to_string().into();
        known["device"] = device.into();
        known["mtu"] = mtu.into();
        let Value::Object(traffic) = traffic_json(&totals()) else { return known };
        traffic.into_iter().for_each(|(key, value)| known[key] = value);
        known
    }
    #[cfg(not(feature = "client"))]
    Value::Null
}

/// Values of datoshi are texts: a program's numbers may have fewer than 64 bits.
#[cfg(feature = "client")]
fn payments_json(paid: &Paid) -> Value {
    json!({
        "receipts": paid.receipts, "left": paid.left, "price": paid.price.to_string(), "token": paid.token,
        "units": paid.units, "unit": paid.unit_name(),
    })
}

#[cfg(feature = "client")]
fn traffic_json(totals: &Totals) -> Value {
    let drops = totals.drops.iter().filter(|(_, packets)| *packets > 0);
    json!({
        "sent": {"packets": totals.up_packets, "bytes": totals.up_bytes},
        "received": {"packets": totals.down_packets, "bytes": totals.down_bytes},
        "marked": totals.marked,
        "dropped": drops.map(|(cause, packets)| (cause.name().to_owned(), Value::from(*packets))).collect::<Map<_, _>>(),
    })
}

/// Says where the host's IPv6 goes: nowhere, or as it does without the tunnel.
#[cfg(feature = "client")]
fn ipv6(routed: &Routed) -> &'static str {
    if routed.blocks_ipv6 { "blocked" } else { "left" }
}

/// Formats what the connection is like and what leads into the tunnel, if this library's client is linked and connected.
fn connection() -> String {
    #[cfg(feature = "client")]
    if let Some(Details { server, lasted, round_trip }) = details() {
        let mut text = format!("\nserver:{server}\nconnected:{} s", lasted.as_secs());
        if let Some(time) = round_trip {
            text += &format!("\nround trip:{:.1} ms", time.as_micros() as f64 / 1000.0);
        }
        if let Some(routed) = routed() {
            let networks: Vec<_> = routed.networks.iter().map(ToString::to_string).collect();
            let for_these = if networks.is_empty() { String::new() } else { format!(" for {}", networks.join(", ")) };
            text += &format!("\nroutes:{} beside the subnet{for_these}\nipv6:{}", routed.routes, ipv6(&routed));
        }
        return text + &paid().as_ref().map_or_else(String::new, payments);
    }
    String::new()
}

/// Says what was paid on the connection, and what its transaction can pay.
#[cfg(feature = "client")]
fn payments(paid: &Paid) -> String {
    let Paid { token, price, units, receipts, left, .. } = paid;
    let unit = paid.unit_name();
    format!(
        "\npaid:{receipts} receipts of {price} datoshi {token} for {units} {unit}s, {left} more in this transaction"
    )
}

/// Returns why the connection was lost, if this library's client is linked.
fn loss() -> String {
    #[cfg(feature = "client")]
    if let Some(error) = last_reason() {
        let again = if reconnects() { "\nreconnects:yes" } else { "" };
        return format!("\nreason:{error}{again}");
    }
    String::new()
}

/// Returns why the connection was lost, or why it could not be made again.
#[cfg(feature = "client")]
fn last_reason() -> Option<ClientError> {
    let is_lost = report::status() == Status::ConnectionLost;
    last_error().filter(|error| is_lost || matches!(error, ClientError::Lost { .. }))
}

/// Formats the tunnel's address and traffic, if this library's client is linked and connected.
fn tunnel() -> String {
    #[cfg(feature = "client")]
    if let Some(lease) = lease() {
        let LeaseInfo { addr, gateway, device, mtu } = lease;
        let dns = dns::in_force().map_or_else(String::new, |dns| format!("\ndns:{dns}"));
        return format!("\naddress:{addr}\ngateway:{gateway}\ndevice:{device} mtu {mtu}{dns}{}", traffic(&totals()));
    }
    String::new()
}

#[cfg(feature = "client")]
fn traffic(totals: &Totals) -> String {
    let Totals { up_packets, up_bytes, down_packets, down_bytes, .. } = totals;
    let mut text =
        format!("\nsent:{up_packets} packets {up_bytes} bytes\nreceived:{down_packets} packets {down_bytes} bytes");
    if totals.marked > 0 {
        text += &format!("\nmarked:{} packets (congestion, RFC 3168)", totals.marked);
    }
    for (cause, packets) in totals.drops.iter().filter(|(_, packets)| *packets > 0) {
        text += &format!("\ndropped:{packets} packets {} ({})", cause.name(), cause.description());
    }
    text
}

/// Tests a server as the legacy command does: first 10 KiB up, then 10 KiB down.
fn check_server(net: &Net, words: &[String]) -> Answer {
    let (host, port) = match target(words) {
        Ok(target) => target,
        Err(answer) => return answer,
    };
    let seconds = Config::of_node().number_in("cdb", "servers_list_check_timeout", 1..=600, 20);
    let code = match parts::client_check(net, host, port, 10_240, 0, (seconds * 1000) as i32) {
        0 => parts::client_check(net, host, port, 0, 10_240, -1),
        code => code,
    };
    let sentence = match code {
        0 => "tested VPN server successfully".to_owned(),
        -2 | -3 => "Can't connect to VPN server".to_owned(),
        code => format!("Can't recognize error code={code}"),
    };
    Answer::new(code, sentence)
}

fn init(net: &Net, words: &[String]) -> Answer {
    let Some(name) = value(words, "-wallet").or_else(|| value(words, "-w")) else {
        return Answer::new(0, "Wallet not defined, use -w <wallet_name> or -wallet <wallet_name> parameter");
    };
    let Some(token) = value(words, "-token") else {
        return Answer::new(0, "Token not defined, use -token <token_name> parameter");
    };
    let Some(text) = value(words, "-value") else {
        return Answer::new(0, "Value of datoshi not defined, use -value <value of datoshi> parameter");
    };
    let Some(amount) = text.parse::<u64>().ok().filter(|amount| *amount != 0) else {
        return Answer::new(0, "Value of datoshi have to be more then 0");
    };
    let code = parts::client_update(net, name, token, amount);
    let sentence = match code {
        0 => "VPN client init successfully".to_owned(),
        -1 => format!("VPN client not init: wallet \"{name}\" cannot be opened; `wallet list` has the node's wallets"),
        -3 => "VPN client not init: no conditional transaction, probably not enough funds in the wallet, or not the \
               network's own token; the log says why"
            .to_owned(),
        _ => "VPN client not init: the log says why".to_owned(),
    };
    Answer::new(code, sentence)
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;
    use vpn_core::forward::{Counters, DropCause, Load};

    #[test]
    fn the_status_tells_traffic_marks_and_drops() {
        let counters = Counters::new(1);
        counters.up(0, Load { packets: 2, bytes: 100 });
        assert_eq!(traffic(&counters.totals()), "\nsent:2 packets 100 bytes\nreceived:0 packets 0 bytes");
        counters.marked(0, 3);
        counters.dropped(0, DropCause::Codel);
        let text = traffic(&counters.totals());
        let paid = Paid { token: "CELL".into(), price: 10, units: 20, unit: 2, receipts: 3, left: 1 };
        assert_eq!(payments(&paid), "\npaid:3 receipts of 10 datoshi CELL for 20 seconds, 1 more in this transaction");
        assert!(text.contains("\nmarked:3 packets (congestion, RFC 3168)\ndropped:1 packets codel ("), "{text}");
    }
}
