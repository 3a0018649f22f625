//! Measures round-trip times through the tunnel: by ICMP echo on an unprivileged ping socket (icmp(7)), or by UDP echo
//! where the kernel forbids ping sockets.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, ipproto};
use serde_json::{Value, json};

use crate::exit::{Code, Failure};

/// The standard port of UDP echo (RFC 862), served by the server's end.
pub(super) const ECHO_PORT: u16 = 7;

const COUNT: u16 = 10;
const INTERVAL: Duration = Duration::from_millis(50);
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
const ICMP_ECHO: u8 = 8;
const ICMP_ECHO_REPLY: u8 = 0;
/// Type, code, checksum, identifier, sequence number (RFC 792).
const ICMP_HEADER: usize = 8;
const PAYLOAD: usize = 56;

/// The result of [`COUNT`] echoes.
#[derive(Debug, PartialEq)]
pub(super) struct Pings {
    method: &'static str,
    sent: u16,
    round_trips: Vec<Duration>,
}

impl Pings {
    pub(super) fn to_json(&self) -> Value {
        let milliseconds = |time: &Duration| time.as_secs_f64() * 1000.0;
        let total: Duration = self.round_trips.iter().sum();
        let average = total.checked_div(u32::try_from(self.round_trips.len()).unwrap_or(0));
        json!({
            "method": self.method,
            "sent": self.sent,
            "received": self.round_trips.len(),
            "rtt_ms": {
                "min": self.round_trips.iter().min().map(milliseconds),
                "avg": average.as_ref().map(milliseconds),
                "max": self.round_trips.iter().max().map(milliseconds),
            },
        })
    }
}

/// Sends the echoes one by one. Fails if none is answered: then no traffic passes.
pub(super) fn measure(gateway: Ipv4Addr) -> Result<Pings, Failure> {
    let (socket, method, to) = match icmp_socket() {
        Ok(socket) => (socket, "icmp", SocketAddrV4::new(gateway, 0)),
        Err(error) => {
            log::info!("ping sockets are not available ({error}); using UDP echo");
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| broken(&error))?;
            (socket, "udp", SocketAddrV4::new(gateway, ECHO_PORT))
        }
    };
    let mut round_trips = Vec::new();
    for sequence in 1..=COUNT {
        if let Some(time) = echo(&socket, to, sequence).map_err(|error| broken(&error))? {
            round_trips.push(time);
        }
        std::thread::sleep(INTERVAL);
    }
    if round_trips.is_empty() {
        return Err(Failure::new(Code::Failure, format!("{gateway} answered no ping through the tunnel")));
    }
    Ok(Pings { method, sent: COUNT, round_trips })
}

/// Opens a ping socket. In the demo's namespace this process is root and may allow ping sockets to its own group.
fn icmp_socket() -> io::Result<UdpSocket> {
    let enabled = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0");
    if let Err(error) = enabled {
        log::debug!("cannot set ping_group_range: {error}");
    }
    Ok(UdpSocket::from(rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP))?))
}

/// Sends one echo; `None` if no reply came in time.
fn echo(socket: &UdpSocket, to: SocketAddrV4, sequence: u16) -> io::Result<Option<Duration>> {
    let request = request(sequence);
    let started = Instant::now();
    socket.send_to(&request, to)?;
    let mut buffer = [0; 256];
    loop {
        let Some(left) = REPLY_TIMEOUT.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
            return Ok(None);
        };
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if from.ip() == *to.ip() && answers(&buffer[..length], &request) => {
                return Ok(Some(started.elapsed()));
            }
            // A late reply to an earlier echo.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Builds an ICMP echo request; the kernel fills in checksum and identifier. Over UDP the same bytes are the payload.
fn request(sequence: u16) -> [u8; ICMP_HEADER + PAYLOAD] {
    let mut message = [0; ICMP_HEADER + PAYLOAD];
    message[0] = ICMP_ECHO;
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    for (byte, value) in message[ICMP_HEADER..].iter_mut().zip(0x10..) {
        *byte = value;
    }
    message
}

/// Tells whether `reply` answers `request`: same sequence number and payload. A UDP echo keeps the type as well.
fn answers(reply: &[u8], request: &[u8]) -> bool {
    reply.len() == request.len() && (reply[0] == ICMP_ECHO_REPLY || reply[0] == ICMP_ECHO) && reply[6..] == request[6..]
}

fn broken(error: &io::Error) -> Failure {
    Failure::general(format!("cannot ping through the tunnel: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_answer_counts() {
        let first = request(1);
        let mut reply = first;
        reply[0] = ICMP_ECHO_REPLY;
        reply[2..6].copy_from_slice(&[1, 2, 3, 4]);
        assert!(answers(&reply, &first));
        assert!(!answers(&reply, &request(2)), "another sequence number");
        assert!(!answers(&reply[..63], &first), "cut short");
        reply[63] ^= 1;
        assert!(!answers(&reply, &first), "changed payload");
        let mut error = first;
        error[0] = 3;
        assert!(!answers(&error, &first), "destination unreachable");
    }

    #[test]
    fn minimum_average_maximum() {
        let round_trips = [3, 1, 2].map(Duration::from_millis).to_vec();
        let result = Pings { method: "icmp", sent: 10, round_trips }.to_json();
        assert_eq!(result["rtt_ms"], json!({"min": 1.0, "avg": 2.0, "max": 3.0}));
        assert_eq!(result["received"], 3);
    }

    #[test]
    fn an_echo_over_loopback() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let port = server.local_addr().expect("address").port();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let worker = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            let (length, from) = server.recv_from(&mut buffer).expect("receive");
            server.send_to(b"noise", from).expect("send");
            server.send_to(&buffer[..length], from).expect("send");
        });
        let time = echo(&socket, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), 1).expect("echo");
        worker.join().expect("join");
        assert!(time.is_some());
    }
}
