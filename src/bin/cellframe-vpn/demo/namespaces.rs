//! The two network namespaces of the demo and the cable between them, and what to change where the kernel refuses them.
//!
//! Each end is a process that leaves the host's network before it has a second thread ([`host::lab`]).

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;

use host::lab::{self, Cable, LabError, Plug, Privileges};
use host::netlink::NetlinkError;
use rustix::io::Errno;

use crate::exit::{Code, Failure};

/// Addresses of the two ends of the cable, as 10.200.0.0/24: what the tunnel's packets travel over.
pub(super) const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);

fn cable() -> Cable {
    let plug = |link: &str, address| Plug { link: link.to_owned(), address, prefix: 24 };
    Cable { near: plug("veth-server", SERVER_ADDRESS), far: plug("veth-client", CLIENT_ADDRESS) }
}

/// Server's side: moves this process, which must have one thread, into a new network namespace. By what right.
pub(super) fn enter_new() -> Result<&'static str, Failure> {
    match lab::enter_new().map_err(failure)? {
        Privileges::Root => Ok("root"),
        Privileges::UserNamespace => Ok("unprivileged user namespace"),
    }
}

/// Client's side: as [`enter_new`], beside the server's process `server`.
pub(super) fn enter_beside(server: u32) -> Result<(), Failure> {
    lab::enter_beside(server).map_err(failure)
}

/// Moves this process into the network namespace of `thread`, one of the process `beside`.
pub(super) fn enter_host_of(beside: u32, thread: u32) -> Result<(), Failure> {
    lab::enter_host_of(beside, thread).map_err(failure)
}

/// Server's side: lays the cable and hands the other end to the process `client`.
pub(super) fn lay_cable(client: u32) -> Result<(), Failure> {
    // The server's host forwards, as a real one would; where that may not be set the demo does without.
    let _ = fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    cable().lay(client).map_err(failure)
}

/// Client's side, after [`lay_cable`].
pub(super) fn take_cable() -> Result<(), Failure> {
    cable().take().map_err(failure)
}

pub(super) fn failure(error: LabError) -> Failure {
    match error {
        LabError::NotPermitted { .. } => not_permitted(error),
        LabError::Join { source, .. } => {
            not_permitted(LabError::NotPermitted { what: "another end's user namespace", source })
        }
        LabError::Cable(error) => no_network(&error),
        LabError::Thread(_) => Failure::general(error.to_string()),
    }
}

fn not_permitted(error: impl fmt::Display) -> Failure {
    Failure::new(Code::Privilege, format!("{error}; {}", hint()))
}

fn no_network(error: &NetlinkError) -> Failure {
    let refused = [Errno::PERM, Errno::ACCESS].map(|errno| Some(errno.raw_os_error())).contains(&error.errno());
    let unknown = error.errno() == Some(Errno::OPNOTSUPP.raw_os_error());
    if refused {
        not_permitted(format_args!("network devices are not permitted here: {error}"))
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
