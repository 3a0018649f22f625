//! Two ends of a stream: however data is written, blocked, moved, held and released in between, all of it arrives in
//! order.

use super::incoming::Incoming;
use super::outgoing::{Flushed, Outgoing};
use crate::reactor::buffers::Buffers;
use crate::tls::session::TlsSession;
use crate::tls::session_tests::{SERVER, client};
use proptest::prelude::*;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

/// TCP in one direction, which accepts a limited number of bytes.
struct Wire<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.limit);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.limit -= taken;
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct End {
    tls: TlsSession,
    out: Outgoing,
    incoming: Incoming,
    wire: Vec<u8>,
    sent: Vec<u8>,
    got: Vec<u8>,
}

impl End {
    fn new(tls: TlsSession) -> End {
        let (out, incoming) = (Outgoing::default(), Incoming::default());
        let mut end = End { tls, out, incoming, wire: Vec::new(), sent: Vec::new(), got: Vec::new() };
        end.incoming.open(&mut end.tls, end.out.control()).unwrap();
        end
    }

    fn push(&mut self, size: usize, buffers: &Buffers) {
        let begin = self.sent.len();
        self.sent.extend((begin..begin + size).map(|at| (at * 31 + at / 255) as u8));
        self.out.push(&self.sent[begin..], buffers);
    }

    fn flush(&mut self, limit: usize, buffers: &Buffers) -> bool {
        let wire = Wire { bytes: &mut self.wire, limit };
        self.out.flush(wire, &mut self.tls, buffers).unwrap() == Flushed::All
    }

    fn receive(&mut self, bytes: &mut Vec<u8>, size: usize, limit: u64, buffers: &Buffers) {
        let spare = self.incoming.spare_capacity(buffers);
        assert!(!spare.is_empty());
        let size = size.min(bytes.len()).min(spare.len());
        spare[..size].copy_from_slice(&bytes[..size]);
        bytes.drain(..size);
        self.incoming.received(size);
        assert!(!self.incoming.open(&mut self.tls, self.out.control()).unwrap());
        if let Some(traffic) = self.tls.traffic() {
            traffic.limit(limit);
        }
    }

    fn consume(&mut self, size: usize) {
        let size = size.min(self.incoming.plain().len());
        self.got.extend_from_slice(&self.incoming.plain()[..size]);
        self.incoming.consume(size);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Flush(usize),
    Receive(usize),
    Consume(usize),
    Park,
    Detach,
    Trim,
}

fn act() -> impl Strategy<Value = Act> {
    let size = || prop_oneof![0_usize..60, 0_usize..3000, 0_usize..200_000];
    prop_oneof![
        size().prop_map(Act::Push),
        size().prop_map(Act::Flush),
        size().prop_map(Act::Receive),
        size().prop_map(Act::Receive),
        size().prop_map(Act::Consume),
        Just(Act::Park),
        Just(Act::Detach),
        Just(Act::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Keys last for few records, so that they change all the time.
    #[test]
    fn all_arrives_in_order(
        acts in prop::collection::vec((0_usize..2, act()), 1..120),
        limit in 6_u64..40,
        holders in 0_usize..=16,
    ) {
        let buffers = Buffers::default();
        assert!((0..holders).all(|_| buffers.may_hold()));
        let mut ends = [
            End::new(TlsSession::client(Arc::new(client())).unwrap()),
            End::new(TlsSession::server(Arc::clone(&SERVER)).unwrap()),
        ];
        let receive = |ends: &mut [End; 2], to: usize, size: usize| {
            let mut bytes = std::mem::take(&mut ends[1 - to].wire);
            // Nothing is read while more than the next packet waits: the caller takes packets first.
            if ends[to].incoming.plain().len() > 100_000 {
                ends[to].consume(usize::MAX);
            }
            let mut incoming = std::mem::take(&mut ends[to].incoming).begin(&buffers);
            std::mem::swap(&mut ends[to].incoming, &mut incoming);
            ends[to].receive(&mut bytes, size, limit, &buffers);
            ends[1 - to].wire = bytes;
        };
        for (end, act) in acts {
            match act {
                Act::Push(size) => ends[end].push(size, &buffers),
                Act::Flush(limit) => drop(ends[end].flush(limit, &buffers)),
                Act::Receive(size) => receive(&mut ends, end, size),
                Act::Consume(size) => ends[end].consume(size),
                Act::Park => {
                    let incoming = std::mem::take(&mut ends[end].incoming).begin(&buffers);
                    ends[end].incoming = incoming;
                    ends[end].incoming.park(&buffers);
                }
                Act::Detach => ends[end].incoming.detach_from_worker(&buffers),
                Act::Trim => ends[end].incoming.trim(&buffers),
            }
        }
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for end in 0..2 {
                quiet &= ends[end].flush(100_000, &buffers);
                ends[end].consume(usize::MAX);
                quiet &= ends[end].wire.is_empty();
                receive(&mut ends, 1 - end, 70_000);
                ends[1 - end].consume(usize::MAX);
            }
        }
        for end in 0..2 {
            prop_assert!(ends[end].tls.is_established());
            prop_assert!(ends[end].sent == ends[1 - end].got);
            ends[end].incoming.trim(&buffers);
            prop_assert!(ends[end].incoming.kept() == 0, "{} bytes are kept for nothing", ends[end].incoming.kept());
        }
        // Only the initial holders still hold a block.
        let free = (0..100).take_while(|_| buffers.may_hold()).count();
        prop_assert_eq!(free, 16 - holders);
    }
}
