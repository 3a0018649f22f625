//! The round trips between this host and its clients, as the kernel's TCP measures them.

use std::time::Duration;

use crate::server::Server;
use crate::server::session::Session;

/// Round trips of the sessions that have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundTrips {
    /// Half of the sessions have at most this.
    pub(super) p50: Duration,
    /// Nine of ten have at most this.
    pub(super) p90: Duration,
    pub(super) max: Duration,
}

/// Returns them; `None` if no session has one yet.
pub(super) fn round_trips(server: &Server) -> Option<RoundTrips> {
    let channels = server.channels();
    of(channels.iter().filter_map(|channel| channel.data::<Session>()?.pulse.round_trip()).collect())
}

fn of(mut times: Vec<Duration>) -> Option<RoundTrips> {
    times.sort_unstable();
    // The smallest that at least this part of all does not exceed.
    let at = |part: usize| times.get((times.len() * part).div_ceil(100).saturating_sub(1)).copied();
    Some(RoundTrips { p50: at(50)?, p90: at(90)?, max: *times.last()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_all_sessions() {
        assert_eq!(of(Vec::new()), None);
        let one = Duration::from_millis(3);
        assert_eq!(of(vec![one]), Some(RoundTrips { p50: one, p90: one, max: one }));
        let times = of((1..=10).rev().map(Duration::from_millis).collect()).unwrap();
        assert_eq!([times.p50, times.p90, times.max].map(|time| time.as_millis()), [5, 9, 10]);
    }
}
