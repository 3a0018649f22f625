//! A link of a given rate and delay behind a queue, and its senders, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use vpn_core::wire::VnetHeader;

use crate::packets::{Line, TCP_HEADERS, segments, tcp, unfinished};

/// The payload of a TCP segment, in bytes.
const SEGMENT: usize = 1_350;

/// How a flow sends.
#[derive(Clone, Debug)]
pub(crate) enum Sender {
    /// As much as its window allows (RFC 5681, RFC 3168), in super-packets of `burst` segments.
    Reno { burst: usize, ecn: bool },
    /// Datagrams of `len` bytes, one each `every`.
    Datagrams { len: usize, every: Duration },
}

/// A flow and what became of it.
#[derive(Debug)]
pub(crate) struct Flow {
    sender: Sender,
    /// The congestion window and its threshold, in segments.
    window: f64,
    threshold: f64,
    in_flight: usize,
    /// The next byte or datagram that is sent, and that is received.
    sent: u64,
    received: u64,
    /// A loss of what was sent before this is the same congestion.
    recover: u64,
    acked_at: Duration,
    /// The bytes of its packets that arrived since the last [`Link::forget`].
    pub(crate) bytes: u64,
    /// How long each of them waited in the queue.
    pub(crate) waits: Vec<Duration>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The link takes the next packet.
    Free,
    /// An acknowledgement of segments up to a byte, with the number of those that are missing before them.
    Ack { flow: u16, up_to: u64, arrived: usize, lost: usize, is_marked: bool },
    /// A sender's timer.
    Timer(u16),
}

pub(crate) struct Link {
    pub(crate) line: Line,
    pub(crate) flows: Vec<Flow>,
    /// Bytes per second.
    rate: u64,
    round_trip: Duration,
    pub(crate) now: Duration,
    is_busy: bool,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    number: u64,
    /// When what waits came, by flow and first byte.
    came: BTreeMap<(u16, u64), Duration>,
}

