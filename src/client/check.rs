//! A check of a server: connect, send a payload, receive one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{ClientError, check_target};
use crate::sdk::Running;
use crate::sdk::link::{Event, Link};
use crate::sdk::net::Net;
use crate::sdk::worker::{self, Timer};
use vpn_core::wire::{self, Check, ServiceError, pkt};

/// The largest payload in each direction, in bytes.
pub(crate) const PAYLOAD_MAX: usize = 65_536;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Bytes to send.
    pub send: usize,
    /// Bytes to receive.
    pub receive: usize,
    /// The time limit of the whole check.
    pub timeout: Duration,
}

impl Request {
    /// Converts C's arguments: a size of -1 means 1024, a timeout of -1 means 10 s. A timeout is at least 5 s, to give
    /// a server behind a slow link time to answer.
    pub(crate) fn from_c(send: usize, receive: usize, timeout_ms: i32) -> Request {
        let size = |size: usize| if size == usize::MAX { 1024 } else { size };
        let timeout_ms = if timeout_ms < 0 { 10_000 } else { timeout_ms.max(5_000) };
        let timeout = Duration::from_millis(timeout_ms.unsigned_abs().into());
        Request { send: size(send), receive: size(receive), timeout }
    }
}

/// The durations of a successful check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the start until the stream was up.
    pub connect: Duration,
    /// From the request to its answer.
    pub round_trip: Duration,
}

#[derive(Default)]
struct Progress {
    connected: Option<Instant>,
    sent: Option<Instant>,
    outcome: Option<Result<Instant, ClientError>>,
}

struct Test {
    server: String,
    packet: Vec<u8>,
    send: u64,
    receive: u64,
    progress: Mutex<Progress>,
    changed: Condvar,
    link: Mutex<Option<Arc<Link>>>,
    timer: Mutex<Option<Timer>>,
}

/// Checks a server; blocks.
pub(crate) fn run(net: &Net, host: &str, port: u16, request: &Request) -> Result<Timing, ClientError> {
    let result = check_request(host, port, request).and_then(|host| test(net, host, port, request));
    if let Err(error) = &result {
        log::warn!("check: {error}");
    }
    result
}

fn check_request<'a>(host: &'a str, port: u16, request: &Request) -> Result<&'a str, ClientError> {
    let host = check_target(host, port)?;
    if request.send > PAYLOAD_MAX || request.receive > PAYLOAD_MAX {
        return Err(ClientError::Argument("a test sends and receives at most 65536 bytes"));
    }
    Ok(host)
}

fn test(net: &Net, host: &str, port: u16, request: &Request) -> Result<Timing, ClientError> {
    let _running = Running::retain().map_err(|_| ClientError::NotRunning)?;
    let started = Instant::now();
    let test = Arc::new(Test {
        server: format!("{host}:{port}"),
        packet: encode(net, host, request),
        send: request_size(request) as u64,
        receive: request.receive as u64,
        progress: Mutex::default(),
        changed: Condvar::new(),
        link: Mutex::default(),
        timer: Mutex::default(),
    });
    let result = test.run(net, host, port, request, started);
    test.end();
    result
}

/// Returns the size of the request's payload, which is at least the size of the answer's if both are requested. A
/// node's SDK builds its answer in the request's memory, which must be large enough.
fn request_size(request: &Request) -> usize {
    if request.send == 0 { 0 } else { request.send.max(request.receive) }
}

fn encode(net: &Net, host: &str, request: &Request) -> Vec<u8> {
    let data: Vec<u8> = (0..request_size(request)).map(|index| (index % 251) as u8).collect();
    let mut host_recv = [0; 256];
    for (to, from) in host_recv.iter_mut().take(255).zip(host.bytes()) {
        *to = from;
    }
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Check {
        net_id: net.id(),
        srv_uid: 1,
        send_time1: since_1970.as_nanos() as u64,
        host_recv,
        data_size_send: data.len() as u64,
        data_size_recv: request.receive as u64,
        data_size: data.len() as u64,
        data_hash: Check::hash(&data),
        ..Check::default()
    }
    .encode(&data)
}

