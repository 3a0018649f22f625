//! One HTTP connection: reads the request within bounds of size and time, answers it, and closes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use vpn_http::{BODY_MAX, HEAD_MAX, Method, Parsed, is_field_value, parse};

use super::{Request, Response, handler};
use crate::budget::Account;
use crate::deadline::Timed;
use crate::panics;

/// For a refusal after the request's deadline.
const AFTERWARDS: Duration = Duration::from_millis(100);
/// For the peer to close after the answer, at most until the request's deadline.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// What a request is counted for before its answer: its head, as its buffer grows, and the buffer of its body.
const HEAD_MEMORY: usize = 2 * HEAD_MAX;
/// What status 405 names.
const METHODS: &str = "GET, HEAD, POST";

/// Serves the connection: head, body, answer and close have one deadline together.
pub(super) fn serve(stream: &TcpStream, deadline: Instant, account: &Account) {
    // The listener's sockets do not block.
    if let Err(error) = stream.set_nonblocking(false).and_then(|()| exchange(stream, deadline, account)) {
        log::debug!("HTTP: {error}");
    }
}

/// A complete answer with a status and no other content.
pub(super) fn refusal(status: u16) -> String {
    vpn_http::refusal(status, METHODS)
}

fn exchange(stream: &TcpStream, deadline: Instant, account: &Account) -> io::Result<()> {
    let outcome = if account.covers(HEAD_MEMORY) { read_request(stream, deadline)? } else { Outcome::Refuse(503) };
    let answer = match outcome {
        Outcome::Answer { request, has_body } => {
            let response = respond(&request);
            let mime = if is_field_value(&response.mime) { &response.mime } else { "application/octet-stream" };
            let mut answer = vpn_http::head(response.status, mime, response.body.len(), None).into_bytes();
            if !account.covers(HEAD_MEMORY + answer.len() + 2 * response.body.len()) {
                answer = refusal(503).into_bytes();
            } else if has_body {
                answer.extend_from_slice(&response.body);
            }
            answer
        }
        Outcome::Refuse(status) => refusal(status).into_bytes(),
        Outcome::Gone => return Ok(()),
    };
    // A refusal that comes at the deadline fits the socket's buffer.
    let end = deadline.max(Instant::now() + AFTERWARDS);
    Timed::until(stream, end).write_all(&answer)?;
    // Reads the peer's surplus bytes for a moment: closing with unread bytes would reset the connection, and the peer
    // might lose the answer.
    stream.shutdown(Shutdown::Write)?;
    let linger = end.min(Instant::now() + LINGER_TIME);
    io::copy(&mut Timed::until(stream, linger).take(BODY_MAX), &mut io::sink())?;
    Ok(())
}

fn respond(request: &Request) -> Response {
    let Some(handler) = handler(&request.path) else {
        return Response { status: 404, mime: "text/plain".into(), body: b"Not Found\n".to_vec() };
    };
    let response = panics::catch(|| handler(request));
    let failed = || Response { status: 500, mime: "text/plain".into(), body: b"Internal Server Error\n".to_vec() };
    let response = response.unwrap_or_else(|panic| {
        host::log_bounded!(Error, "HTTP: internal error while answering {}: {panic}", request.path);
        failed()
    });
    if (200..=599).contains(&response.status) { response } else { failed() }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answer { request: Request, has_body: bool },
    Refuse(u16),
    Gone,
}

