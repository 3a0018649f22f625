//! The memory that strangers make the server keep.

use crate::peer::{Peer, opened_over, packet, small_from};
use crate::server::Server;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use vpn_core::wire::{Check, pkt};

const STREAMS: usize = 250;
/// Rounds of eight CHECKs a second.
const ROUNDS: u32 = 8 * 8;
const MIB: u64 = 1024;

/// What all TCP connections keep in the kernel, KiB.
fn in_kernel() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    4 * line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
}

/// Streams of one address, with channel 'R' alone, each of which asks for 64 KiB eight times a second and reads just
/// enough to look alive.
#[test]
fn checks_of_one_address_cost_little_and_leave_nothing() {
    let server = Server::start("max_streams_per_address=256\n");
    // A first connection makes what the server keeps in any case.
    let first = opened_over(small_from(1, server.port), "R").unwrap();
    let idle = server.resident();
    let check = Check { srv_uid: 1, data_size_recv: 65_536, data_hash: Check::hash(b""), ..Check::default() };
    let message = check.encode(b"");
    let request = packet(b'R', pkt::CHECK_REQUEST, message.len() as u32, &message);
    let mut streams: Vec<Peer> = (0..STREAMS).map(|_| opened_over(small_from(1, server.port), "R").unwrap()).collect();
    for stream in &mut streams {
        stream.sock.set_nonblocking(true).unwrap();
    }
    let (mut most, mut most_in_kernel, begin) = (0, 0, Instant::now());
    for round in 0..ROUNDS {
        for stream in &mut streams {
            // Both may fail: a full socket, or nothing to read.
            let _ = stream.write_all(&request);
            let _ = stream.sock.read(&mut [0; 1024]);
        }
        most = most.max(server.resident());
        most_in_kernel = most_in_kernel.max(in_kernel());
        let next = Duration::from_millis(125) * (round + 1);
        std::thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    let held = most - idle.min(most);
    println!("{STREAMS} streams: {:.1} MiB above {:.1} MiB", held as f64 / 1024.0, idle as f64 / 1024.0);
    // That of the whole machine, other tests included.
    println!("{:.1} MiB in the kernel's TCP", most_in_kernel as f64 / 1024.0);
    assert!(most_in_kernel < 64 * MIB, "{most_in_kernel} KiB in the kernel");
    assert!(held < 32 * MIB, "{held} KiB above the {idle} KiB of an idle server");
    drop(streams);
    let gone = Instant::now();
    // The promise is 8 MiB; less shows that memory is given back.
    while server.resident() > idle + 4 * MIB {
        assert!(gone.elapsed() < Duration::from_secs(30), "{} KiB, {idle} KiB before", server.resident());
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = server.resident().saturating_sub(idle) as f64 / 1024.0;
    println!("{left:.1} MiB above it {:.1} s after they are gone", gone.elapsed().as_secs_f64());
    drop(first);
}
