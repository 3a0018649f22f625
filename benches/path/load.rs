//! Traffic: bulk transfers by iperf3, and beside them a ping and a sparse flow of datagrams.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::failure::Failure;
use crate::common::host::Host;
use crate::common::running::WAIT_TIMEOUT;
use crate::common::{Ends, echo, iperf};
use crate::paths::Case;
use crate::systems::Tunnel;
use crate::types::{Bulk, Latency, Small, Way};

/// Between two packets of a small flow.
const INTERVAL: Duration = Duration::from_millis(100);
/// The payload of the sparse flow's datagrams, in bytes.
const DATAGRAM: usize = 100;
/// How long an answer may take after the last packet, and how long after the answer before it.
const LATE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(2);

/// Measures the small flows alone.
pub(crate) fn idle(hosts: Ends<&Host>, tunnel: &Tunnel) -> Result<Small, Failure> {
    small(hosts, tunnel.gateway, 15)
}

/// Measures a bulk transfer with the small flows beside it.
pub(crate) fn bulk(way: Way, case: &Case, hosts: Ends<&Host>, tunnel: &Tunnel, seconds: u32) -> Result<Bulk, Failure> {
    let mut more = vec!["-C".into(), case.congestion.name().into(), "-P".into(), case.flows.to_string()];
    if way == Way::Down {
        more.push("-R".into());
    }
    let before = tunnel.cpu()?;
    let transfer = iperf::start(hosts, tunnel.gateway, seconds, &more)?;
    let small = small(hosts, tunnel.gateway, seconds * 10 - 5)?;
    let end = transfer.finish()?;
    let after = tunnel.cpu()?;
    let sum = &end["sum_received"];
    let (bits, bytes) = (sum["bits_per_second"].as_f64(), sum["bytes"].as_f64());
    let (bits, bytes) =
        bits.zip(bytes).ok_or_else(|| Failure::Failed(format!("iperf3's answer has no sums: {end}")))?;
    let cpu = before.zip(after).map(|(before, after)| (after - before) / (bytes / 1e9));
    Ok(Bulk { mbit: bits / 1e6, small, cpu })
}

/// Waits until no queue of the last transfer is left: a datagram comes back as fast as on an idle path.
pub(crate) fn wait_until_idle(hosts: Ends<&Host>, tunnel: &Tunnel, idle: &Small) -> Result<(), Failure> {
    const LIMIT: Duration = Duration::from_secs(5);
    // On a path with loss, the next datagram tells.
    const ATTEMPT: Duration = Duration::from_secs(1);
    let fast = Duration::from_secs_f64(idle.sparse.median().unwrap_or_default() * 1.2 / 1e3) + Duration::from_millis(3);
    let deadline = Instant::now() + LIMIT;
    echo::with(hosts, tunnel.gateway, ATTEMPT, |socket| {
        for number in 1_u64.. {
            let sent = Instant::now();
            let came_back = echo::send_and_receive(socket, number).is_ok_and(|answer| answer == number);
            if (came_back && sent.elapsed() < fast) || Instant::now() > deadline {
                break;
            }
        }
        Ok(())
    })
}

/// Sends both small flows, `count` packets of each.
fn small(hosts: Ends<&Host>, gateway: Ipv4Addr, count: u32) -> Result<Small, Failure> {
    let mut command = Command::new("ping");
    command.args(["-n", "-i", "0.1", "-W", "5", "-c", &count.to_string(), &gateway.to_string()]);
    let ping = hosts.client.start(&command)?;
    let sparse = echo::with(hosts, gateway, LATE, |socket| sparse(socket, count))?;
    let said = ping.output(WAIT_TIMEOUT + INTERVAL * count)?;
    let time = |line: &str| line.split_once("time=")?.1.split(' ').next()?.parse().ok();
    let times: Vec<f64> = said.lines().filter_map(time).collect();
    if times.is_empty() {
        return Err(Failure::Failed(format!("no ping to {gateway} is answered: {said}")));
    }
    Ok(Small { ping: Latency::new(count as usize, times), sparse })
}

/// Sends numbered datagrams at their times, whether the ones before are answered or not.
fn sparse(socket: &UdpSocket, count: u32) -> Result<Latency, Failure> {
    let failed = || Failure::during("the sparse flow");
    let begin = Instant::now();
    let at = |number: u32| begin + INTERVAL * number;
    let mut times = Vec::new();
    let receive = |until: Instant, times: &mut Vec<f64>| -> Result<(), Failure> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left)).map_err(failed())?;
        let mut bytes = [0; DATAGRAM];
        // A refusal or a time-out is no answer.
        if let Ok(DATAGRAM) = socket.recv(&mut bytes)
            && let Some(sent) = bytes.first_chunk::<8>().map(|sent| Duration::from_nanos(u64::from_le_bytes(*sent)))
        {
            times.push((begin.elapsed().saturating_sub(sent)).as_secs_f64() * 1e3);
        }
        Ok(())
    };
    for number in 0..count {
        while Instant::now() < at(number) {
            receive(at(number), &mut times)?;
        }
        let mut bytes = [0; DATAGRAM];
        bytes[..8].copy_from_slice(&(begin.elapsed().as_nanos() as u64).to_le_bytes());
        // Lost where the host refuses it.
        let _ = socket.send(&bytes);
    }
    let deadline = at(count) + LATE;
    loop {
        let answered = times.len();
        receive(deadline.min(Instant::now() + SILENCE), &mut times)?;
        if times.len() == answered || times.len() == count as usize {
            break;
        }
    }
    Ok(Latency::new(count as usize, times))
}

/// Runs a job while a client downloads.
pub(crate) fn beside_download<T>(
    hosts: Ends<&Host>,
    gateway: Ipv4Addr,
    seconds: u32,
    job: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let transfer = iperf::start(hosts, gateway, seconds, &["-R".into()])?;
    // Until the line is full.
    thread::sleep(Duration::from_secs(1));
    let result = job()?;
    transfer.finish()?;
    Ok(result)
}
