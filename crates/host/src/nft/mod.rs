//! The kernel's packet filter nf_tables: tables of this program's own, and what other programs' tables do.
//!
//! [`Nft`] is one synchronous `NETLINK_NETFILTER` socket in the network namespace of the thread that opened it, as
//! [`Netlink`](crate::netlink::Netlink) is for links. Changes go in one [`Batch`], which the kernel performs whole or not
//! at all, without a moment between the old rules and the new ones. `netlink-packet-netfilter` has the messages.
//!
//! A table outlives the process. Each of this program's tables has a fixed name, and the comments of its rules record the
//! process that made it and what else has to be put back: [`kill_switch`] is the client's, [`nat`] the server's, and [`repair`] removes those
//! whose process has ended.

pub mod arrival;
mod batch;
pub mod kill_switch;
mod listing;
pub mod nat;
mod rule;

use std::io;

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_sys::protocols::NETLINK_NETFILTER;

pub use batch::{BaseChain, Batch, ChainHook};
pub use listing::{Chain, ListedRule};
pub use rule::Rule;

use crate::netlink::NetlinkError;
use crate::netlink::socket::KernelSocket;
use crate::owner::Owner;

/// The packets that a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv4 and IPv6.
    Inet,
}

impl Family {
    fn number(self) -> NetfilterProtoFamily {
        match self {
            Family::Ip => NetfilterProtoFamily::IPv4,
            Family::Inet => NetfilterProtoFamily::Inet,
        }
    }

    /// The name of the family, as nft(8) has it.
    pub fn name(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Inet => "inet",
        }
    }

    fn of(number: u8) -> Option<Family> {
        [Family::Ip, Family::Inet].into_iter().find(|family| u8::from(family.number()) == number)
    }
}

/// Errors of the requests to nf_tables.
#[derive(thiserror::Error, Debug)]
#[error("nf_tables: {source}{}", remedy(source))]
pub struct NftError {
    /// The step and the kernel's error.
    #[from]
    source: NetlinkError,
}

impl NftError {
    /// The kernel's error number, if the kernel refused.
    pub fn errno(&self) -> Option<i32> {
        self.source.errno()
    }
}

/// Says what the kernel's error means for the user.
fn remedy(error: &NetlinkError) -> &'static str {
    let is_batch = |what: &str| what == batch::TRANSACTION;
    match error {
        NetlinkError::Open(error) if error.kind() == io::ErrorKind::Unsupported => NO_NETFILTER,
        NetlinkError::Kernel { errno: libc::EOPNOTSUPP | libc::EPROTONOSUPPORT, .. } => NO_NETFILTER,
        // A listing without the subsystem.
        NetlinkError::Kernel { errno: libc::EINVAL, what } if what.starts_with(listing::LIST) => NO_NETFILTER,
        NetlinkError::Kernel { errno: libc::EPERM, what } if is_batch(what) || what.starts_with(listing::LIST) => {
            "; expected root, or CAP_NET_ADMIN in this network namespace"
        }
        NetlinkError::Kernel { errno: libc::ENOENT, what } if what.starts_with(batch::ADD_RULE) => {
            "; expected a kernel with the module of this rule's expressions (nft_reject, nft_masq, nft_ct)"
        }
        NetlinkError::Open(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => NO_NETFILTER,
        _ => "",
    }
}

const NO_NETFILTER: &str = "; expected a kernel with nf_tables (CONFIG_NF_TABLES, module nf_tables)";

/// One nf_tables socket. Changes and most listings need `CAP_NET_ADMIN` in its network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: KernelSocket,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel has no netfilter, or a sandbox forbids `AF_NETLINK`.
    pub fn open() -> Result<Nft, NftError> {
        Ok(Nft { socket: KernelSocket::open(NETLINK_NETFILTER)? })
    }

    /// Performs the changes of a batch: all, or none if one fails.
    ///
    /// # Errors
    /// The first step that the kernel refuses.
    pub fn perform(&mut self, batch: Batch) -> Result<(), NftError> {
        Ok(self.socket.batch(batch.finish())?)
    }
}

/// Removes what runs that have ended without a stop have left in this network namespace, and puts back what these had
/// changed. Returns a sentence for each; none if there was nothing. What a running client or server holds stays, and a
/// sentence says so. A kernel without nf_tables has nothing of ours.
///
/// # Errors
/// If the tables cannot be listed or changed.
pub fn repair() -> Result<Vec<String>, NftError> {
    let mut done = nat::repair()?;
    done.extend(kill_switch::repair()?);
    Ok(done)
}

/// A table of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its family and name, as nft(8) has them.
    pub table: String,
    /// The process that holds it; `None` if that has ended, so that [`repair`] would remove the table.
    pub holder: Option<u32>,
    /// It is a client's kill switch.
    pub is_kill_switch: bool,
}

/// Returns the tables of this program in this network namespace; none in a kernel without nf_tables. Changes nothing.
///
/// # Errors
/// If the tables cannot be listed.
pub fn own_tables() -> Result<Vec<Own>, NftError> {
    let own = |(table, holder): (String, _)| Own { table: format!("ip {table}"), holder, is_kill_switch: false };
    let mut tables: Vec<_> = nat::tables()?.into_iter().map(own).collect();
    tables.extend(kill_switch::standing()?.map(|standing| Own {
        table: format!("inet {}", kill_switch::TABLE),
        holder: standing.holder(),
        is_kill_switch: true,
    }));
    Ok(tables)
}

/// The beginning of the comment that says who holds a table.
const HELD_BY: &str = "held by process ";

/// A rule with the comment that this process holds its table.
fn rule_of_this_process() -> Rule {
    Rule::new(format!("{HELD_BY}{}", Owner::this()))
}

/// Returns the process that holds a table with these rules.
fn owner(rules: &[ListedRule]) -> Option<Owner> {
    rules.iter().find_map(|rule| rule.comment.strip_prefix(HELD_BY)?.parse().ok())
}

/// A table by its family and its name.
pub type TableName = (Family, String);

/// Opens a socket for a look at our tables, and lists all; `None` in a kernel without nf_tables.
fn open_for_look() -> Result<Option<(Nft, Vec<TableName>)>, NftError> {
    let has_none = |error: &NftError| remedy(&error.source) == NO_NETFILTER;
    let looked = Nft::open().and_then(|mut nft| {
        let tables = nft.tables()?;
        Ok((nft, tables))
    });
    match looked {
        Ok(looked) => Ok(Some(looked)),
        Err(error) if has_none(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
