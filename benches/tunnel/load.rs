//! Traffic through a tunnel, and its cost: iperf3 for throughput, a datagram there and back for latency.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::median;

use crate::common::failure::Failure;
use crate::common::{Ends, echo, iperf};
use crate::hosts::Hosts;
use crate::options::Options;
use crate::tunnel::Tunnel;
use crate::types::{Datagrams, Load, Sample};

/// Sends traffic of one kind from one end to the other.
pub(crate) fn measure(load: Load, hosts: &Hosts, tunnel: &Tunnel, options: &Options) -> Result<Sample, Failure> {
    let mut more: Vec<String> = Vec::new();
    if matches!(load, Load::Tcp4Up | Load::Tcp4Down) {
        more.extend(["-P".into(), "4".into()]);
    }
    if load.is_udp() {
        more.extend(["-u", "-b", "0", "-l"].map(Into::into));
        more.push(load.datagram(options.mtu).to_string());
    }
    if load.is_down() {
        more.push("-R".into());
    }
    let before = tunnel.cpu()?;
    let end = iperf::start(hosts.ends(), tunnel.gateway, options.seconds, &more)?.finish()?;
    let after = tunnel.cpu()?;

    let mut sample = if load.is_udp() { datagrams(&end) } else { stream(&end) }
        .ok_or_else(|| Failure::Failed(format!("iperf3's answer has no sums: {end}")))?;
    sample.cpu = before.zip(after).map(|(before, after)| {
        let per_gb = |before, after| (after - before) / (sample.bytes / 1e9);
        Ends { client: per_gb(before.client, after.client), server: per_gb(before.server, after.server) }
    });
    Ok(sample)
}

fn stream(end: &Value) -> Option<Sample> {
    let sum = &end["sum_received"];
    let mbit_per_second = sum["bits_per_second"].as_f64()? / 1e6;
    Some(Sample { bytes: sum["bytes"].as_f64()?, mbit_per_second, datagrams: None, cpu: None })
}

/// For UDP, iperf3 sums up the sender's count and the receiver's losses.
fn datagrams(end: &Value) -> Option<Sample> {
    let sum = &end["sum"];
    let number = |key: &str| sum[key].as_f64();
    let (packets, lost, seconds) = (number("packets")?, number("lost_packets")?, number("seconds")?);
    let arrived = (packets - lost).max(0.0);
    let bytes = number("bytes")? / packets.max(1.0) * arrived;
    Some(Sample {
        bytes,
        mbit_per_second: bytes * 8.0 / 1e6 / seconds,
        datagrams: Some(Datagrams { per_second: arrived / seconds, lost_percent: lost / packets.max(1.0) * 100.0 }),
        cpu: None,
    })
}

/// Returns the median round trip of a small datagram to the server's end on an otherwise idle tunnel, in seconds.
pub(crate) fn round_trip(hosts: &Hosts, gateway: Ipv4Addr) -> Result<f64, Failure> {
    const LENGTH: Duration = Duration::from_secs(1);
    let times = echo::with(hosts.ends(), gateway, Duration::from_secs(1), |socket| {
        let (begin, mut times) = (Instant::now(), Vec::new());
        for number in 1_u64.. {
            let sent = Instant::now();
            if sent - begin >= LENGTH {
                break;
            }
            // A lost datagram gives no time; the throughput shows whether the others arrive.
            if echo::send_and_receive(socket, number).is_ok_and(|answer| answer == number) {
                times.push(sent.elapsed().as_secs_f64());
            }
        }
        Ok(times)
    })?;
    median(times).ok_or_else(|| Failure::Failed(format!("{gateway} answers no datagram")))
}
