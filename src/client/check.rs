//! A check of a server: connect, send a payload, receive one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use host::patience;
use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(not(feature = "embedded"))]
use super::look_up;
use super::target::check_target;
use super::{ClientError, probe};
use crate::sdk::Running;
use crate::sdk::config::check_process_wide;
use crate::sdk::link::{Event, Link};
use crate::sdk::net::Net;
use crate::sdk::worker;
use vpn_core::wire::{self, Check, ServiceError, error_code, pkt};

/// The largest payload in each direction, in bytes.
pub(crate) const PAYLOAD_MAX: usize = 65_536;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait before the first repetition of the request; each further one is twice as long, up to the maximum. A server
/// accepts eight requests in a second.
const REPEAT_FIRST: Duration = Duration::from_millis(50);
const REPEAT_MAX: Duration = Duration::from_secs(1);
/// When a stream that is not up yet makes a TCP connection of the check's own worthwhile; earlier if the time limit is
/// short.
const PROBE_AFTER: Duration = Duration::from_millis(500);
/// A node's SDK waits whole seconds for a silent peer, and then reports the failure that it reports for everything.
const FASTER_THAN_SILENCE: Duration = Duration::from_secs(1);

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
    /// Converts C's arguments: a size of -1 means 1024, a timeout of 0 or less means 10 s.
    pub(crate) fn from_c(send: usize, receive: usize, timeout_ms: i32) -> Request {
        let size = |size: usize| if size == usize::MAX { 1024 } else { size };
        let timeout_ms = if timeout_ms <= 0 { 10_000 } else { timeout_ms.unsigned_abs() };
        Request { send: size(send), receive: size(receive), timeout: Duration::from_millis(timeout_ms.into()) }
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
    /// When the stream came up, and on which worker.
    connected: Option<(Instant, Option<u32>)>,
    /// The requests, by the time stamps that they carry.
    sent: Vec<(u64, Instant)>,
    failure: Option<SdkFailure>,
    /// What the check's own TCP connection met; `None` while that is not known.
    reached: Option<Result<(), i32>>,
    /// The end: the time from a request to its answer.
    outcome: Option<Result<Duration, ClientError>>,
}

/// The SDK could not bring the stream up.
#[derive(Clone, Copy)]
struct SdkFailure {
    errno: i32,
    /// How long after the start.
    after: Duration,
    /// The SDK makes no further attempt.
    is_final: bool,
}

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Nothing has accepted a connection, or the peer has ended it.
    Connection(i32),
    /// The peer has accepted a connection, and is silent.
    Silence,
}

impl SdkFailure {
    /// Returns the cause, or `None` while the stream may still come up or the cause is not known.
    fn cause(self, reached: Option<Result<(), i32>>) -> Option<Cause> {
        match (self.errno, reached) {
            // The SDK has waited for the TCP connection, or for the peer's answer.
            (libc::ETIMEDOUT, Some(Ok(()))) => Some(Cause::Silence),
            (libc::EINVAL, _) if self.after < FASTER_THAN_SILENCE => Some(Cause::Connection(libc::EINVAL)),
            (libc::EINVAL, Some(Err(errno))) => Some(Cause::Connection(errno)),
            (libc::EINVAL, Some(Ok(()))) if self.is_final => Some(Cause::Silence),
            (libc::EINVAL, _) if !self.is_final => None,
            (errno, _) => Some(Cause::Connection(errno)),
        }
    }
}

struct Test {
    server: String,
    started: Instant,
    /// The request, but for its times.
    check: Check,
    data: Vec<u8>,
    receive: u64,
    progress: Mutex<Progress>,
    changed: Condvar,
    link: Mutex<Option<Arc<Link>>>,
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
    check_process_wide()?;
    let _running = Running::retain().map_err(|_| ClientError::NotRunning)?;
    let started = Instant::now();
    let data: Vec<u8> = (0..request_size(request)).map(|index| (index % 251) as u8).collect();
    let test = Arc::new(Test {
        server: format!("{host}:{port}"),
        started,
        check: template(net, host, request, &data),
        data,
        receive: request.receive as u64,
        progress: Mutex::default(),
        changed: Condvar::new(),
        link: Mutex::default(),
    });
    let result = test.run(net, host, port, request.timeout);
    // Dropping it calls the SDK: not under the lock.
    let link = test.link.lock().take();
    drop(link);
    result
}