impl Test {
    fn run(
        self: &Arc<Self>,
        net: &Net,
        host: &str,
        port: u16,
        request: &Request,
        started: Instant,
    ) -> Result<Timing, ClientError> {
        let events = Arc::downgrade(self);
        let handler = Arc::new(move |event: Event<'_>| {
            if let Some(test) = events.upgrade() {
                test.event(event);
            }
        });
        let link = Link::connect(net, host, port, "R", handler)
            .ok_or_else(|| ClientError::Connect { server: self.server.clone(), errno: libc::EIO })?;
        *self.link.lock() = Some(link);
        let deadline = started + request.timeout;
        let mut progress = self.progress.lock();
        let connect_deadline = (started + CONNECT_TIMEOUT).min(deadline);
        while progress.connected.is_none() && progress.outcome.is_none() {
            if self.changed.wait_until(&mut progress, connect_deadline).timed_out() {
                return Err(ClientError::Connect { server: self.server.clone(), errno: libc::ETIMEDOUT });
            }
        }
        while progress.outcome.is_none() {
            if self.changed.wait_until(&mut progress, deadline).timed_out() {
                break;
            }
        }
        let connected = progress.connected.unwrap_or(started);
        let sent = progress.sent.unwrap_or(connected);
        match progress.outcome.take() {
            Some(Ok(answered)) => Ok(Timing { connect: connected - started, round_trip: answered - sent }),
            Some(Err(error)) => Err(error),
            None => Err(ClientError::NoAnswer {
                server: self.server.clone(),
                waiting_for: "a response to the check",
                after: request.timeout,
            }),
        }
    }

    fn end(&self) {
        // Dropping either calls the SDK: not under their locks.
        let timer = self.timer.lock().take();
        drop(timer);
        let link = self.link.lock().take();
        drop(link);
    }

    fn finish(&self, outcome: Result<Instant, ClientError>) {
        let mut progress = self.progress.lock();
        if progress.outcome.is_none() {
            progress.outcome = Some(outcome);
            self.changed.notify_all();
        }
    }

    fn event(self: &Arc<Self>, event: Event<'_>) {
        let server = || self.server.clone();
        match event {
            Event::Connected(link) => self.connected(link),
            Event::Failed(errno) => self.finish(Err(ClientError::Connect { server: server(), errno })),
            Event::Disconnected => self.finish(Err(ClientError::Connect { server: server(), errno: 0 })),
            Event::ServicePacket { kind: pkt::CHECK_RESPONSE, data } => self.finish(self.response(data)),
            Event::ServicePacket { kind: pkt::ERROR, data } => {
                if let Ok(error) = ServiceError::parse(data) {
                    self.finish(Err(ClientError::Refused {
                        server: server(),
                        reason: format!("{} (code {:#x})", wire::error_text(error.code), error.code),
                    }));
                }
            }
            Event::ServicePacket { .. } => {}
        }
    }

    /// Sends the request, and repeats it every second, because a server may lose data that arrives with the first bytes
    /// of a stream.
    fn connected(self: &Arc<Self>, link: &Link) {
        self.progress.lock().connected = Some(Instant::now());
        self.changed.notify_all();
        self.send(link);
        let test = Arc::downgrade(self);
        let Some(here) = worker::current() else { return };
        *self.timer.lock() =
            Timer::start(here, Duration::from_secs(1), move || test.upgrade().is_some_and(|test| test.repeat()));
    }

    /// Repeats the request; returns false if the check is over.
    fn repeat(&self) -> bool {
        let link = self.link.lock().clone();
        if self.progress.lock().outcome.is_none()
            && let Some(link) = link
        {
            self.send(&link);
            return true;
        }
        false
    }

    fn send(&self, link: &Link) {
        self.progress.lock().sent = Some(Instant::now());
        link.send(b'R', pkt::CHECK_REQUEST, &self.packet);
    }

    fn response(&self, packet: &[u8]) -> Result<Instant, ClientError> {
        let refused = |reason: &str| ClientError::Refused { server: self.server.clone(), reason: reason.to_owned() };
        let (check, data) = Check::parse(packet).map_err(|_| refused("its answer is malformed"))?;
        // A server that is asked for an empty answer may echo the request: nodes do.
        let echoed = self.receive == 0 && check.data_size == self.send;
        if check.data_size != self.receive && !echoed {
            return Err(refused("its answer has another size than was asked for"));
        }
        if check.data_hash != Check::hash(data) {
            return Err(refused("its answer was damaged on the way (the hash differs)"));
        }
        Ok(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_is_larger_than_its_request() {
        let sent = |send, receive| request_size(&Request { send, receive, timeout: Duration::ZERO });
        assert_eq!([sent(0, 0), sent(0, 9), sent(9, 0), sent(9, 9), sent(9, 10), sent(10, 9)], [0, 0, 9, 9, 10, 10]);
    }

    #[test]
    fn conventions_of_c() {
        let seconds = Duration::from_secs;
        assert_eq!(Request::from_c(usize::MAX, 0, -1), Request { send: 1024, receive: 0, timeout: seconds(10) });
        assert_eq!(Request::from_c(1, usize::MAX, 1), Request { send: 1, receive: 1024, timeout: seconds(5) });
        assert_eq!(Request::from_c(1, 2, 20_000), Request { send: 1, receive: 2, timeout: seconds(20) });
    }
}
