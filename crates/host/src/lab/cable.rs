//! A cable: a veth pair with one end in each of two namespaces. Each end has an address and is up.

use std::net::Ipv4Addr;

use super::{LabError, Namespace};
use crate::netlink::Netlink;

/// One end of a cable.
#[derive(Clone, Debug)]
pub struct Plug {
    /// The name of the link in this end's namespace, at most 15 bytes.
    pub link: String,
    /// The address of the link.
    pub address: Ipv4Addr,
    /// The prefix length of the network, the same at both ends.
    pub prefix: u8,
}

/// A virtual Ethernet cable with an MTU of 1500. The kernel removes it when either of its two namespaces ends.
#[derive(Clone, Debug)]
pub struct Cable {
    /// The end in the namespace of the thread that creates the cable.
    pub near: Plug,
    /// The end in the other namespace.
    pub far: Plug,
}

impl Cable {
    /// Connects the calling thread's namespace to `far`. Both ends are up when it returns.
    ///
    /// # Errors
    /// [`LabError::Cable`].
    pub fn connect(self, far: &Namespace) -> Result<(), LabError> {
        self.lay(far.thread())?;
        far.run(move || self.take())
    }

    /// Creates the cable in the calling thread's namespace, moves its far end to the namespace of the process or thread
    /// `far`, and configures the near end. The other side calls [`Cable::take`] next.
    ///
    /// # Errors
    /// [`LabError::Cable`].
    pub fn lay(&self, far: u32) -> Result<(), LabError> {
        let mut netlink = Netlink::open()?;
        netlink.add_veth(&self.near.link, &self.far.link)?;
        let far_end = netlink.link_index(&self.far.link)?;
        netlink.set_netns_by_pid(far_end, far)?;
        self.near.plug_in()
    }

    /// Configures the far end, which is in the calling thread's namespace after [`Cable::lay`].
    ///
    /// # Errors
    /// [`LabError::Cable`].
    pub fn take(&self) -> Result<(), LabError> {
        self.far.plug_in()
    }
}

impl Plug {
    fn plug_in(&self) -> Result<(), LabError> {
        plug_in(&self.link, self.address, self.prefix)
    }
}

/// Adds the address to a link of the calling thread's namespace, and sets the link and loopback up.
///
/// # Errors
/// [`LabError::Cable`].
pub fn plug_in(link: &str, address: Ipv4Addr, prefix: u8) -> Result<(), LabError> {
    set_loopback_up()?;
    let mut netlink = Netlink::open()?;
    let index = netlink.link_index(link)?;
    netlink.add_address(index, address, prefix)?;
    Ok(netlink.set_up(index)?)
}

/// Sets the loopback link up. In a new namespace it is down.
///
/// # Errors
/// [`LabError::Cable`].
pub fn set_loopback_up() -> Result<(), LabError> {
    let mut netlink = Netlink::open()?;
    let loopback = netlink.link_index("lo")?;
    Ok(netlink.set_up(loopback)?)
}

/// Gives the loopback device another address. What connects to it comes from it.
pub fn add_loopback_address(address: Ipv4Addr) -> Result<(), LabError> {
    let mut netlink = Netlink::open()?;
    let loopback = netlink.link_index("lo")?;
    Ok(netlink.add_address(loopback, address, 32)?)
}
