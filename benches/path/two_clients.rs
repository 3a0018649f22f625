//! Two clients of one server over separate paths: what one keeps while the other downloads at its slow line's rate.

use std::path::Path;

use testkit::median;

use crate::common::failure::Failure;
use crate::common::{INNER_SERVER, echo, iperf};
use crate::judge::{self, Target};
use crate::load;
use crate::options::Options;
use crate::paths::{Case, TWO_CLIENTS};
use crate::site::Site;
use crate::systems;

/// How often the fast client downloads alone, and beside the other, in turns.
const ROUNDS: usize = 3;

/// Measures the download of a client on 500 Mbit/s, alone and while the other one downloads over 5 Mbit/s.
pub(crate) fn measure(directory: &Path, options: &Options) -> Result<Target, Failure> {
    let (slow, fast) = (Case::plain(5, 20), Case::plain(500, 5));
    let site = Site::new(directory, &[slow.conditions(), fast.conditions()], options.host_cc)?;
    let ours = systems::ours(&site, options);
    let server = ours.start_server(&site.server, "")?;
    let mut clients = Vec::new();
    for (number, name) in ["slow", "fast"].into_iter().enumerate() {
        let (host, outer) = &site.clients[number];
        clients.push(ours.start_client(host, name, &server, outer.server, "")?);
        echo::wait_for(site.ends(number), INNER_SERVER)?;
    }
    let seconds = options.seconds.unwrap_or(4);
    let download = || -> Result<f64, Failure> {
        let end = iperf::start(site.ends(1), INNER_SERVER, seconds, &["-R".into()])?.finish()?;
        let bits = end["sum_received"]["bits_per_second"].as_f64();
        bits.map(|bits| bits / 1e6).ok_or_else(|| Failure::Failed(format!("iperf3's answer has no sums: {end}")))
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(download()?);
        beside.push(load::beside_download(site.ends(0), INNER_SERVER, seconds + 2, download)?);
        eprintln!("{TWO_CLIENTS}: alone {:.1}, beside {:.1} Mbit/s", alone[alone.len() - 1], beside[beside.len() - 1]);
    }
    let middle = |values| median(values).ok_or_else(|| Failure::Failed("no round".into()));
    Ok(judge::two_clients(TWO_CLIENTS, middle(alone)?, middle(beside)?))
}
