//! The paths: their properties, their names, and the ones that the benchmark measures.

use std::time::Duration;

use clap::ValueEnum;
use testkit::path::link::Conditions;

/// The least room of a buffer, in packets of [`PACKET`] bytes.
const LEAST_PACKETS: u32 = 20;
const PACKET: u32 = testkit::path::MTU as u32 + testkit::path::link::FRAMING as u32;

/// The seed of every path's random numbers.
const SEED: u64 = 7;

/// The name, among the paths, of the measurement with two clients on two paths.
pub(crate) const TWO_CLIENTS: &str = "two-clients";

/// A congestion control of the kernel.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Congestion {
    /// Loss-based
    Reno,
    /// Loss-based
    Cubic,
    /// Model-based
    Bbr,
}

impl Congestion {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reno => "reno",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }

    pub(crate) fn is_loss_based(self) -> bool {
        self != Self::Bbr
    }
}

/// The buffer before the link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Buffer {
    /// In bandwidth-delay products.
    Products(u32),
    /// In bytes.
    Bytes(u32),
}

/// A path, and the traffic over it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// Of the link, in Mbit/s.
    pub(crate) rate: u32,
    /// One way, in ms.
    pub(crate) delay: u32,
    pub(crate) buffer: Buffer,
    /// Of the flows inside the tunnel.
    pub(crate) congestion: Congestion,
    pub(crate) flows: u32,
    /// In percent.
    pub(crate) loss: f64,
    /// In ms.
    pub(crate) jitter: u32,
    /// The share of packets that come late, in percent, and by how many ms.
    pub(crate) late: (f64, u32),
    /// Whether `congestion = host` is measured too.
    pub(crate) with_host: bool,
}

impl Case {
    /// Returns a path without loss, with a buffer of one bandwidth-delay product, for one flow of reno.
    pub(crate) fn plain(rate: u32, delay: u32) -> Case {
        Case {
            rate,
            delay,
            buffer: Buffer::Products(1),
            congestion: Congestion::Reno,
            flows: 1,
            loss: 0.0,
            jitter: 0,
            late: (0.0, 0),
            with_host: false,
        }
    }

    /// Returns for instance `20M-80ms-4bdp-reno-8f-loss1`.
    pub(crate) fn name(&self) -> String {
        let buffer = match self.buffer {
            Buffer::Products(products) => format!("{products}bdp"),
            Buffer::Bytes(bytes) => format!("{bytes}B"),
        };
        let mut name = format!("{}M-{}ms-{buffer}-{}", self.rate, self.delay, self.congestion.name());
        if self.flows > 1 {
            name += &format!("-{}f", self.flows);
        }
        if self.loss > 0.0 {
            name += &format!("-loss{}", self.loss);
        }
        if self.jitter > 0 {
            name += &format!("-jitter{}", self.jitter);
        }
        if self.late.0 > 0.0 {
            name += &format!("-late{}by{}", self.late.0, self.late.1);
        }
        name
    }

    /// Returns the buffer in bytes.
    pub(crate) fn buffer_bytes(&self) -> u32 {
        // Mbit/s times ms, over 8 bits, there and back.
        let product = self.rate * 1000 / 8 * self.delay * 2;
        match self.buffer {
            Buffer::Products(products) => (products * product).max(LEAST_PACKETS * PACKET),
            Buffer::Bytes(bytes) => bytes,
        }
    }

    pub(crate) fn conditions(&self) -> Conditions {
        let ms = |number: u32| Duration::from_millis(number.into());
        Conditions {
            rate: Some(u64::from(self.rate) * 1_000_000),
            buffer: self.buffer_bytes() as usize,
            delay: ms(self.delay),
            jitter: ms(self.jitter),
            loss: self.loss / 100.0,
            late: self.late.0 / 100.0,
            late_by: ms(self.late.1),
            seed: SEED,
        }
    }

    /// Returns how long a download or an upload takes, in seconds: slow start and the recovery from losses take many
    /// round trips.
    pub(crate) fn seconds(&self) -> u32 {
        match (self.delay, self.loss > 0.0) {
            (80.., _) => 14,
            (_, true) => 10,
            (_, false) => 8,
        }
    }
}

/// Returns the paths of the benchmark: any two values of different properties occur together on one of them, except
/// 500 Mbit/s and 80 ms, where a connection's socket buffers would be the limit.
pub(crate) fn catalogue() -> Vec<Case> {
    use Congestion::{Bbr, Reno};
    let case = |rate, delay, products, congestion, flows, loss, with_host| Case {
        buffer: Buffer::Products(products),
        congestion,
        flows,
        loss,
        with_host,
        ..Case::plain(rate, delay)
    };
    vec![
        case(5, 5, 1, Reno, 1, 0.0, false),
        case(5, 20, 1, Reno, 1, 0.0, true),
        case(5, 20, 4, Reno, 8, 0.0, false),
        case(5, 20, 1, Bbr, 8, 0.1, false),
        case(5, 80, 4, Bbr, 1, 0.0, false),
        case(5, 80, 1, Reno, 1, 1.0, false),
        case(20, 20, 1, Reno, 1, 0.0, true),
        case(20, 20, 1, Bbr, 1, 0.0, false),
        case(20, 5, 4, Reno, 8, 0.1, false),
        case(20, 80, 4, Reno, 8, 0.0, false),
        case(20, 80, 1, Bbr, 1, 1.0, false),
        case(20, 20, 1, Reno, 1, 1.0, true),
        case(20, 5, 4, Bbr, 8, 1.0, false),
        case(100, 20, 1, Reno, 8, 0.0, true),
        case(100, 5, 1, Bbr, 8, 0.0, false),
        case(100, 20, 4, Bbr, 1, 0.0, false),
        case(100, 80, 4, Reno, 1, 0.0, false),
        case(100, 20, 4, Bbr, 1, 1.0, false),
        case(100, 20, 1, Reno, 1, 1.0, true),
        case(100, 80, 1, Reno, 1, 0.1, true),
        case(500, 5, 1, Reno, 1, 0.0, false),
        case(500, 20, 4, Bbr, 8, 0.0, false),
        case(500, 5, 4, Bbr, 1, 1.0, false),
        case(500, 20, 1, Reno, 8, 0.1, false),
    ]
}