impl Link {
    pub(crate) fn new(rate: u64, round_trip: Duration, bytes: usize) -> Link {
        let mut line = Line::new(bytes);
        // Three milliseconds, as a data path sizes what it sends.
        line.unit = (rate as usize * 3 / 1000).clamp(1_514, 65_535);
        Link {
            line,
            flows: Vec::new(),
            rate,
            round_trip,
            now: Duration::from_secs(1),
            is_busy: false,
            events: BinaryHeap::new(),
            number: 0,
            came: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, sender: Sender) -> usize {
        let flow = self.flows.len();
        self.flows.push(Flow {
            sender,
            window: 10.0,
            threshold: f64::INFINITY,
            in_flight: 0,
            sent: 0,
            received: 0,
            recover: 0,
            acked_at: self.now,
            bytes: 0,
            waits: Vec::new(),
        });
        self.at(self.now, Event::Timer(flow as u16));
        flow
    }

    /// Lets the time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now = at;
            match event {
                Event::Free => self.is_busy = false,
                Event::Ack { flow, up_to, arrived, lost, is_marked } => {
                    self.acknowledged(flow, up_to, arrived, lost, is_marked);
                }
                Event::Timer(flow) => self.timer(flow),
            }
            if !self.is_busy {
                self.transmit();
            }
        }
        self.now = end;
    }

    /// Begins to count anew.
    pub(crate) fn forget(&mut self) {
        for flow in &mut self.flows {
            flow.bytes = 0;
            flow.waits.clear();
        }
    }

    /// The share of the link's rate that all flows have used in this time.
    pub(crate) fn utilisation(&self, time: Duration) -> f64 {
        self.flows.iter().map(|flow| flow.bytes).sum::<u64>() as f64 / (self.rate as f64 * time.as_secs_f64())
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    fn transmit(&mut self) {
        let Some((header, packet)) = self.line.pop(self.now) else {
            // A rate holds the queue back.
            if let Some(ready) = self.line.queue.ready_at(self.now).filter(|ready| *ready > self.now) {
                self.is_busy = true;
                self.at(ready, Event::Free);
            }
            return;
        };
        let parts = segments(&header, &packet);
        let flow_number = u16::from_be_bytes([packet[20], packet[21]]);
        let flow = &mut self.flows[usize::from(flow_number)];
        let is_tcp = packet[9] == 6;
        let (mut arrived, mut lost) = (0, 0);
        for part in &parts {
            let (_, first) = crate::packets::label(part);
            let (missing, size) = match is_tcp {
                true => (u64::from((first as u32).wrapping_sub(flow.received as u32)), SEGMENT as u64),
                false => (first - flow.received, 1),
            };
            let first = flow.received + missing;
            lost += (missing / size) as usize;
            flow.received = first + size;
            arrived += 1;
            flow.bytes += part.len() as u64;
            flow.waits.extend(self.came.remove(&(flow_number, first)).map(|came| self.now - came));
        }
        let up_to = flow.received;
        let serialised = self.now + Duration::from_secs_f64(packet.len() as f64 / self.rate as f64);
        self.is_busy = true;
        self.at(serialised, Event::Free);
        if is_tcp {
            let is_marked = packet[1] & 3 == 3;
            let ack = Event::Ack { flow: flow_number, up_to, arrived, lost, is_marked };
            self.at(serialised + self.round_trip, ack);
        }
    }

    fn acknowledged(&mut self, number: u16, up_to: u64, arrived: usize, lost: usize, is_marked: bool) {
        let flow = &mut self.flows[usize::from(number)];
        flow.acked_at = self.now;
        flow.in_flight = flow.in_flight.saturating_sub(arrived + lost);
        if (lost > 0 || is_marked) && up_to > flow.recover {
            flow.threshold = (flow.window / 2.0).max(2.0);
            flow.window = flow.threshold;
            flow.recover = flow.sent;
        } else if flow.window < flow.threshold {
            flow.window += arrived as f64;
        } else {
            flow.window += arrived as f64 / flow.window;
        }
        self.send(number);
    }

    fn timer(&mut self, number: u16) {
        let flow = &mut self.flows[usize::from(number)];
        match flow.sender {
            Sender::Datagrams { len, every } => {
                self.came.insert((number, flow.sent), self.now);
                let packet = crate::packets::udp(number, flow.sent, len);
                flow.sent += 1;
                self.line.push(self.now, &VnetHeader::default(), &packet);
                self.at(self.now + every, Event::Timer(number));
            }
            Sender::Reno { .. } => {
                // All that was in flight is lost.
                if self.now > flow.acked_at + Duration::from_secs(1) && flow.in_flight > 0 {
                    (flow.threshold, flow.window, flow.in_flight) = (flow.window / 2.0, 1.0, 0);
                    (flow.recover, flow.acked_at) = (flow.sent, self.now);
                }
                self.at(self.now + Duration::from_millis(200), Event::Timer(number));
                self.send(number);
            }
        }
    }

    fn send(&mut self, number: u16) {
        loop {
            let flow = &mut self.flows[usize::from(number)];
            let Sender::Reno { burst, ecn } = flow.sender else { return };
            let room = (flow.window as usize).saturating_sub(flow.in_flight);
            // Part of a super-packet waits for more, unless nothing is on its way that could be acknowledged.
            if room < burst && (flow.in_flight > 0 || room == 0) {
                return;
            }
            let count = room.min(burst);
            let packet = tcp(number, if ecn { 2 } else { 0 }, flow.sent as u32, &vec![0; SEGMENT * count]);
            assert_eq!(packet.len(), TCP_HEADERS + SEGMENT * count);
            for part in 0..count {
                self.came.insert((number, flow.sent + (part * SEGMENT) as u64), self.now);
            }
            flow.sent += (SEGMENT * count) as u64;
            flow.in_flight += count;
            self.line.push(self.now, &unfinished(if count > 1 { SEGMENT } else { 0 }), &packet);
        }
    }
}