fn read_request(stream: &TcpStream, deadline: Instant) -> io::Result<Outcome> {
    let mut timed = Timed::until(stream, deadline);
    let mut head = Vec::with_capacity(2048);
    let mut chunk = [0; 2048];
    loop {
        let count = match timed.read(&mut chunk) {
            Ok(0) if head.is_empty() => return Ok(Outcome::Gone),
            Ok(0) => return Ok(Outcome::Refuse(400)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Outcome::Refuse(408)),
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&chunk[..count]);
        match parse(&head) {
            Parsed::Partial if head.len() > HEAD_MAX => return Ok(Outcome::Refuse(431)),
            Parsed::Partial => {}
            Parsed::Bad(status) => return Ok(Outcome::Refuse(status)),
            Parsed::Whole(parsed) => {
                let request = Request { path: parsed.path.to_owned(), query: parsed.query.to_owned() };
                // An answer to HEAD has no body.
                let has_body = parsed.method != Method::Head;
                // The body is read, so that closing does not reset the connection, and ignored.
                let missing = parsed.body_size.saturating_sub((head.len() - parsed.size) as u64);
                io::copy(&mut timed.take(missing), &mut io::sink())?;
                return Ok(Outcome::Answer { request, has_body });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CONNECTIONS_MAX, CONNECTIONS_MAX_PER_SOURCE, URL_PART_MAX, register, stop, unregister};
    use super::*;
    use crate::timeouts::Timeouts;
    use parking_lot::Mutex;
    use std::net::{IpAddr, TcpListener};
    use std::sync::Arc;

    /// The process has one pool of threads, and these tests count its free threads.
    static ALONE: Mutex<()> = Mutex::new(());

    fn listener() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn connect() -> TcpStream {
        connect_as(1)
    }

    /// A connection that counts for 192.0.2.`host`.
    fn connect_as(host: u8) -> TcpStream {
        let (listener, address) = listener();
        let peer = TcpStream::connect(address).unwrap();
        super::super::serve_for(Arc::new(listener.accept().unwrap().0), IpAddr::from([192, 0, 2, host]), ());
        peer
    }

    fn get_as(host: u8) -> u16 {
        let peer = connect_as(host);
        (&peer).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        status(&read(&peer))
    }

    fn read(mut peer: &TcpStream) -> String {
        let mut reply = Vec::new();
        peer.read_to_end(&mut reply).unwrap();
        String::from_utf8(reply).unwrap()
    }

    fn ask(request: &[u8]) -> String {
        let peer = connect();
        (&peer).write_all(request).unwrap();
        read(&peer)
    }

    fn status(reply: &str) -> u16 {
        reply.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap()
    }

    fn echo(path: &str) {
        register(
            path,
            Box::new(|request| Response {
                status: 200,
                mime: "text/x".into(),
                body: format!("{}?{}", request.path, request.query).into(),
            }),
        );
    }

    #[test]
    fn a_registered_path_answers() {
        let _alone = ALONE.lock();
        echo("/echo");
        let reply = ask(b"GET /echo?a=1&b=%20 HTTP/1.1\r\nHost: x\r\n\r\n");
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 15\r\nConnection: close\r\n\r\n";
        assert_eq!(reply, format!("{expected}/echo?a=1&b=%20"));
        assert_eq!(ask(b"HEAD /echo?a=1&b=%20 HTTP/1.1\r\n\r\n"), expected);
        assert!(ask(b"POST /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc").ends_with("/echo?"));
        assert!(ask(b"GET http://host:1/echo HTTP/1.1\r\n\r\n").ends_with("/echo?"));
        let peer = connect();
        for byte in b"GET /echo HTTP/1.1\r\n\r\n" {
            (&peer).write_all(&[*byte]).unwrap();
        }
        assert!(read(&peer).ends_with("/echo?"));
        assert!(unregister("/echo"));
        assert!(!unregister("/echo"));
        assert_eq!(status(&ask(b"GET /echo HTTP/1.1\r\n\r\n")), 404);
    }

    #[test]
    fn handlers_that_misbehave_become_500_or_a_plain_type() {
        let _alone = ALONE.lock();
        register("/panic", Box::new(|_| panic!("on purpose")));
        register("/status", Box::new(|_| Response { status: 99, mime: "text/x".into(), body: vec![] }));
        register("/mime", Box::new(|_| Response { status: 200, mime: "a\r\nSet-Cookie: b".into(), body: vec![] }));
        assert_eq!(status(&ask(b"GET /panic HTTP/1.1\r\n\r\n")), 500);
        assert_eq!(status(&ask(b"GET /status HTTP/1.1\r\n\r\n")), 500);
        assert!(!ask(b"GET /mime HTTP/1.1\r\n\r\n").contains("Cookie"));
        for path in ["/panic", "/status", "/mime"] {
            assert!(unregister(path));
        }
    }

    #[test]
    fn hostile_requests_are_refused() {
        let _alone = ALONE.lock();
        echo("/long");
        let with_query = |size| format!("GET /long?{} HTTP/1.1\r\n\r\n", "q".repeat(size)).into_bytes();
        assert_eq!(status(&ask(&with_query(URL_PART_MAX))), 200);
        unregister("/long");
        let table: &[(Vec<u8>, u16)] = &[
            (with_query(URL_PART_MAX + 1), 414),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(1023)).into(), 414),
            (b"GET / HTTP/1.1\r\n\r\n".into(), 404),
            (b"DELETE / HTTP/1.1\r\n\r\n".into(), 405),
            (b"get / HTTP/1.1\r\n\r\n".into(), 405),
            (b"GET / HTTP/9.9\r\n\r\n".into(), 400),
            (b"GET nowhere HTTP/1.1\r\n\r\n".into(), 400),
            (b"GET ftp://x/ HTTP/1.1\r\n\r\n".into(), 400),
            (b"GET /\0 HTTP/1.1\r\n\r\n".into(), 400),
            (b"\xff\xff\xff\xff\r\n\r\n".into(), 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n".into(), 413),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".into(), 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".into(), 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(), 400),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)).into(), 431),
            (format!("GET / HTTP/1.1\r\na: {}", "b".repeat(20_000)).into(), 431),
        ];
        for (request, expected) in table {
            let text = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
            assert_eq!(status(&ask(request)), *expected, "{text:?}");
        }
        let peer = connect();
        (&peer).write_all(b"GET / HT").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(status(&read(&peer)), 400);
    }

    #[test]
    fn no_number_of_silent_peers_keeps_another_one_out() {
        let _alone = ALONE.lock();
        stop();
        let mut silent: Vec<_> = (0..CONNECTIONS_MAX_PER_SOURCE).map(|_| connect()).collect();
        assert_eq!((get_as(1), get_as(2)), (503, 404));
        // All places are taken, by as few sources as can take them, then by one more.
        for host in 3..=6 {
            silent.extend((0..CONNECTIONS_MAX_PER_SOURCE).map(|_| connect_as(host)));
        }
        assert!(silent.len() > CONNECTIONS_MAX);
        for _ in 0..20 {
            assert_eq!(get_as(2), 404);
        }
        let start = Instant::now();
        stop();
        assert!(start.elapsed() < Timeouts::DEFAULT.request);
        assert_eq!(read(&silent[CONNECTIONS_MAX]), "");
        assert_eq!(get_as(1), 404);
    }

    /// Serves a connection whose peer does `work`, and returns the answer, and how long it took.
    fn slow(timeout: Duration, work: impl Fn(&TcpStream) + Send + 'static) -> (String, Duration) {
        let (listener, address) = listener();
        let peer = TcpStream::connect(address).unwrap();
        let served = listener.accept().unwrap().0;
        let start = Instant::now();
        let account = move || Account::of(IpAddr::from([192, 0, 2, 1]));
        let server = std::thread::spawn(move || super::serve(&served, start + timeout, &account()));
        let other = peer.try_clone().unwrap();
        let worker = std::thread::spawn(move || work(&other));
        server.join().unwrap();
        let taken = start.elapsed();
        worker.join().unwrap();
        let mut reply = Vec::new();
        // The bytes that the server did not read may reset the connection.
        let _ = (&peer).read_to_end(&mut reply);
        (String::from_utf8(reply).unwrap(), taken)
    }

    #[test]
    fn head_body_and_close_have_one_deadline_together() {
        const TIMEOUT: Duration = Duration::from_millis(500);
        let drip = |mut peer: &TcpStream, count: u32| {
            for _ in 0..count {
                if peer.write_all(b"x").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        let (reply, taken) = slow(TIMEOUT, move |peer| drip(peer, 20));
        assert_eq!(status(&reply), 408);
        assert!(taken >= TIMEOUT && taken < TIMEOUT * 2, "{taken:?}");
        // The head takes most of the time, and the body does not get as much again.
        let (reply, taken) = slow(TIMEOUT, move |mut peer| {
            std::thread::sleep(TIMEOUT * 9 / 10);
            let _ = peer.write_all(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n");
            drip(peer, 20);
        });
        assert_eq!(reply, "");
        assert!(taken >= TIMEOUT && taken < TIMEOUT * 2, "{taken:?}");
    }
}
