//! Sends traffic through tunnels for some seconds, and measures how much arrives.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::hosts::Host;
use crate::sockets::{connect_from, tcp, udp, udp_at};
use crate::tunnel::GATEWAY;

/// Payload of a datagram in bytes; the packet fits the tunnel's MTU.
const DATAGRAM: usize = 1_200;
/// The interval at which a paced sender sends what is due.
const STEP: Duration = Duration::from_millis(2);
/// Upper bound on what a delayed sender sends at once; a device's queue holds about as much.
const BURST: u64 = 100 * DATAGRAM as u64;

/// Traffic of one client. It ends when this is dropped.
#[derive(Debug)]
pub struct Flow {
    arrived: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Flow {
    /// Sends datagrams to a client at `rate` bytes per second, whether it reads them or not.
    pub fn paced(host: &Host, address: Ipv4Addr, rate: u64) -> Flow {
        Flow::datagrams(udp(GATEWAY), udp_at(host, address), rate)
    }

    /// The same from a client to the server.
    pub fn paced_up(host: &Host, address: Ipv4Addr, rate: u64) -> Flow {
        Flow::datagrams(udp_at(host, address), udp(GATEWAY), rate)
    }

    fn datagrams(near: UdpSocket, far: UdpSocket, rate: u64) -> Flow {
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
                    // The device drops what exceeds its queue, as any network does.
                    let _ = near.send_to(&[7; DATAGRAM], target);
                    sent += DATAGRAM as u64;
                }
                thread::sleep(STEP);
            }
        });
        flow
    }

    /// Sends a TCP stream to a client at full speed.
    pub fn bulk(host: &Host) -> Flow {
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let (far, near) = tcp(&listener, connect_from(host));
        Flow::stream(near, far)
    }

    /// The same from a client to the server.
    pub fn bulk_up(host: &Host) -> Flow {
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let (near, far) = tcp(&listener, connect_from(host));
        Flow::stream(near, far)
    }

    fn stream(mut near: TcpStream, mut far: TcpStream) -> Flow {
        let flow = Flow::new();
        near.set_write_timeout(Some(STEP * 50)).unwrap();
        far.set_read_timeout(Some(STEP * 50)).unwrap();
        let ended = Arc::clone(&flow.ended);
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // Times out on a blocked connection, so that the loop checks `ended`.
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

/// The results of a measurement.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The rate of each flow in bytes per second.
    pub rates: Vec<f64>,
    /// The largest resident memory of the watched process in bytes.
    pub resident: u64,
}

/// Measures the flows' rates and the memory of a process for `time`.
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

/// Returns the resident memory of a process in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Returns the number of packets that the server dropped for this cause, from the text of `stat`.
pub fn dropped(stat: &str, cause: &str) -> u64 {
    let line = stat.lines().find(|line| line.contains(&format!(": {cause} (")));
    let number = line.and_then(|line| line.trim().strip_prefix("dropped ")?.split(':').next()?.parse().ok());
    number.unwrap_or(0)
}
