//! The two network namespaces and the cable between them.
//!
//! Each end leaves the host's network by unshare(2) on itself, before it has a second thread: as root directly,
//! otherwise inside a user namespace where it is root (user_namespaces(7)). The client joins the server's user
//! namespace, since only there it may be given its end of the cable.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use host::netlink::{Netlink, NetlinkError};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::exit::{Code, Failure};

/// Addresses of the two ends of the cable, as 10.200.0.0/24: what the tunnel's packets travel over.
pub(super) const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
pub(super) const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
const PREFIX: u8 = 24;
const SERVER_LINK: &str = "veth-server";
const CLIENT_LINK: &str = "veth-client";

/// By what right the namespaces were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privileges {
    /// `CAP_SYS_ADMIN` on the host.
    Root,
    /// A user namespace, no privilege.
    UserNamespace,
}

impl Privileges {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "unprivileged user namespace",
        }
    }
}

/// Moves this process, which must have one thread, into a new network namespace.
pub(super) fn enter_new() -> Result<Privileges, Failure> {
    match unshare(UnshareFlags::NEWNET) {
        Ok(()) => return Ok(Privileges::Root),
        // Root of a container often is not root enough; a user namespace may still do.
        Err(Errno::PERM) => {}
        Err(error) => return Err(not_permitted("a network namespace", error.into())),
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)
        .map_err(|error| not_permitted("an unprivileged user namespace", error.into()))?;
    // Root inside, this user outside. Without "deny" an unprivileged process may not write a group map.
    let mapped = fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {user} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {group} 1")));
    mapped.map_err(|error| not_permitted("an unprivileged user namespace", error))?;
    Ok(Privileges::UserNamespace)
}

/// As [`enter_new`], in the user namespace of the process `pid`.
pub(super) fn enter_beside(pid: u32) -> Result<(), Failure> {
    let theirs = format!("/proc/{pid}/ns/user");
    let failed = |error| not_permitted("the server's user namespace", error);
    // To join the namespace one is in already is an error.
    if fs::read_link(&theirs).map_err(failed)? != fs::read_link("/proc/self/ns/user").map_err(failed)? {
        let namespace = fs::File::open(&theirs).map_err(failed)?;
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(|error| failed(error.into()))?;
    }
    unshare(UnshareFlags::NEWNET).map_err(|error| not_permitted("a network namespace", error.into()))
}

/// Server's side: lays the cable and hands the other end to the process `client`.
pub(super) fn lay_cable(client: u32) -> Result<(), Failure> {
    // The server's host forwards, as a real one would; where that may not be set the demo does without.
    let _ = fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    let result = Netlink::open().and_then(|mut netlink| {
        netlink.add_veth(SERVER_LINK, CLIENT_LINK)?;
        let far_end = netlink.link_index(CLIENT_LINK)?;
        netlink.set_netns_by_pid(far_end, client)?;
        plug_in(&mut netlink, SERVER_LINK, SERVER_ADDRESS)
    });
    result.map_err(|error| no_network(&error))
}

/// Client's side, after [`lay_cable`].
pub(super) fn take_cable() -> Result<(), Failure> {
    let result = Netlink::open().and_then(|mut netlink| plug_in(&mut netlink, CLIENT_LINK, CLIENT_ADDRESS));
    result.map_err(|error| no_network(&error))
}

fn plug_in(netlink: &mut Netlink, link: &str, address: Ipv4Addr) -> Result<(), NetlinkError> {
    let loopback = netlink.link_index("lo")?;
    netlink.set_up(loopback)?;
    let index = netlink.link_index(link)?;
    netlink.add_address(index, address, PREFIX)?;
    netlink.set_up(index)
}

/// rustix deprecates its safe `unshare` for one flag, FILES, with which threads could come to see each other's
/// descriptors; only namespaces are asked for here, and this program forbids `unsafe`.
#[allow(deprecated)]
fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    rustix::thread::unshare(namespaces)
}

fn not_permitted(what: &str, error: io::Error) -> Failure {
    Failure::new(Code::Privilege, format!("{what} is not permitted here ({error}); {}", hint()))
}

fn no_network(error: &NetlinkError) -> Failure {
    let refused = [Errno::PERM, Errno::ACCESS].map(|errno| Some(errno.raw_os_error())).contains(&error.errno());
    let unknown = error.errno() == Some(Errno::OPNOTSUPP.raw_os_error());
    if refused {
        Failure::new(Code::Privilege, format!("network devices are not permitted here: {error}; {}", hint()))
    } else if unknown {
        let message = format!("the kernel has no virtual cables: {error}; load its module (`modprobe veth`)");
        Failure::new(Code::Privilege, message)
    } else {
        Failure::general(format!("the namespaces cannot be connected: {error}"))
    }
}

/// What to change, by the kernel's own switches.
fn hint() -> String {
    let is = |switch: &str, value: &str| {
        fs::read_to_string(format!("/proc/sys/{switch}")).is_ok_and(|text| text.trim() == value)
    };
    for (switch, closed, open) in [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "10000"),
        ("user/max_net_namespaces", "0", "10000"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ] {
        if is(switch, closed) {
            return format!("run as root, or `sysctl -w {}={open}`", switch.replace('/', "."));
        }
    }
    "run as root; in a container, start it with `--privileged`".into()
}
