//! The measurements and their results: systems, loads, samples. Only data; nothing here starts or measures anything.

use std::fmt;

use clap::ValueEnum;

use crate::common::Ends;

/// The IPv4 and UDP headers, in bytes.
const UDP_OVERHEAD: u16 = 28;

/// A path from the client to the server.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// The cable itself
    Veth,
    /// No cryptography: the reference of the others
    Relay,
    /// This build of cellframe-vpn
    Ours,
    /// The same with `offload=false` at both ends
    OursPlain,
    /// `wireguard-go`, if it is installed
    WireguardGo,
    /// `boringtun-cli`, if it is installed
    Boringtun,
}

impl System {
    pub(crate) const ALL: [System; 6] =
        [Self::Veth, Self::Relay, Self::Ours, Self::OursPlain, Self::WireguardGo, Self::Boringtun];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Veth => "raw veth",
            Self::Relay => "relay",
            Self::Ours => "cellframe-vpn",
            Self::OursPlain => "cellframe-vpn, offload=false",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun-cli",
        }
    }
}

/// Traffic of one kind; up is from the client to the server.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    TcpUp,
    TcpDown,
    Tcp4Up,
    Tcp4Down,
    UdpUp,
    UdpDown,
    Udp100Up,
    Udp100Down,
}

impl Load {
    pub(crate) const TCP: [Load; 4] = [Self::TcpUp, Self::TcpDown, Self::Tcp4Up, Self::Tcp4Down];
    pub(crate) const UDP: [Load; 4] = [Self::UdpUp, Self::UdpDown, Self::Udp100Up, Self::Udp100Down];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TcpUp => "TCP up",
            Self::TcpDown => "TCP down",
            Self::Tcp4Up => "TCP x4 up",
            Self::Tcp4Down => "TCP x4 down",
            Self::UdpUp => "UDP up",
            Self::UdpDown => "UDP down",
            Self::Udp100Up => "UDP 100 B up",
            Self::Udp100Down => "UDP 100 B down",
        }
    }

    pub(crate) fn is_udp(self) -> bool {
        Self::UDP.contains(&self)
    }

    pub(crate) fn is_down(self) -> bool {
        matches!(self, Self::TcpDown | Self::Tcp4Down | Self::UdpDown | Self::Udp100Down)
    }

    /// Returns a datagram's payload: the one that fills the MTU, or 100 bytes.
    pub(crate) fn datagram(self, mtu: u16) -> u16 {
        match self {
            Self::Udp100Up | Self::Udp100Down => 100,
            _ => mtu - UDP_OVERHEAD,
        }
    }
}

/// The traffic that arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Its payload.
    pub(crate) bytes: f64,
    pub(crate) mbit_per_second: f64,
    /// For UDP only.
    pub(crate) datagrams: Option<Datagrams>,
    /// The CPU seconds of the tunnel's processes per gigabyte (10^9 bytes) of payload; a cable has none.
    pub(crate) cpu: Option<Ends<f64>>,
}

/// The rate of arrived datagrams, and the share of the sent ones that were lost, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagrams {
    pub(crate) per_second: f64,
    pub(crate) lost_percent: f64,
}

impl Sample {
    pub(crate) fn cpu_of_both(&self) -> Option<f64> {
        self.cpu.map(|ends| ends.client + ends.server)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} Mbit/s", self.mbit_per_second)?;
        if let Some(datagrams) = self.datagrams {
            write!(f, ", {:.0} datagrams/s, {:.1}% lost", datagrams.per_second, datagrams.lost_percent)?;
        }
        if let Some(cpu) = self.cpu_of_both() {
            write!(f, ", {cpu:.2} CPU s/GB")?;
        }
        Ok(())
    }
}
