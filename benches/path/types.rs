//! The systems, and what is measured of them. Only data; nothing here starts or measures anything.

use clap::ValueEnum;
use testkit::path::link::Counts;

/// How the inner packets of one path travel.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// No tunnel: the flows are on the path themselves
    None,
    /// `wireguard-go`
    WireguardGo,
    /// cellframe-vpn as it is without a configuration
    Ours,
    /// With `congestion = host`, where the hosts have reno
    OursHost,
    /// With `congestion = bbr`
    OursBbr,
    /// With `congestion = cubic`
    OursCubic,
}

impl System {
    pub(crate) const DEFAULT: [System; 4] = [Self::None, Self::WireguardGo, Self::Ours, Self::OursHost];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::WireguardGo => "wireguard-go",
            Self::Ours => "ours",
            Self::OursHost => "ours, host",
            Self::OursBbr => "ours, bbr",
            Self::OursCubic => "ours, cubic",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        !matches!(self, Self::None | Self::WireguardGo)
    }

    /// Returns the line that both ends have in their configuration.
    pub(crate) fn configuration(self) -> &'static str {
        match self {
            Self::OursHost => "congestion=host\n",
            Self::OursBbr => "congestion=bbr\n",
            Self::OursCubic => "congestion=cubic\n",
            Self::None | Self::WireguardGo | Self::Ours => "",
        }
    }
}

/// A direction; up is from the client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
}

impl Way {
    pub(crate) const BOTH: [Way; 2] = [Self::Down, Self::Up];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// The round trips of a small flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Latency {
    pub(crate) sent: usize,
    /// Of those that were answered, in ms, ascending.
    times: Vec<f64>,
}

impl Latency {
    pub(crate) fn new(sent: usize, mut times: Vec<f64>) -> Latency {
        times.sort_by(f64::total_cmp);
        Latency { sent, times }
    }

    pub(crate) fn answered(&self) -> usize {
        self.times.len()
    }

    /// Returns the value in ms that this share of the answers does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.times.len().checked_sub(1)?;
        self.times.get(((self.times.len() as f64 * share) as usize).min(last)).copied()
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    pub(crate) fn p95(&self) -> Option<f64> {
        self.quantile(0.95)
    }
}

/// The two small flows: a ping, and ten datagrams of 100 bytes a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Small {
    pub(crate) ping: Latency,
    pub(crate) sparse: Latency,
}

/// A bulk transfer in one direction, and the small flows beside it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bulk {
    /// Of payload that arrived.
    pub(crate) mbit: f64,
    pub(crate) small: Small,
    /// The CPU seconds of the tunnel's processes per gigabyte (10^9 bytes) of payload.
    pub(crate) cpu: Option<f64>,
}

/// What was measured of one system on one path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) idle: Small,
    pub(crate) down: Bulk,
    pub(crate) up: Bulk,
    /// What became of the packets from the server, and of those from the client.
    pub(crate) path: [Counts; 2],
}

impl Measured {
    pub(crate) fn bulk(&self, way: Way) -> &Bulk {
        match way {
            Way::Down => &self.down,
            Way::Up => &self.up,
        }
    }
}
