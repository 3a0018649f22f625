//! `vpn_stat`: reports each session with a lease; with `-full` also what is known of each, and the service's totals of
//! forwarded packets and of drops by cause.

#[cfg(feature = "server")]
use serde_json::Map;
use serde_json::{Value, json};

use super::names::{date, net_number};
use super::sessions::{self, Known, address, details, known};
use super::{Answer, option, value};
use crate::sdk::channel::{self, SessionView};
use crate::sdk::clock;

/// Runs the command: `-history` is the account book, `-json` the sessions for programs, `-url` the address of the
/// status page, with `-renew` a new one, `-reload` reads a node's configuration again, `-full` has all that is known of
/// each. With `-net` it shows the sessions that use this network, and those of which no network is known.
pub(crate) fn run(words: &[String]) -> Answer {
    #[cfg(feature = "server")]
    if let Some(answer) = super::leases::run(words) {
        return answer;
    }
    #[cfg(feature = "server")]
    if option(words, "-url").is_some() {
        return match crate::server::monitor::url(option(words, "-renew").is_some()) {
            Ok(url) => Answer::new(0, url),
            Err(why) => Answer::new(-3, why.to_string()),
        };
    }
    #[cfg(all(feature = "server", feature = "sdk"))]
    if option(words, "-reload").is_some() {
        return reload(option(words, "-json").is_some());
    }
    #[cfg(feature = "server")]
    if option(words, "-history").is_some() {
        return super::history::run(words);
    }
    let net = match value(words, "-net").map(net_number).transpose() {
        Ok(net) => net,
        Err(refusal) => return refusal,
    };
    let now = clock::wall();
    let (is_full, is_json) = (option(words, "-full").is_some(), option(words, "-json").is_some());
    // A session without a lease is not a VPN connection: it tests this server, or was refused.
    let leased = channel::sessions().into_iter().filter(|session| session.address != 0);
    let sessions = known(leased.collect(), net);
    if is_json {
        return Answer::new(0, as_json(&sessions, now));
    }
    let mut text = outage().map_or_else(String::new, |why| format!("VPN tunnel is down: {why}\n"));
    text.push_str(&report(&sessions, now, is_full));
    if is_full {
        text.push_str(&full());
    }
    Answer::new(0, text)
}

/// Reads the node's configuration again; the answer and the log say what has changed.
#[cfg(all(feature = "server", feature = "sdk"))]
fn reload(is_json: bool) -> Answer {
    match crate::server::reread::reread() {
        Ok(report) => {
            log::info!(target: crate::sdk::NOTICE, "{}", report.summary());
            report.applied.iter().for_each(|change| log::info!(target: crate::sdk::NOTICE, "changed: {change}"));
            report.restart.iter().for_each(|change| log::warn!("needs a restart: {change}"));
            Answer::new(0, if is_json { report.to_json().to_string() } else { report.to_string() })
        }
        Err(error) => {
            let why = error.map_or_else(|| "the node's configuration cannot be read".into(), |error| error.to_string());
            let text = format!("{why}; nothing has changed, the configuration before stays in force");
            log::error!("reload: {text}");
            Answer::new(-2, text)
        }
    }
}

/// Returns why the service carries nothing; `None` while it does.
fn outage() -> Option<String> {
    #[cfg(feature = "server")]
    return crate::server::outage();
    #[cfg(not(feature = "server"))]
    None
}

fn report(sessions: &[Known], now: u64, is_full: bool) -> String {
    let text = |known: &Known| block(&known.view, now) + &if is_full { details(known) } else { String::new() };
    let blocks: Vec<_> = sessions.iter().map(text).collect();
    if blocks.is_empty() { "No VPN connections".into() } else { blocks.join("\n") }
}

/// Returns the sessions, and the service's traffic and drops since its start, for programs.
fn as_json(sessions: &[Known], now: u64) -> String {
    let sessions: Vec<_> = sessions.iter().map(|known| sessions::as_json(known, now)).collect();
    json!({"outage": outage(), "sessions": sessions, "total": totals_json()}).to_string()
}

/// Returns the service's totals, if this library's server is linked and runs.
fn totals_json() -> Value {
    #[cfg(feature = "server")]
    if let Some(totals) = crate::server::totals() {
        let drops = totals.drops.iter().filter(|(_, packets)| *packets > 0);
        let drops: Map<_, _> = drops.map(|(cause, packets)| (cause.name().to_owned(), (*packets).into())).collect();
        return json!({
            "sent": {"packets": totals.up_packets, "bytes": totals.up_bytes},
            "received": {"packets": totals.down_packets, "bytes": totals.down_bytes},
            "marked": totals.marked,
            "dropped": drops,
        });
    }
    Value::Null
}

