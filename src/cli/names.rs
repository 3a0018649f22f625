//! How commands name times, networks, keys and units.

use super::Answer;
use crate::sdk::net::Net;
#[cfg(feature = "server")]
use vpn_core::meter::Unit;
#[cfg(feature = "server")]
use vpn_core::wire::HashText;

/// Returns the number of a network, or the refusal of a name that this node does not know.
pub(super) fn net_number(name: &str) -> Result<u64, Answer> {
    let unknown = || Answer::new(-2, format!("vpn_stat can't find network {name:?}"));
    Net::by_name(name).map(|net| net.id()).ok_or_else(unknown)
}

/// Returns a hash as the node's commands take it.
#[cfg(feature = "server")]
pub(super) fn key(hash: &[u8; 32]) -> String {
    HashText(hash).to_string()
}

#[cfg(feature = "server")]
pub(super) fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
    }
}

/// Formats seconds since 1970 as RFC 822 does, in UTC, by Howard Hinnant's days-to-civil algorithm.
pub(super) fn date(seconds: u64) -> String {
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

    #[test]
    fn dates() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(date(1_795_478_399), "Mon, 23 Nov 2026 23:59:59 +0000");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 +0000");
    }
}
