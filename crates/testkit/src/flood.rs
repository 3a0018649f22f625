//! Traffic from the server's host to clients for some seconds, and how much of it arrives.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::hosts::Host;
use crate::sockets::{ask_from, tcp, udp, udp_at};
use crate::tunnel::GATEWAY;

/// Bytes of a datagram, which fits into a packet of the tunnel.
const DATAGRAM: usize = 1_200;
/// How often a paced sender sends what is due.
const STEP: Duration = Duration::from_millis(2);
/// A sender that was held up makes up for so much at most, as a device's queue holds so much.
const BURST: u64 = 100 * DATAGRAM as u64;

/// Traffic to one client, until it is dropped.
#[derive(Debug)]
pub struct Flow {
    arrived: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Flow {
    /// Datagrams, so many bytes a second. They go on whether the client takes them or not.
    pub fn paced(host: &Host, address: Ipv4Addr, rate: u64) -> Flow {
        let (near, far) = (udp(GATEWAY), udp_at(host, address));
        let target = far.local_addr().unwrap();
        let flow = Flow::new();
        flow.receive_datagrams(far);
        let ended = Arc::clone(&flow.ended);
        thread::spawn(move || {
            let (began, mut sent) = (Instant::now(), 0);
            while !ended.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
                sent = sent.max(due.saturating_sub(BURST));
                while sent < due {
                    // What the device does not take is lost, as on any network.
                    let _ = near.send_to(&[7; DATAGRAM], target);
                    sent += DATAGRAM as u64;
                }
                thread::sleep(STEP);
            }
        });
        flow
    }

    /// A TCP stream, as fast as it goes.
    pub fn bulk(host: &Host) -> Flow {
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let (mut far, mut near) = tcp(&listener, ask_from(host));
        let flow = Flow::new();
        near.set_write_timeout(Some(STEP * 50)).unwrap();
        far.set_read_timeout(Some(STEP * 50)).unwrap();
        let ended = Arc::clone(&flow.ended);
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // Fails when it takes too long; then the end is looked for.
                let _ = near.write(&[7; 65_536]);
            }
        });
        let (arrived, ended) = (Arc::clone(&flow.arrived), Arc::clone(&flow.ended));
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !ended.load(Ordering::Relaxed) {
                arrived.fetch_add(far.read(&mut buffer).unwrap_or(0) as u64, Ordering::Relaxed);
            }
        });
        flow
    }

    fn new() -> Flow {
        Flow { arrived: Arc::default(), ended: Arc::default() }
    }

    fn receive_datagrams(&self, socket: UdpSocket) {
        socket.set_read_timeout(Some(STEP * 50)).unwrap();
        let (arrived, ended) = (Arc::clone(&self.arrived), Arc::clone(&self.ended));
        thread::spawn(move || {
            let mut buffer = [0; 2 * DATAGRAM];
            while !ended.load(Ordering::Relaxed) {
                arrived.fetch_add(socket.recv(&mut buffer).unwrap_or(0) as u64, Ordering::Relaxed);
            }
        });
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// What was seen during a measurement.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of each flow, bytes a second.
    pub rates: Vec<f64>,
    /// The most memory of the process that was watched, bytes.
    pub resident: u64,
}

/// Measures the flows, and watches the memory of a process meanwhile.
pub fn watch(flows: &[Flow], pid: u32, time: Duration) -> Seen {
    let arrived = || flows.iter().map(|flow| flow.arrived.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let (before, began) = (arrived(), Instant::now());
    let mut most = resident(pid);
    while began.elapsed() < time {
        thread::sleep(Duration::from_millis(50).min(time));
        most = most.max(resident(pid));
    }
    let seconds = began.elapsed().as_secs_f64();
    let rates = arrived().iter().zip(before).map(|(after, before)| (after - before) as f64 / seconds).collect();
    Seen { rates, resident: most }
}

/// Resident memory of a process, bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Packets that the server dropped for this cause, as `stat` says.
pub fn dropped(stat: &str, cause: &str) -> u64 {
    let line = stat.lines().find(|line| line.contains(&format!(": {cause} (")));
    let number = line.and_then(|line| line.trim().strip_prefix("dropped ")?.split(':').next()?.parse().ok());
    number.unwrap_or(0)
}