/// Formats the service's totals, if this library's server is linked and runs.
fn full() -> String {
    #[cfg(feature = "server")]
    if let Some(totals) = crate::server::totals() {
        return totals_text(&totals);
    }
    String::new()
}

#[cfg(feature = "server")]
fn totals_text(totals: &vpn_core::forward::Totals) -> String {
    let drops: String = totals
        .drops
        .iter()
        .filter(|(_, packets)| *packets > 0)
        .map(|(cause, packets)| format!("  dropped {packets}: {} ({})\n", cause.name(), cause.description()))
        .collect();
    let marked = match totals.marked {
        0 => String::new(),
        packets => format!("  marked.............{packets} packets (congestion, RFC 3168)\n"),
    };
    format!(
        "\nVPN service since its start\n  from clients.......{} packets, {}\n  to clients.........{} packets, {}\n{marked}{}",
        totals.up_packets,
        size(totals.up_bytes),
        totals.down_packets,
        size(totals.down_bytes),
        if drops.is_empty() { "  dropped............none\n".into() } else { drops }
    )
}

fn block(session: &SessionView, now: u64) -> String {
    let stats = &session.stats;
    let age = now.saturating_sub(session.time_created);
    let moved = (stats.bytes_recv + stats.bytes_sent) as f64;
    format!(
        "  start at {} (length {:02}:{:02}:{:02})\n\
         \x20 client addr........{}\n\
         \x20 recv...............{}\n\
         \x20 recv lost..........{}\n\
         \x20 send...............{}\n\
         \x20 send lost..........{}\n\
         \x20 packets recv.......{}\n\
         \x20 packets recv lost..{}\n\
         \x20 packets send.......{}\n\
         \x20 packets send lost..{}\n\
         \x20 average bitrate....{:.2} kbps\n",
        date(session.time_created),
        age / 3600,
        age % 3600 / 60,
        age % 60,
        address(session),
        size(stats.bytes_recv),
        size(stats.bytes_recv_lost),
        size(stats.bytes_sent),
        size(stats.bytes_sent_lost),
        stats.packets_recv,
        stats.packets_recv_lost,
        stats.packets_sent,
        stats.packets_sent_lost,
        moved / age.max(1) as f64 / 1024.0,
    )
}

/// Formats a size as the legacy command does: from twice a unit's size on it uses that unit.
fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "Tb"), (30, "Gb"), (20, "Mb"), (10, "Kb")];
    match UNITS.into_iter().find(|(shift, _)| bytes >> shift >= 2) {
        Some((shift, unit)) => format!("{:.2} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdk::channel::SessionStats;

    #[test]
    fn sizes_as_the_legacy_command_wrote_them() {
        let cases = [
            (0, "0 bytes"),
            (2047, "2047 bytes"),
            (2048, "2.00 Kb"),
            (2048 * 1024 - 1, "2048.00 Kb"),
            (2048 * 1024, "2.00 Mb"),
            (3 << 30, "3.00 Gb"),
            (5 << 40, "5.00 Tb"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn one_block_a_session() {
        assert_eq!(report(&[], 0, false), "No VPN connections");
        let session = SessionView {
            time_created: 1000,
            address: u32::from_ne_bytes([10, 0, 0, 2]),
            stats: SessionStats { bytes_recv: 4096, bytes_sent: 1024, packets_recv: 3, ..SessionStats::default() },
        };
        let text = report(&known(vec![session, session], None), 1000 + 3661, false);
        assert_eq!(text.matches("(length 01:01:01)").count(), 2);
        assert_eq!(text.matches("\n\n").count(), 1);
        assert!(text.contains("  client addr........10.0.0.2\n  recv...............4.00 Kb\n"), "{text}");
        assert!(text.contains("  packets recv.......3\n"), "{text}");
    }

    #[test]
    fn a_session_of_this_second_has_a_bitrate() {
        let session = SessionView { time_created: 5, address: 1, stats: SessionStats::default() };
        assert!(report(&known(vec![session], None), 5, false).contains("average bitrate....0.00 kbps"));
    }

    #[cfg(feature = "server")]
    #[test]
    fn drops_are_told_by_cause() {
        let counters = vpn_core::forward::Counters::new(1);
        counters.up(0, vpn_core::forward::Load { packets: 1, bytes: 4096 });
        let text = totals_text(&counters.totals());
        assert!(text.contains("from clients.......1 packets, 4.00 Kb\n"), "{text}");
        assert!(text.ends_with("dropped............none\n"), "{text}");
        counters.dropped(0, vpn_core::forward::DropCause::SpoofedSource);
        counters.marked(0, 7);
        let text = totals_text(&counters.totals());
        assert!(
            text.ends_with("dropped 1: spoofed_source (the source is not the sender's leased address)\n"),
            "{text}"
        );
        assert!(text.contains("\n  marked.............7 packets (congestion, RFC 3168)\n"), "{text}");
    }
}
