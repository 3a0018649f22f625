//! What is known of this machine. `gather` collects it; `checks` judge it, and look at nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use host::clock::Kept;
use host::dns::resolv_conf::Undone;
use host::nft::Own;
use host::nft::arrival::Fate;
use host::nft::nat::Others;
use host::tun::Driver;
use serde_json::Value;
use vpn_core::lease::Subnet;

use crate::exit::Code;
use crate::privilege::TunProblem;

/// Everything that the checks judge.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) machine: Machine,
    pub(super) network: Network,
    /// The configuration file's name, or what stands for it.
    pub(super) config: String,
    /// The keys that nobody reads, or why the configuration cannot be used.
    pub(super) keys: Result<Vec<String>, String>,
    pub(super) server: Option<ServerEnd>,
    pub(super) client: Option<ClientEnd>,
    /// What a server that the user has named answers.
    pub(super) asked: Option<Asked>,
}

/// The kernel and this process's rights.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) is_root: bool,
    pub(super) has_net_admin: bool,
    /// What runs this machine as a container, such as "docker".
    pub(super) container: Option<String>,
    pub(super) tun: Result<Driver, TunProblem>,
    /// Why nf_tables cannot be used.
    pub(super) nf_tables: Result<(), String>,
    /// Why the congestion control bbr cannot be set.
    pub(super) bbr: Result<(), String>,
    pub(super) sysctls_are_read_only: bool,
    pub(super) clock: Clock,
    /// The program's tables of nf_tables.
    pub(super) tables: Result<Vec<Own>, String>,
    /// What `repair` would do with resolv.conf.
    pub(super) resolv_conf: Result<Undone, String>,
}

/// Times in seconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) now: u64,
    /// A time that must have passed: that of the program's file.
    pub(super) passed: u64,
    pub(super) kept: Option<Kept>,
}

/// The host's networks.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// Why links, addresses and routes cannot be listed.
    pub(super) failed: Option<String>,
    pub(super) addresses: Vec<OnLink>,
    /// Destinations of other routes than the default one.
    pub(super) routes: Vec<(Subnet, String)>,
    /// The links of default routes.
    pub(super) defaults: Vec<String>,
    pub(super) has_ipv6_default: bool,
    /// The address from which this host reaches the Internet.
    pub(super) outward: Option<IpAddr>,
    /// The link by which it does, and its MTU.
    pub(super) outward_link: Option<(String, u32)>,
    /// The links whose reverse path filter is strict.
    pub(super) strict: Vec<String>,
    /// The name servers that the C library would ask, without those of a tunnel.
    pub(super) name_servers: Vec<IpAddr>,
}

/// An address of this host with its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OnLink {
    pub(super) address: Ipv4Addr,
    pub(super) network: Subnet,
    pub(super) link: String,
}

/// A process of this program with its state directory.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) runs: Runs,
    pub(super) state_dir: PathBuf,
    /// Whether the directory is there, or why it is refused to `owner`.
    pub(super) state: Result<bool, String>,
    /// The user whose directory it is, if that is not the one of this process: of a service that is started as this user.
    pub(super) owner: Option<String>,
    /// Why this user cannot make or change it.
    pub(super) read_only: Option<String>,
    /// Free bytes and free files where it is, or will be.
    pub(super) free: Option<(u64, u64)>,
    /// Another process has the store open.
    pub(super) store_is_taken: bool,
    /// Most open files of the process that runs, or of one that would be started from here.
    pub(super) files: u64,
}

/// Whether a process of a role runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    No,
    /// It runs, in this process if the kernel tells.
    Yes(Option<u32>),
    /// Something is at its socket that this user may not ask.
    Hidden,
}

/// The server of this machine, running or not.
#[derive(Clone, Debug)]
pub(super) struct ServerEnd {
    pub(super) process: Process,
    pub(super) subnet: Result<Subnet, String>,
    /// The tunnel's device: that which has the gateway's address, else the one that will be made.
    pub(super) device: String,
    pub(super) has_device: bool,
    pub(super) mtu: u64,
    /// `[srv_vpn] nat`: auto, on or off.
    pub(super) nat: String,
    pub(super) others: Result<Others, String>,
    /// Whether the host forwards by all of its links; an error if that cannot be read.
    pub(super) forwards_all: Result<bool, String>,
    /// Whether it forwards what comes by these: the tunnel's and those of default routes.
    pub(super) forwards: Vec<(String, bool)>,
    pub(super) listen: Vec<Listen>,
    /// What the running server says of its tunnel; `None` while that works, or if it was not asked.
    pub(super) outage: Option<String>,
    /// How old the identity is, in seconds; `None` before the first start.
    pub(super) identity_age: Option<u64>,
    /// What the server answers to a check on this machine.
    pub(super) answer: Option<Answer>,
}

/// An address on which the server listens, or will.
#[derive(Clone, Debug)]
pub(super) struct Listen {
    pub(super) address: SocketAddr,
    /// The processes that listen there, by name and number.
    pub(super) holders: Vec<(String, Option<u32>)>,
    /// What the packet filter does with connections from elsewhere; an error if it cannot be read.
    pub(super) fate: Result<Fate, String>,
}

/// The client of this machine, running or not.
#[derive(Clone, Debug)]
pub(super) struct ClientEnd {
    pub(super) process: Process,
    /// `[vpn_client] ipv6`: block or leave.
    pub(super) ipv6: String,
    /// What the running client says; `None` if it was not asked.
    pub(super) status: Option<Value>,
}

/// A server that was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) target: String,
    pub(super) answer: Answer,
    /// The answer to as much as many full packets take; `None` if the first one failed.
    pub(super) full: Option<Answer>,
    /// The answer when this host sends no full packets there; `None` unless it accepted a connection and said no more.
    pub(super) narrow: Option<Answer>,
    /// The largest packet that this host sends there, as the kernel knows after the answers.
    pub(super) path_mtu: Option<u32>,
    /// The user has named the identity.
    pub(super) is_pinned: bool,
}

/// What `check` has said.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: Code,
    pub(super) text: String,
}
