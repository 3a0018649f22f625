//! Counts with valgrind the instructions that the packet path takes in this crate; the count is the same at each run.
//! It would reveal a look-up whose cost grows with the number of leases, or a check that reads all bytes of a packet,
//! long before any clock does.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use testkit::skip;
use vpn_core::forward::{Bundle, Networks, Offload, Policy, Route, Segments, Table, clamp_mss, is_too_big};
use vpn_core::lease::Subnet;
use vpn_core::meter::Carried;
use vpn_core::queue::{Events, Limits, Memory, Queue};
use vpn_core::wire::{self, HEADER_LEN, Header, VNET_LEN, VnetHeader, op};

const SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 8 };
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Names the work of a process under valgrind, and the number of repetitions.
const WORK: &str = "VPN_TEST_WORK";

fn client() -> Ipv4Addr {
    Ipv4Addr::from(u32::from(SUBNET.network) | 2)
}

#[test]
fn the_cost_of_a_packet_depends_neither_on_the_leases_nor_on_its_length() {
    if let Ok(work) = std::env::var(WORK) {
        let (name, times) = work.split_once(':').unwrap();
        return run(name, times.parse().unwrap());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("instructions", "valgrind is not installed");
    }
    let few = instructions("look up, 10");
    let many = instructions("look up, 65000");
    assert_eq!(few, many, "a look-up among 10 leases and among 65,000");
    assert_ne!(few, instructions("upstream, 40"), "valgrind counts other work");
    for (short, long) in [("upstream, 40", "upstream, 65000"), ("downstream, 40", "downstream, 65000")] {
        assert_eq!(instructions(short), instructions(long), "{short} and {long} bytes");
    }
    // What a session's own MTU costs each packet: a packet of TCP that opens no connection, and a super-packet.
    for name in ["fit, 1400", "fit, 65000"] {
        let fit = instructions(name) - instructions("fit nothing, 0");
        assert!(fit <= 40, "a packet may take 40 instructions to fit into its session's MTU, it takes {fit}");
    }
    // Without the loop and the hiding of its values from the compiler.
    let hidden = instructions("hide, 65000");
    let [plain, super_packet] = ["bill, 1400", "bill, 65000"].map(|name| instructions(name) - hidden);
    assert!(super_packet <= 40, "metering a packet may take 40 instructions, it takes {super_packet}");
    assert!(super_packet <= plain + 15, "billing: {plain} for a plain packet, {super_packet} for a super-packet");
}

/// A queue in use copies a packet twice; what else it does may not depend on the length. And it allocates nothing.
#[test]
fn the_cost_of_a_waiting_packet() {
    const NAME: &str = "the_cost_of_a_waiting_packet";
    if let Ok(work) = std::env::var(WORK) {
        let (name, times) = work.split_once(':').unwrap();
        return run(name, times.parse().unwrap());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("instructions", "valgrind is not installed");
    }
    let [short, long] = ["wait, 40", "wait, 65000"].map(|name| instructions_of(NAME, name));
    assert!(short <= 1_500, "a packet that waits takes {short} instructions");
    assert!(long <= short + 65_000, "copying 65,000 bytes in and out takes {} instructions", long - short);
    let full = instructions_of(NAME, "full, 1400");
    assert!(full <= 2_700, "a packet in the place of another one takes {full} instructions");
    for name in ["wait, 1400", "full, 1400"] {
        let [once, twice] = [1_000, 2_000].map(|times| allocations(NAME, name, times));
        println!("{name}: {once} and {twice} allocations");
        assert!(once > 0 && twice.abs_diff(once) < 10, "{name}: {once} and {twice} allocations");
    }
}

/// Returns the instructions of one repetition: the difference that doubling their number makes.
fn instructions(name: &str) -> u64 {
    instructions_of("the_cost_of_a_packet_depends_neither_on_the_leases_nor_on_its_length", name)
}

fn instructions_of(test: &str, name: &str) -> u64 {
    const TIMES: u64 = 1_000;
    let [once, twice] = [TIMES, 2 * TIMES].map(|times| counted(test, name, times));
    let each = (twice - once) as f64 / TIMES as f64;
    println!("{name}: {each:.2} instructions");
    assert!(each > 1.0, "{name} does nothing");
    each.round() as u64
}

fn counted(test: &str, name: &str, times: u64) -> u64 {
    let tool = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_loop*"];
    valgrind(&tool, "Collected : ", test, name, times)
}

/// Returns how often a process that does the work this often allocates.
fn allocations(test: &str, name: &str, times: u64) -> u64 {
    valgrind(&["--tool=memcheck"], "total heap usage: ", test, name, times)
}

/// Runs this work under valgrind, and returns the number behind `heading` in its report.
fn valgrind(tool: &[&str], heading: &str, test: &str, name: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(tool)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=1", test])
        .env(WORK, format!("{name}:{times}"))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stderr);
    let line = output.lines().find_map(|line| line.split_once(heading));
    let (_, number) = line.unwrap_or_else(|| panic!("valgrind counted nothing: {output}"));
    number.split_whitespace().next().unwrap_or_default().replace(',', "").parse().unwrap()
}

/// valgrind counts only calls from here. The function has no closure of its own: that would have a similar name and end
/// the counting.
#[inline(never)]
fn counted_loop(times: u64, mut work: impl FnMut()) {
    for _ in 0..times {
        work();
    }
}

