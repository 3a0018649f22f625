//! `vpn_stat`: reports each session with a lease; with `-full` also the service's totals of forwarded packets and of
//! drops by cause.

use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Answer, option};
use crate::sdk::channel::{self, SessionView};

/// Runs the command. It ignores `-net`, as the legacy command does: sessions belong to the node, not to a network.
pub(crate) fn run(words: &[String]) -> Answer {
    #[cfg(feature = "server")]
    if let Some(answer) = super::leases::run(words) {
        return answer;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut text = outage();
    text.push_str(&report(&channel::sessions(), now));
    if option(words, "-full").is_some() {
        text.push_str(&full());
    }
    Answer::new(0, text)
}

/// Returns a line that says why the service carries nothing, or nothing while it does.
fn outage() -> String {
    #[cfg(feature = "server")]
    if let Some(why) = crate::server::outage() {
        return format!("VPN tunnel is down: {why}\n");
    }
    String::new()
}

fn report(sessions: &[SessionView], now: u64) -> String {
    // A session without a lease is not a VPN connection: it tests this server, or was refused.
    let blocks: Vec<_> =
        sessions.iter().filter(|session| session.address != 0).map(|session| block(session, now)).collect();
    if blocks.is_empty() { "No VPN connections".into() } else { blocks.join("\n") }
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
        Ipv4Addr::from(session.address.to_ne_bytes()),
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

/// Formats seconds since 1970 as RFC 822 does, in UTC, by Howard Hinnant's days-to-civil algorithm.
fn date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = seconds / 86_400;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} +0000",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
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
    fn dates() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(date(1_795_478_399), "Mon, 23 Nov 2026 23:59:59 +0000");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 +0000");
    }

    #[test]
    fn one_block_a_session() {
        assert_eq!(report(&[], 0), "No VPN connections");
        let session = SessionView {
            time_created: 1000,
            address: u32::from_ne_bytes([10, 0, 0, 2]),
            stats: SessionStats { bytes_recv: 4096, bytes_sent: 1024, packets_recv: 3, ..SessionStats::default() },
        };
        let text = report(&[session, session], 1000 + 3661);
        assert_eq!(text.matches("(length 01:01:01)").count(), 2);
        assert_eq!(text.matches("\n\n").count(), 1);
        assert!(text.contains("  client addr........10.0.0.2\n  recv...............4.00 Kb\n"), "{text}");
        assert!(text.contains("  packets recv.......3\n"), "{text}");
    }

    #[test]
    fn a_session_of_this_second_has_a_bitrate() {
        let session = SessionView { time_created: 5, address: 1, stats: SessionStats::default() };
        assert!(report(&[session], 5).contains("average bitrate....0.00 kbps"));
    }

    #[test]
    fn a_session_without_a_lease_is_no_connection() {
        let session = SessionView { time_created: 5, address: 0, stats: SessionStats::default() };
        assert_eq!(report(&[session], 5), "No VPN connections");
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