/// Returns the size of the request's payload, which is at least the size of the answer's if both are requested. A
/// node's SDK builds its answer in the request's memory, which must be large enough.
fn request_size(request: &Request) -> usize {
    if request.send == 0 { 0 } else { request.send.max(request.receive) }
}

fn template(net: &Net, host: &str, request: &Request, data: &[u8]) -> Check {
    let mut host_recv = [0; 256];
    for (to, from) in host_recv.iter_mut().take(255).zip(host.bytes()) {
        *to = from;
    }
    Check {
        net_id: net.id(),
        srv_uid: 1,
        host_recv,
        data_size_send: data.len() as u64,
        data_size_recv: request.receive as u64,
        data_size: data.len() as u64,
        data_hash: Check::hash(data),
        ..Check::default()
    }
}

impl Test {
    fn run(self: &Arc<Self>, net: &Net, host: &str, port: u16, timeout: Duration) -> Result<Timing, ClientError> {
        let events = Arc::downgrade(self);
        let handler = Arc::new(move |event: Event<'_>| {
            if let Some(test) = events.upgrade() {
                test.event(event);
            }
        });
        let limit = timeout.min(CONNECT_TIMEOUT);
        #[cfg(not(feature = "embedded"))]
        let host = &look_up::target((host, port), &self.server, None, limit, || true)?;
        let link = Link::connect(net, host, port, "R", handler).ok_or_else(|| self.cannot_connect(libc::EIO))?;
        *self.link.lock() = Some(link);
        let mut progress = self.progress.lock();
        let up = self.await_stream(&mut progress, host, port, limit)?;
        let round_trip = self.await_answer(&mut progress, up, timeout)?;
        Ok(Timing { connect: up.0 - self.started, round_trip })
    }

    /// Waits for a change in `progress`, a short while at most. Returns how long this process was stopped meanwhile: what
    /// arrived then has still to be read.
    fn wait_step(&self, progress: &mut MutexGuard<'_, Progress>, until: Instant) -> Duration {
        let until = until.min(Instant::now() + patience::STEP);
        self.changed.wait_until(progress, until);
        patience::pause_since(until)
    }

    /// Waits until the stream is up, or `limit` has passed since the start.
    fn await_stream(
        self: &Arc<Self>,
        progress: &mut MutexGuard<'_, Progress>,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<(Instant, Option<u32>), ClientError> {
        let mut deadline = self.started + limit;
        let mut probe_at = Some(self.started + PROBE_AFTER.min(limit / 4));
        loop {
            if let Some(up) = progress.connected {
                return Ok(up);
            }
            let is_late = Instant::now() >= deadline;
            let cause = progress.failure.and_then(|failure| failure.cause(progress.reached)).or_else(|| {
                is_late.then(|| match progress.reached {
                    Some(Ok(())) => Cause::Silence,
                    Some(Err(errno)) => Cause::Connection(errno),
                    None => Cause::Connection(libc::ETIMEDOUT),
                })
            });
            match cause {
                Some(Cause::Connection(errno)) => return Err(self.cannot_connect(errno)),
                Some(Cause::Silence) => return Err(self.silent("the stream", limit.min(self.started.elapsed()))),
                None => {}
            }
            if probe_at.is_some_and(|at| Instant::now() >= at) {
                probe_at = None;
                self.probe(host, port, deadline);
            }
            deadline += self.wait_step(progress, probe_at.unwrap_or(deadline));
        }
    }

    /// Waits for the answer until `timeout` has passed since the start. Repeats the request, because a server may lose
    /// data that arrives with the first bytes of a stream.
    fn await_answer(
        self: &Arc<Self>,
        progress: &mut MutexGuard<'_, Progress>,
        (connected, worker): (Instant, Option<u32>),
        timeout: Duration,
    ) -> Result<Duration, ClientError> {
        let mut deadline = self.started + timeout;
        let mut pause = REPEAT_FIRST;
        let mut repeat_at = connected + pause;
        loop {
            if let Some(outcome) = progress.outcome.take() {
                return outcome;
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.silent("a response to the check", timeout));
            }
            if now >= repeat_at {
                pause = (pause * 2).min(REPEAT_MAX);
                repeat_at = now + pause;
                let test = Arc::clone(self);
                if let Some(worker) = worker {
                    MutexGuard::unlocked(progress, || worker::exec(worker, move || test.repeat()));
                }
                continue;
            }
            deadline += self.wait_step(progress, repeat_at.min(deadline));
        }
    }

    /// Finds out whether anything accepts connections there. No SDK tells an accepted connection from none before the
    /// stream is up, and the node's reports every failure alike.
    fn probe(self: &Arc<Self>, host: &str, port: u16, deadline: Instant) {
        let test = Arc::downgrade(self);
        probe::start(host, port, deadline, move |reached| {
            if let Some(test) = test.upgrade() {
                test.progress.lock().reached = Some(reached);
                test.changed.notify_all();
            }
        });
    }

    fn event(self: &Arc<Self>, event: Event<'_>) {
        match event {
            Event::Connected(link) => self.connected(link),
            Event::Failed(errno) => self.failed(errno, errno != libc::EINVAL),
            Event::Disconnected => self.failed(0, true),
            Event::ServicePacket { kind: pkt::CHECK_RESPONSE, data } => self.finish(self.response(data)),
            Event::ServicePacket { kind: pkt::ERROR, data } => {
                if let Ok(error) = ServiceError::parse(data) {
                    // A check asks for no service that could be refused: the server cannot serve at all.
                    let text = match error.code {
                        error_code::SERVICE_INTERNAL_ERROR => "its service carries nothing now, its tunnel is down",
                        code => wire::error_text(code),
                    };
                    let reason = format!("{text} (code {:#x})", error.code);
                    let server = self.server.clone();
                    self.finish(Err(match error.may_pass() {
                        true => ClientError::Busy { server, reason },
                        false => ClientError::Refused { server, reason },
                    }));
                }
            }
            Event::ServicePacket { .. } => {}
        }
    }

    fn connected(&self, link: &Link) {
        self.progress.lock().connected = Some((Instant::now(), worker::current()));
        self.changed.notify_all();
        self.send(link);
    }

    /// The SDK has failed to bring the stream up, or has lost it.
    fn failed(&self, errno: i32, is_final: bool) {
        let mut progress = self.progress.lock();
        if progress.connected.is_some() {
            progress.outcome.get_or_insert(Err(self.cannot_connect(errno)));
        } else {
            let after = self.started.elapsed();
            let failure = progress.failure.get_or_insert(SdkFailure { errno, after, is_final });
            failure.is_final |= is_final;
        }
        self.changed.notify_all();
    }

    fn finish(&self, outcome: Result<Duration, ClientError>) {
        self.progress.lock().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// Sends the request again, unless the last one is still on its way out.
    fn repeat(&self) {
        let link = self.link.lock().clone();
        if let Some(link) = link
            && self.progress.lock().outcome.is_none()
            && link.pending(b'R') == 0
        {
            self.send(&link);
        }
    }

    fn send(&self, link: &Link) {
        let now = Instant::now();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut stamp = since_1970.as_nanos() as u64;
        let connect = {
            let mut progress = self.progress.lock();
            if let Some((last, _)) = progress.sent.last() {
                // The host's clock may be set back.
                stamp = stamp.max(last + 1);
            }
            progress.sent.push((stamp, now));
            progress.connected.map_or(Duration::ZERO, |(connected, _)| connected - self.started)
        };
        let time_connect_ms = i32::try_from(connect.as_millis()).unwrap_or(i32::MAX);
        let request = Check { send_time1: stamp, time_connect_ms, ..self.check.clone() };
        link.send(b'R', pkt::CHECK_REQUEST, &request.encode(&self.data));
    }

    fn response(&self, packet: &[u8]) -> Result<Duration, ClientError> {
        let now = Instant::now();
        let (check, data) = Check::parse(packet).map_err(|_| self.refused("its answer is malformed".into()))?;
        // A server that is asked for an empty answer may echo the request: nodes do.
        let echoed = self.receive == 0 && check.data_size == self.data.len() as u64;
        if check.data_size != self.receive && !echoed {
            return Err(self.refused("its answer has another size than was asked for".into()));
        }
        if check.data_hash != Check::hash(data) {
            return Err(self.refused("its answer was damaged on the way (the hash differs)".into()));
        }
        let progress = self.progress.lock();
        // An answer that names no request may be the first one's.
        let named = progress.sent.iter().find(|(stamp, _)| *stamp == check.send_time1);
        Ok(named.or(progress.sent.first()).map_or(Duration::ZERO, |(_, sent)| now - *sent))
    }

    fn cannot_connect(&self, errno: i32) -> ClientError {
        ClientError::Connect { server: self.server.clone(), errno }
    }

    fn refused(&self, reason: String) -> ClientError {
        ClientError::Refused { server: self.server.clone(), reason }
    }

    fn silent(&self, waiting_for: &'static str, after: Duration) -> ClientError {
        ClientError::NoAnswer { server: self.server.clone(), waiting_for, after }
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
        let of = Duration::from_millis;
        assert_eq!(Request::from_c(usize::MAX, 0, -1), Request { send: 1024, receive: 0, timeout: of(10_000) });
        assert_eq!(Request::from_c(1, usize::MAX, 1), Request { send: 1, receive: 1024, timeout: of(1) });
        assert_eq!(Request::from_c(1, 2, 20_000), Request { send: 1, receive: 2, timeout: of(20_000) });
        assert_eq!(Request::from_c(1, 2, 0).timeout, of(10_000));
    }

    #[test]
    fn the_round_trip_is_that_of_the_request_that_was_answered() {
        let check = Check { data_hash: Check::hash(b""), ..Check::default() };
        let now = Instant::now();
        let sent = |age| now - Duration::from_millis(age);
        let progress = Progress { sent: vec![(7, sent(300)), (8, sent(100))], ..Progress::default() };
        let test = Test {
            server: String::new(),
            started: now,
            check: check.clone(),
            data: Vec::new(),
            receive: 0,
            progress: Mutex::new(progress),
            changed: Condvar::new(),
            link: Mutex::default(),
        };
        let round_trip = |send_time1| test.response(&Check { send_time1, ..check.clone() }.encode(b"")).unwrap();
        let of_the_first = Duration::from_millis(300);
        assert!(round_trip(7) >= of_the_first);
        assert!((of_the_first / 3..of_the_first).contains(&round_trip(8)));
        // A server that does not echo the time stamp makes no round trip look short.
        assert!(round_trip(0) >= of_the_first);
    }

    #[test]
    fn silence_is_told_from_a_failed_connection() {
        use libc::{ECONNREFUSED, EHOSTUNREACH, EINVAL, EPROTO, ETIMEDOUT};
        let cause = |errno, after, is_final, reached| {
            SdkFailure { errno, after: Duration::from_millis(after), is_final }.cause(reached)
        };
        let connection = |errno| Some(Cause::Connection(errno));
        // The embedded SDK names the reason, and ends with it.
        assert_eq!(cause(ECONNREFUSED, 1, true, None), connection(ECONNREFUSED));
        assert_eq!(cause(EPROTO, 9000, true, Some(Ok(()))), connection(EPROTO));
        assert_eq!(cause(ETIMEDOUT, 5000, true, None), connection(ETIMEDOUT));
        assert_eq!(cause(ETIMEDOUT, 5000, true, Some(Err(EHOSTUNREACH))), connection(ETIMEDOUT));
        assert_eq!(cause(ETIMEDOUT, 9000, true, Some(Ok(()))), Some(Cause::Silence));
        // The node's says EINVAL, and tries again.
        assert_eq!(cause(EINVAL, 40, false, None), connection(EINVAL));
        assert_eq!(cause(EINVAL, 3100, false, None), None);
        assert_eq!(cause(EINVAL, 3100, false, Some(Err(EHOSTUNREACH))), connection(EHOSTUNREACH));
        assert_eq!(cause(EINVAL, 5100, false, Some(Ok(()))), None);
        assert_eq!(cause(EINVAL, 5100, true, Some(Ok(()))), Some(Cause::Silence));
        assert_eq!(cause(EINVAL, 5100, true, None), connection(EINVAL));
    }
}
