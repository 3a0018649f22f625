//! The two hosts: network namespaces joined by a veth pair, each held by a thread of this process.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread;

use host::netlink::{Netlink, NetlinkError};
use rustix::thread::{UnshareFlags, gettid};

use crate::Failure;
use crate::running::{Prepared, Running};

/// The server's and the client's address on the cable, which has the usual MTU of 1500.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
const SERVER_LINK: &str = "veth-server";
const CLIENT_LINK: &str = "veth-client";

/// The server's and the client's address inside every tunnel, in a /24.
pub(crate) const INNER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
pub(crate) const INNER_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
pub(crate) const PREFIX: u8 = 24;

/// Both hosts, and a directory for the files of what runs there.
pub(crate) struct Hosts {
    pub(crate) server: Host,
    pub(crate) client: Host,
    pub(crate) directory: PathBuf,
}

impl Hosts {
    /// Makes them; the namespaces vanish with their threads and with what runs in them.
    pub(crate) fn new(directory: &Path) -> Result<Hosts, Failure> {
        let hosts = Hosts {
            server: Host::new("server", directory)?,
            client: Host::new("client", directory)?,
            directory: directory.to_owned(),
        };
        let client = hosts.client.thread;
        let laid = hosts.server.run(move || {
            let mut netlink = Netlink::open()?;
            netlink.add_veth(SERVER_LINK, CLIENT_LINK)?;
            let far_end = netlink.link_index(CLIENT_LINK)?;
            netlink.set_netns_by_pid(far_end, client)?;
            plug_in(SERVER_LINK, SERVER, None)
        });
        let taken = laid.and_then(|()| hosts.client.run(|| plug_in(CLIENT_LINK, CLIENT, None)));
        taken.map_err(Failure::during("the hosts cannot be connected"))?;
        Ok(hosts)
    }
}

/// Gives a link that is there its address and sets it up, in the calling thread's namespace.
pub(crate) fn plug_in(link: &str, address: Ipv4Addr, mtu: Option<u16>) -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    let loopback = netlink.link_index("lo")?;
    netlink.set_up(loopback)?;
    let index = netlink.link_index(link)?;
    if let Some(mtu) = mtu {
        netlink.set_mtu(index, mtu.into())?;
    }
    netlink.add_address(index, address, PREFIX)?;
    netlink.set_up(index)
}

type Job = Box<dyn FnOnce() + Send>;

/// One host.
pub(crate) struct Host {
    name: &'static str,
    directory: PathBuf,
    /// Of the thread that holds the namespace.
    thread: u32,
    jobs: Sender<Job>,
}

impl Host {
    fn new(name: &'static str, directory: &Path) -> Result<Host, Failure> {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (entered, thread) = mpsc::channel();
        thread::spawn(move || {
            let entry = leave_network().map(|()| gettid().as_raw_nonzero().get().unsigned_abs());
            let failed = entry.is_err();
            if entered.send(entry).is_ok() && !failed {
                to_do.into_iter().for_each(|job| job());
            }
        });
        let what = "a network namespace cannot be made";
        let thread = thread.recv().map_err(Failure::during(what))?.map_err(Failure::during(what))?;
        Ok(Host { name, directory: directory.to_owned(), thread, jobs })
    }

    /// Does something on this host. A socket that it makes stays in this host's network wherever it is used.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            // Whoever asked waits below.
            let _ = done.send(job());
        });
        self.jobs.send(job).expect("the host's thread is there as long as the host");
        result.recv().expect("a job on a host does not panic")
    }

    /// Starts a program on this host.
    pub(crate) fn start(&self, command: &Command) -> Result<Running, Failure> {
        // By the thread that holds the namespace: it is what a child inherits, and whose end ends the child.
        let prepared = Prepared::new(command, &self.directory, self.name)?;
        self.run(move || prepared.start())
    }
}

/// Only the calling thread moves; what it starts moves with it.
///
/// rustix deprecates its safe `unshare` for one flag, FILES, which is not asked for here.
#[allow(deprecated)]
fn leave_network() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
}
