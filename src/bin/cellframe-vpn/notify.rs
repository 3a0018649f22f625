//! What the program tells a service manager, such as systemd (sd_notify(3)): that it is ready, what it does, and, for a
//! watchdog, that it still works. Without a service manager nothing is told.

use std::io;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app::Pulse;
use sd_notify::NotifyState;

use crate::output;

/// The variables by which a service manager speaks to this process alone.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// The shortest watchdog for which the service's tick, once a second, is sure to come in time on a busy machine.
const SHORTEST_WATCHDOG: Duration = Duration::from_secs(3);
/// How often the status may change: it is for people.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The service manager of this process, if it has one.
pub(crate) struct Manager {
    is_there: bool,
    has_failed: bool,
    status: String,
    told: Option<Instant>,
    watchdog: Option<Watchdog>,
}

/// Feeds the service manager's watchdog while all that must run does.
struct Watchdog {
    pulse: Pulse,
    /// The beats when the watchdog was last fed.
    fed: Vec<u64>,
}

impl Manager {
    /// The service manager that the environment names.
    pub(crate) fn of_environment() -> Manager {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        Manager { is_there, has_failed: false, status: String::new(), told: None, watchdog: None }
    }

    /// Says that a step of the start, such as an attempt to connect, may take this long.
    pub(crate) fn starting(&mut self, status: &str, most: Duration) {
        self.tell_status(status, &[NotifyState::ExtendTimeoutUsec(microseconds(most))]);
    }

    /// Says that the service is there, and begins to feed the watchdog.
    pub(crate) fn ready(&mut self, status: &str) {
        self.tell_status(status, &[NotifyState::Ready]);
        let Some(period) = sd_notify::watchdog_enabled().filter(|period| self.is_there && !period.is_zero()) else {
            return;
        };
        if period < SHORTEST_WATCHDOG {
            log::warn!(
                "the service manager's watchdog expects a sign of life each {period:?}; expected WatchdogSec={} or more, as \
                 there is one a second",
                SHORTEST_WATCHDOG.as_secs()
            );
        }
        self.watchdog = Some(Watchdog { pulse: Pulse::start(), fed: Vec::new() });
    }

    /// Changes the status, a line for people.
    pub(crate) fn status(&mut self, status: &str) {
        let is_due = self.told.is_none_or(|told| told.elapsed() >= STATUS_EVERY);
        if status != self.status && is_due {
            self.tell_status(status, &[]);
        }
    }

    /// Says that the configuration is read again; [`Manager::reloaded`] follows.
    pub(crate) fn reloading(&mut self) {
        let since = NotifyState::monotonic_usec_now();
        self.tell(&[Some(NotifyState::Reloading), since.ok()].into_iter().flatten().collect::<Vec<_>>());
    }

    /// Says that this is over, and how it went.
    pub(crate) fn reloaded(&mut self, status: &str) {
        self.tell_status(status, &[NotifyState::Ready]);
    }

    /// Says that the service ends, for which it may take this long, and no longer feeds the watchdog.
    pub(crate) fn stopping(&mut self, most: Duration) {
        self.watchdog = None;
        self.tell_status("stopping", &[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(microseconds(most))]);
    }

    /// Feeds the watchdog if all has run since it was fed. To be called several times a second by the thread that would
    /// also serve a signal.
    pub(crate) fn feed(&mut self) {
        let Some(watchdog) = &mut self.watchdog else { return };
        let beats = watchdog.pulse.beats();
        let is_alive = beats.len() == watchdog.fed.len() && beats.iter().zip(&watchdog.fed).all(|(now, fed)| now > fed);
        if beats.len() != watchdog.fed.len() {
            // What must run is another: it is seen to run from the next time on.
            watchdog.fed = beats;
        } else if is_alive {
            watchdog.fed = beats;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell_status(&mut self, status: &str, states: &[NotifyState<'_>]) {
        let line = status.lines().next().unwrap_or_default();
        let mut all = states.to_vec();
        all.push(NotifyState::Status(line));
        self.tell(&all);
        (self.status, self.told) = (status.to_owned(), Some(Instant::now()));
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        if !self.is_there {
            return;
        }
        let result: io::Result<()> = sd_notify::notify(states);
        if let Err(error) = result
            && !std::mem::replace(&mut self.has_failed, true)
        {
            output::note(format_args!(
                "the service manager cannot be told how the service is: {error}; expected a socket at $NOTIFY_SOCKET"
            ));
        }
    }
}

fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
