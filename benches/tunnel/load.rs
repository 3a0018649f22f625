//! Traffic through a tunnel, and its cost: iperf3 for throughput, a datagram there and back for latency.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::median;

use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::options::Options;
use crate::running::WAIT_TIMEOUT;
use crate::tunnel::Tunnel;
use crate::types::{Datagrams, Ends, Load, Sample};

const IPERF_PORT: u16 = 5201;
const ECHO_PORT: u16 = 5300;

/// Sends traffic of one kind from one end to the other.
pub(crate) fn measure(load: Load, hosts: &Hosts, tunnel: &Tunnel, options: &Options) -> Result<Sample, Failure> {
    let (port, seconds) = (IPERF_PORT.to_string(), options.seconds.to_string());
    let mut server = hosts.server.start(Command::new("iperf3").args(["-s", "-1", "-p", &port]))?;
    server.wait_for("it listens", |server| server.sees_listener(IPERF_PORT).then_some(()))?;
    let mut command = Command::new("iperf3");
    command.args(["-J", "-p", &port, "-t", &seconds, "-c", &tunnel.gateway.to_string()]);
    if matches!(load, Load::Tcp4Up | Load::Tcp4Down) {
        command.args(["-P", "4"]);
    }
    if load.is_udp() {
        command.args(["-u", "-b", "0", "-l", &load.datagram(options.mtu).to_string()]);
    }
    if load.is_down() {
        command.arg("-R");
    }
    let before = tunnel.cpu()?;
    let client = hosts.client.start(&command)?;
    let answer = client.output(WAIT_TIMEOUT + Duration::from_secs(options.seconds.into()))?;
    let after = tunnel.cpu()?;

    let answer: Value = serde_json::from_str(&answer).map_err(Failure::during("iperf3's answer"))?;
    if let Some(error) = answer["error"].as_str() {
        return Err(Failure::Failed(format!("iperf3: {error}")));
    }
    let mut sample = if load.is_udp() { datagrams(&answer["end"]) } else { stream(&answer["end"]) }
        .ok_or_else(|| Failure::Failed(format!("iperf3's answer has no sums: {}", answer["end"])))?;
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

/// Checks that iperf3 is installed; the error says how to get it.
pub(crate) fn require_iperf3() -> Result<(), Failure> {
    match Command::new("iperf3").arg("--version").output() {
        Ok(_) => Ok(()),
        Err(error) => {
            let how = "install it, on Debian and Ubuntu with `apt-get install iperf3`";
            Err(Failure::Missing(format!("iperf3 sends the traffic and cannot be run ({error}): {how}")))
        }
    }
}

/// Waits until the server's end sends a datagram back.
pub(crate) fn wait_for_echo(hosts: &Hosts, gateway: Ipv4Addr) -> Result<(), Failure> {
    const ATTEMPT: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + WAIT_TIMEOUT;
    with_echo(hosts, gateway, ATTEMPT, |socket| {
        // An answer to an earlier datagram counts too.
        while send_and_receive(socket, 0).is_err() {
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!("no packet passes to {gateway} and back in {WAIT_TIMEOUT:?}")));
            }
            // A send error occurs at once.
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })
}

/// Returns the median round trip of a small datagram to the server's end on an otherwise idle tunnel, in seconds.
pub(crate) fn round_trip(hosts: &Hosts, gateway: Ipv4Addr) -> Result<f64, Failure> {
    const LENGTH: Duration = Duration::from_secs(1);
    let times = with_echo(hosts, gateway, Duration::from_secs(1), |socket| {
        let (begin, mut times) = (Instant::now(), Vec::new());
        for number in 1_u64.. {
            let sent = Instant::now();
            if sent - begin >= LENGTH {
                break;
            }
            // A lost datagram gives no time; the throughput shows whether the others arrive.
            if send_and_receive(socket, number).is_ok_and(|answer| answer == number) {
                times.push(sent.elapsed().as_secs_f64());
            }
        }
        Ok(times)
    })?;
    median(times).ok_or_else(|| Failure::Failed(format!("{gateway} answers no datagram")))
}

/// Calls `job` with a socket on the client whose datagrams the server echoes, and whose reads wait for this time.
fn with_echo<T>(
    hosts: &Hosts,
    gateway: Ipv4Addr,
    wait: Duration,
    job: impl FnOnce(&UdpSocket) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let sockets = || -> io::Result<_> {
        let echo = hosts.server.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT)))?;
        echo.set_read_timeout(Some(Duration::from_millis(50)))?;
        let socket = hosts.client.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((gateway, ECHO_PORT)).map(|()| socket)
        })?;
        socket.set_read_timeout(Some(wait))?;
        Ok((echo, socket))
    };
    let (echo, socket) = sockets().map_err(Failure::during(format!("a socket for {gateway}")))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 64];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = echo.recv_from(&mut bytes) {
                    // Lost while there is no route back.
                    let _ = echo.send_to(&bytes[..length], from);
                }
            }
        });
        let result = job(&socket);
        done.store(true, Ordering::Relaxed);
        result
    })
}

fn send_and_receive(socket: &UdpSocket, number: u64) -> io::Result<u64> {
    socket.send(&number.to_le_bytes())?;
    let mut bytes = [0; 8];
    socket.recv(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