fn run(name: &str, times: u64) {
    let (name, argument) = name.split_once(", ").unwrap();
    let argument = argument.parse().unwrap();
    match name {
        "look up" => {
            let table = Table::new(&SUBNET, 2);
            for host in 0..argument as u32 {
                assert!(table.set(Ipv4Addr::from(u32::from(client()) + host), Route { worker: 0, slot: host }));
            }
            let last = Ipv4Addr::from(u32::from(client()) + argument as u32 - 1);
            counted_loop(times, || assert!(table.get(black_box(last)).is_some()));
        }
        "upstream" => {
            let inner = packet(client(), OUTSIDE, argument);
            let record = [&(inner.len() as u16).to_le_bytes(), [0; VNET_LEN].as_slice(), &inner].concat();
            let header = Header { sock_id: 0, op: op::BUNDLE_SEND, usage_id: 1, value: record.len() as u32 };
            let bundle = [header.to_bytes().as_slice(), &record].concat();
            let policy = Policy { subnet: &SUBNET, isolate: true, deny: &Networks::default() };
            counted_loop(times, || {
                let (_, message) = wire::parse_from_client(black_box(&bundle)).unwrap();
                let wire::FromClient::Bundle(data) = message else { panic!("no bundle") };
                for record in wire::records(data) {
                    let wire::Record { header, packet } = record.unwrap();
                    policy.check_upstream(&header, packet, Some(client())).unwrap();
                }
            });
        }
        "downstream" => {
            let inner = packet(OUTSIDE, client(), argument);
            let table = Table::new(&SUBNET, 2);
            assert!(table.set(client(), Route { worker: 0, slot: 0 }));
            let mut bundle = Bundle::default();
            let filled = VNET_LEN + inner.len();
            bundle.spare_capacity()[..VNET_LEN].copy_from_slice(&VnetHeader::default().to_bytes());
            bundle.spare_capacity()[VNET_LEN..filled].copy_from_slice(&inner);
            counted_loop(times, || {
                let (header, packet) = bundle.next(filled).unwrap();
                let (view, offload) = Offload::check(&header, packet).unwrap();
                assert!(table.get(view.destination).is_some() && bundle.fits(filled, wire::MAX_BUNDLE));
                bundle.keep(filled, &offload.to_header());
                assert!(bundle.packet(op::BUNDLE_RECV, op::VPN_RECV, 1).len() > HEADER_LEN);
                bundle.restart(0);
            });
        }
        "bill" => {
            let segments = Segments { is_tcp: true, ecn: false, size: 1340, ip_len: 20, header_len: 52 };
            let offload = if argument > 1400 { Offload::Segments(segments) } else { Offload::None };
            let carried = Carried::default();
            counted_loop(times, || {
                let bytes = black_box(&offload).billed(black_box(argument));
                assert!(!black_box(&carried).count(bytes as u64, 0));
            });
        }
        "fit" | "fit nothing" => {
            let segments = Segments { is_tcp: true, ecn: false, size: 1340, ip_len: 20, header_len: 52 };
            let offload = if argument > 1400 { Offload::Segments(segments) } else { Offload::None };
            let mut inner = packet(OUTSIDE, client(), argument.max(40));
            // An acknowledgement, with "don't fragment".
            (inner[6], inner[9], inner[32], inner[33]) = (0x40, 6, 0x80, 0x10);
            let view = wire::inspect(&inner).unwrap();
            let mtu = 1400;
            counted_loop(times, || {
                let (offload, view, mtu) = (black_box(&offload), black_box(&view), black_box(mtu));
                let inner = black_box(&mut inner);
                if name == "fit" {
                    assert!(!is_too_big(inner, offload, mtu));
                    clamp_mss(inner, view, offload, mtu);
                }
            });
        }
        "wait" | "full" => {
            let mut memory = Memory::new(64 << 20, 7);
            let mut queue = Queue::new(Limits { bytes: if name == "full" { 32 * argument } else { 16 << 20 } });
            let (mut events, mut space) = (Events::default(), vec![0; VNET_LEN + u16::MAX as usize]);
            let inner: Vec<_> = (0..8).map(|host| packet(OUTSIDE, Ipv4Addr::from(host), argument)).collect();
            let checked: Vec<_> = inner.iter().map(|inner| (inner, wire::inspect(inner).unwrap())).collect();
            let mut flows = checked.iter().cycle();
            let mut now = Duration::from_secs(1);
            let mut push = |queue: &mut Queue, memory: &mut Memory, now| {
                let (inner, view) = flows.next().unwrap();
                queue.push(memory, now, inner, (view, &Offload::None), u16::MAX.into(), &mut events);
            };
            for _ in 0..32 {
                push(&mut queue, &mut memory, now);
            }
            counted_loop(times, || {
                now += Duration::from_micros(10);
                push(&mut queue, &mut memory, now);
                if name == "wait" {
                    let popped = queue.pop(&mut memory, now, black_box(&mut space), &mut Events::default());
                    assert_eq!(popped, Some(VNET_LEN + argument));
                }
            });
        }
        "hide" => {
            let (offload, carried) = (Offload::None, Carried::default());
            counted_loop(times, || {
                black_box(&offload);
                black_box(&carried);
                assert_ne!(black_box(argument), 0);
            });
        }
        other => panic!("no such work: {other}"),
    }
}

fn packet(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet
}
