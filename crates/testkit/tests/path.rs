//! Tests the path between two hosts of the real kernel: what passes takes the time that it should.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use host::lab::{LabError, Namespace};
use testkit::path::link::{Conditions, FRAMING};
use testkit::path::{End, Path};
use testkit::skip;

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
const PORT: u16 = 9000;
/// The headers of IPv4 and UDP, in bytes.
const HEADERS: usize = 28;

/// Lays a path, and calls `body` with a socket at each end, connected to each other; or says why it cannot.
fn with_path(test: &str, conditions: &Conditions, body: impl FnOnce(UdpSocket, UdpSocket, Path)) {
    let (near, far) = match Namespace::new().and_then(|near| Ok((near, Namespace::new()?))) {
        Ok(namespaces) => namespaces,
        Err(why @ LabError::NotPermitted { .. }) => return skip(test, &why.to_string()),
        Err(error) => panic!("{error}"),
    };
    if let Err(why) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        return skip(test, &format!("/dev/net/tun cannot be opened: {why}"));
    }
    let end = |namespace: &Namespace, address| End {
        namespace: namespace.clone(),
        device: "path".into(),
        address,
        prefix: 24,
    };
    let path = Path::lay(&end(&near, NEAR), &end(&far, FAR), conditions).unwrap();
    let socket = |namespace: &Namespace, own, other| {
        namespace.run(move || {
            let socket = UdpSocket::bind((own, PORT)).unwrap();
            socket.connect((other, PORT)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket
        })
    };
    body(socket(&near, NEAR, FAR), socket(&far, FAR, NEAR), path);
}

#[test]
fn a_round_trip_takes_both_delays() {
    let delay = Duration::from_millis(20);
    let conditions = Conditions { delay, ..Conditions::perfect() };
    with_path("a_round_trip_takes_both_delays", &conditions, |near, far, _path| {
        let mut fastest = Duration::MAX;
        for number in 0..10 {
            let begin = Instant::now();
            near.send(&[number]).unwrap();
            let mut bytes = [0; 16];
            assert_eq!(far.recv(&mut bytes).unwrap(), 1);
            far.send(&bytes[..1]).unwrap();
            assert_eq!(near.recv(&mut bytes).unwrap(), 1);
            assert_eq!(bytes[0], number);
            assert!(begin.elapsed() >= 2 * delay);
            fastest = fastest.min(begin.elapsed());
        }
        assert!(fastest < 2 * delay + Duration::from_millis(10), "{fastest:?}");
    });
}

#[test]
fn a_burst_arrives_at_the_rate_of_the_link_and_the_rest_is_dropped() {
    // A packet of 1000 bytes takes 1 ms, and at most 50 wait: those that find less than 49.5 kilobytes before them.
    let conditions = Conditions { rate: Some(8_000_000), buffer: 49_500, ..Conditions::perfect() };
    with_path("a_burst_arrives_at_the_rate_of_the_link_and_the_rest_is_dropped", &conditions, |near, far, path| {
        let datagram = [0; 1000 - FRAMING - HEADERS];
        let begin = Instant::now();
        for _ in 0..200 {
            near.send(&datagram).unwrap();
        }
        let mut bytes = [0; 1500];
        let mut arrivals = Vec::new();
        while let Ok(length) = far.recv(&mut bytes) {
            assert_eq!(length, datagram.len());
            arrivals.push(begin.elapsed());
        }
        // Packets that the path's thread reads while others leave find room too, but the link sends none faster.
        let last = *arrivals.last().unwrap();
        assert!((50..200).contains(&arrivals.len()), "{} arrived", arrivals.len());
        assert!(last >= Duration::from_millis(arrivals.len() as u64), "{} arrived in {last:?}", arrivals.len());
        let [down, _] = path.end();
        // The host itself may have sent a packet of IPv6 besides.
        assert!(down.offered >= 200 && down.overflowed >= 200 - arrivals.len() as u64, "{down:?}");
        assert_eq!((down.overflowed + down.delivered, down.lost), (down.offered, 0));
    });
}
