//! What the benches of whole tunnels share: programs on hosts, the systems that they compare, traffic.

pub(crate) mod echo;
pub(crate) mod environment;
pub(crate) mod failure;
pub(crate) mod host;
pub(crate) mod iperf;
pub(crate) mod ours;
pub(crate) mod results;
pub(crate) mod running;
pub(crate) mod start;
pub(crate) mod wireguard;

/// The addresses of server and client inside every tunnel, in a /24.
pub(crate) const INNER_SERVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 98, 0, 1);
pub(crate) const INNER_CLIENT: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 98, 0, 2);
pub(crate) const PREFIX: u8 = 24;

/// One value for each end; the client's is dropped first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends<T> {
    pub(crate) client: T,
    pub(crate) server: T,
}
