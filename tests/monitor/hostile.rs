//! Users of the same host who mean no good, and pages in its operator's browser.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::hosts::Hosts;
use testkit::http::{Reply, get, request};
use testkit::netns::in_namespace;

use crate::{PROGRAM, at, scrape};

/// Sends bytes, and returns the status of the answer.
fn ask(bytes: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(at()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap()
}

fn is_quick(what: &str) {
    let start = Instant::now();
    scrape();
    assert!(start.elapsed() < Duration::from_secs(2), "{what}: an honest reader waited {:?}", start.elapsed());
}

#[test]
fn nobody_keeps_an_honest_reader_out() {
    in_namespace("hostile::nobody_keeps_an_honest_reader_out", || {
        let hosts = Hosts::new(PROGRAM);
        let (_server, _) = hosts.server("server");
        requests_that_are_refused();
        foreign_pages_are_refused();

        // More silent connections than there are places, and one that sends a byte now and then.
        let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(at()).unwrap()).collect();
        let begin = Instant::now();
        is_quick("silent connections");
        let slow = TcpStream::connect(at()).unwrap();
        (&slow).write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        is_quick("a slow one");
        let mut drops = 0;
        let answered = loop {
            let mut byte = [0; 64];
            slow.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            match (&slow).read(&mut byte) {
                Ok(count) => break String::from_utf8_lossy(&byte[..count]).into_owned(),
                Err(_) => drop((&slow).write(b"x")),
            }
            drops += 1;
            assert!(drops < 40, "a byte now and then extends the deadline");
        };
        assert!(answered.starts_with("HTTP/1.1 408 "), "{answered:?}");
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        drop(silent);

        flood();
    });
}

fn requests_that_are_refused() {
    let head = |extra: &str| format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n").into_bytes();
    assert_eq!(ask(&head("")), 200);
    for (bytes, expected) in [
        (head(&format!("a: {}\r\n", "b".repeat(9000))), 431),
        (head(&"a: b\r\n".repeat(100)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "p".repeat(2000)).into_bytes(), 414),
        (b"\x16\x03\x01\x02\x00\r\n\r\n".to_vec(), 400),
        (b"DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), 405),
        (b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(), 421),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), 404),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), 404),
    ] {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(50)]).into_owned();
        assert_eq!(ask(&bytes), expected, "{text:?}");
    }
    let post = request(at(), "POST", "/metrics", "", "hello", Duration::from_secs(10));
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"), "{post:?}");
    let head_alone = ask(b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(head_alone, 200);
}

fn foreign_pages_are_refused() {
    let with_host = |host: &str| {
        let bytes = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        ask(bytes.as_bytes())
    };
    assert_eq!(["localhost:8078", "127.0.0.1", "[::1]:1"].map(with_host), [200; 3]);
    assert_eq!(["evil.example", "evil.example:8078", "localhost.evil.example"].map(with_host), [421; 3]);
    let cross: Reply = get(at(), "/metrics", "Sec-Fetch-Site: cross-site\r\nOrigin: http://evil.example\r\n");
    assert_eq!((cross.status, cross.header("access-control-allow-origin")), (403, ""), "{cross:?}");
    let own = get(at(), "/metrics", "");
    assert_eq!((own.status, own.header("access-control-allow-origin")), (200, ""));
    assert_eq!(own.header("cross-origin-resource-policy"), "same-origin");
}

/// Eight threads ask as fast as they can.
fn flood() {
    let until = Instant::now() + Duration::from_secs(1);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while Instant::now() < until {
                    let Ok(mut stream) = TcpStream::connect(at()) else { continue };
                    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
                }
            });
        }
        is_quick("a flood");
    });
    is_quick("after a flood");
}
