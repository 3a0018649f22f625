//! The line of a running client on a terminal, which changes in place once a second. Elsewhere there is none: files and
//! other programs get the lines of events alone.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app::{self, Details, Status};
use embedded::logging;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vpn_core::forward::Totals;

use crate::output;

const INTERVAL: Duration = Duration::from_secs(1);

/// The line. Dropping it takes it from the terminal.
pub(crate) struct LiveLine {
    /// Ends the thread by its drop.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LiveLine {
    /// Shows the state of this process's client on stderr; nothing unless that is a terminal.
    pub(crate) fn show(target: &impl Display) -> LiveLine {
        let nothing = LiveLine { end: None, thread: None };
        if !io::stderr().is_terminal() {
            return nothing;
        }
        let Ok(style) = ProgressStyle::with_template("{wide_msg}") else { return nothing };
        // Without a length it draws at once what it is told, at most as often as it is told.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
        output::set_live_line(Some(bar.clone()));
        logging::write_lines_by(|bytes| output::without_live_line(|| io::stderr().write(bytes)));
        let (end, ended) = mpsc::channel();
        let mut text = Text::new(target.to_string());
        let body = move || {
            loop {
                bar.set_message(text.now());
                bar.tick();
                if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return bar.finish_and_clear();
                }
            }
        };
        // Without the thread the client works as well.
        let thread = std::thread::Builder::new().name("live-line".into()).spawn(body).ok();
        LiveLine { end: Some(end), thread }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            output::set_live_line(None);
        }
    }
}

/// The text of the line, which compares the traffic with that of the second before.
struct Text {
    target: String,
    before: Option<(Instant, Totals)>,
}

impl Text {
    fn new(target: String) -> Text {
        Text { target, before: None }
    }

    fn now(&mut self) -> String {
        let (Some(details), Some(lease)) = (app::client_details(), app::client_lease()) else {
            self.before = None;
            let state = match app::client_status() {
                Status::Started | Status::Stopped => "connecting to",
                Status::NotStarted => "not connected to",
                Status::ConnectionLost => "connection lost to",
            };
            return format!("{state} {}", self.target);
        };
        let (now, totals) = (Instant::now(), app::client_totals());
        let since = self.before.replace((now, totals)).map(|(at, before)| (now - at, before));
        let dns = app::client_name_servers().map_or_else(String::new, |dns| match &dns.servers[..] {
            [] => String::new(),
            [only] => format!(", DNS {only}"),
            [first, others @ ..] => format!(", DNS {first} and {} more", others.len()),
        });
        let paid = app::client_paid().map_or_else(String::new, |paid| {
            format!(", {} receipts paid, {} more in the transaction", paid.receipts, paid.left)
        });
        up(&details, lease.addr, &totals, since.as_ref()) + &dns + &paid
    }
}

/// Formats a tunnel that is up. `since` has the traffic of an earlier moment and how long ago that was.
fn up(details: &Details, address: impl Display, totals: &Totals, since: Option<&(Duration, Totals)>) -> String {
    let moved = |bytes: fn(&Totals) -> u64| {
        let total = bytes(totals);
        let rate = since.map_or(0.0, |(time, before)| {
            total.saturating_sub(bytes(before)) as f64 * 8.0 / time.as_secs_f64().max(0.001) / 1e6
        });
        format!("{} ({rate:.1} Mbit/s)", HumanBytes(total))
    };
    let round_trip = match details.round_trip {
        Some(time) => format!(", RTT {:.1} ms", time.as_micros() as f64 / 1000.0),
        None => String::new(),
    };
    let seconds = details.lasted.as_secs();
    let (server, up, down) = (&details.server, moved(|totals| totals.up_bytes), moved(|totals| totals.down_bytes));
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("up {hours}:{minutes:02}:{seconds:02} {server} as {address}: sent {up}, received {down}{round_trip}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpn_core::forward::{Counters, Load};

    #[test]
    fn the_line_has_traffic_rate_and_round_trip() {
        let counters = Counters::new(1);
        counters.up(0, Load { packets: 1, bytes: 1000 });
        let before = counters.totals();
        counters.up(0, Load { packets: 1000, bytes: 1_250_000 });
        counters.down(0, Load { packets: 1, bytes: 2048 });
        let server = "vpn.test:8079".to_owned();
        let mut details = Details { server, lasted: Duration::from_secs(3725), round_trip: None };
        let line = up(&details, "10.98.0.2", &counters.totals(), Some(&(Duration::from_secs(2), before)));
        let expected =
            "up 1:02:05 vpn.test:8079 as 10.98.0.2: sent 1.19 MiB (5.0 Mbit/s), received 2.00 KiB (0.0 Mbit/s)";
        assert_eq!(line, expected);
        details.round_trip = Some(Duration::from_micros(12_345));
        assert!(
            up(&details, "10.98.0.2", &counters.totals(), None)
                .ends_with(", received 2.00 KiB (0.0 Mbit/s), RTT 12.3 ms")
        );
    }
}
