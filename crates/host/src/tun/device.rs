//! The device: created, configured and removed as a unit.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use parking_lot::Mutex;

use super::{DeviceConfig, MAX_QUEUES, MIN_MTU, Queue, TunError, queue};
use crate::netlink::{Address, Netlink, NetlinkError};

/// The maximum length of a link's name, without the closing NUL (`IFNAMSIZ`).
const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It is up, and has its address and a route.
    Up,
    /// It was set down.
    Down,
    /// It is up, and has lost its address.
    NoAddress,
    /// It is up, and no route leads into it.
    NoRoute,
    /// Its namespace has no such device: it was deleted, or moved to another one.
    Gone,
}

/// A TUN device. Dropping it removes the device at once, even while queues are open: their reads and writes then fail
/// with `EBADFD`. The kernel also removes the device when its last queue is closed, so a killed process leaves none
/// behind.
///
/// `Send` and `Sync`. All methods act on the network namespace in which the device was created.
#[derive(Debug)]
pub struct Device {
    netlink: Mutex<Netlink>,
    name: Mutex<String>,
    index: u32,
    addr: Ipv4Addr,
    prefix: u8,
    mtu: u16,
}

impl Device {
    /// Creates a device in the calling thread's network namespace: queues, MTU, address, and "up" last. On failure
    /// nothing remains.
    ///
    /// All queues belong to this device, in the order of their attachment. The device sends no ICMP redirects (as far
    /// as `net.ipv4.conf.all.send_redirects` allows) and has no IPv6.
    ///
    /// # Errors
    /// See [`TunError`]; if a link already has the name, [`TunError::Create`] with `AlreadyExists`.
    ///
    /// ```no_run
    /// // Needs CAP_NET_ADMIN and /dev/net/tun.
    /// use std::net::Ipv4Addr;
    /// use host::tun::{Device, DeviceConfig, TunError};
    ///
    /// let config = DeviceConfig {
    ///     name: None,
    ///     queues: 1,
    ///     addr: Ipv4Addr::new(10, 98, 0, 1),
    ///     prefix: 24,
    ///     mtu: 1390,
    ///     txqlen: None,
    ///     offload: false,
    /// };
    /// let (device, queues) = Device::create(&config)?;
    /// println!("{} has {} queue", device.name(), queues.len());
    /// # Ok::<(), TunError>(())
    /// ```
    pub fn create(config: &DeviceConfig) -> Result<(Device, Vec<Queue>), TunError> {
        check(config)?;
        let mut netlink = Netlink::open()?;
        if let Some(name) = &config.name {
            refuse_existing(&mut netlink, name)?;
        }
        let (name, queues) = queue::attach(&config.name, config.queues, config.offload)?;
        let index = netlink.link_index(&name)?;
        let DeviceConfig { addr, prefix, mtu, .. } = *config;
        let device = Device { netlink: Mutex::new(netlink), name: Mutex::new(name), index, addr, prefix, mtu };
        device.configure(config.txqlen)?;
        Ok((device, queues))
    }

    /// The name of the link.
    pub fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// The link index, for routes through the device.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The MTU in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The host's own address in the tunnel.
    pub fn addr(&self) -> Ipv4Addr {
        self.addr
    }

    /// The prefix length of the tunnel's subnet.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How the device is. An administrator may set it down, take its address or its routes away, rename it, delete it or
    /// move it to another namespace at any time. A new name is taken over. Any thread; it takes some milliseconds at most.
    pub fn state(&self) -> Result<DeviceState, TunError> {
        let mut netlink = self.netlink.lock();
        let link = match netlink.link(self.index) {
            Ok(link) => link,
            Err(NetlinkError::NotFound(_)) => return Ok(DeviceState::Gone),
            Err(error) => return Err(error.into()),
        };
        let is_own = |address: &Address| address.addr == self.addr;
        let state = match link.up {
            false => DeviceState::Down,
            true if !netlink.addresses_of(self.index)?.iter().any(is_own) => DeviceState::NoAddress,
            true if !netlink.has_route(self.index, self.peer())? => DeviceState::NoRoute,
            true => DeviceState::Up,
        };
        let mut name = self.name.lock();
        if *name != link.name {
            log::info!("TUN device {name} was renamed to {}", link.name);
            *name = link.name;
        }
        Ok(state)
    }

    /// Whether the device can carry packets: it is up and has its address and a route; `None` if its namespace has no
    /// such device any more. See [`Device::state`].
    pub fn is_up(&self) -> Result<Option<bool>, TunError> {
        Ok(match self.state()? {
            DeviceState::Up => Some(true),
            DeviceState::Down | DeviceState::NoAddress | DeviceState::NoRoute => Some(false),
            DeviceState::Gone => None,
        })
    }

    /// Gives the device its address and the route to its network back, if it lacks them. It stays down if it is.
    pub fn restore(&self) -> Result<(), TunError> {
        let mut netlink = self.netlink.lock();
        let unless_there = |result: Result<(), NetlinkError>| match result {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
            result => result,
        };
        unless_there(netlink.add_address(self.index, self.addr, self.prefix))?;
        Ok(unless_there(netlink.add_connected_route(self.index, self.addr, self.prefix))?)
    }

    /// An address in the device's network that is not the host's own.
    fn peer(&self) -> Ipv4Addr {
        let host = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        let (addr, first) = (u32::from(self.addr), u32::from(self.addr) & !host);
        Ipv4Addr::from(if addr == first | 1 { first | 2 } else { first | 1 })
    }

    /// Gives the device this name, which no other link may have. Linux before 6.2 renames a link only while it is down:
    /// it is then down for a moment, and up again even if it keeps its name.
    ///
    /// # Errors
    /// [`TunError::Down`] if the device could not be set up again; it may have the new name. With any other error it is
    /// as it was.
    pub fn rename(&self, name: &str) -> Result<(), TunError> {
        let mut netlink = self.netlink.lock();
        match self.rename_link(&mut netlink, name) {
            Err(error) if error.errno() == Some(libc::EBUSY) => {
                netlink.set_down(self.index)?;
                let renamed = self.rename_link(&mut netlink, name);
                // A failure may pass: the kernel allocates memory for a link that comes up.
                netlink.set_up(self.index).or_else(|_| netlink.set_up(self.index)).map_err(TunError::Down)?;
                Ok(renamed?)
            }
            result => Ok(result?),
        }
    }

    fn rename_link(&self, netlink: &mut Netlink, name: &str) -> Result<(), NetlinkError> {
        netlink.rename(self.index, name)?;
        // At once: a device that has another name than this one does not count as its own when it is removed.
        name.clone_into(&mut self.name.lock());
        Ok(())
    }

    /// Removes the device, as dropping it does.
    pub fn remove(&self) {
        let mut netlink = self.netlink.lock();
        let name = self.name.lock();
        // Once all queues are closed, the device is gone; the name distinguishes it from a later link with the same
        // index.
        let ours = netlink.link(self.index).is_ok_and(|link| link.name == *name);
        if !ours {
            return;
        }
        if let Err(error) = netlink.del_link(self.index) {
            log::debug!("TUN device {name} cannot be deleted; it disappears when its last queue closes: {error}");
        }
    }

    fn configure(&self, txqlen: Option<u32>) -> Result<(), NetlinkError> {
        // Before "up", so that no packet sees the defaults and IPv6 never starts.
        disable_redirects_and_ipv6(&self.name());
        let mut netlink = self.netlink.lock();
        netlink.set_mtu(self.index, u32::from(self.mtu))?;
        if let Some(length) = txqlen {
            netlink.set_txqlen(self.index, length)?;
        }
        netlink.add_address(self.index, self.addr, self.prefix)?;
        netlink.set_up(self.index)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.remove();
    }
}

fn check(config: &DeviceConfig) -> Result<(), TunError> {
    if !(1..=MAX_QUEUES).contains(&config.queues) {
        return Err(TunError::TooManyQueues(config.queues));
    }
    if config.mtu < MIN_MTU {
        return Err(TunError::BadMtu(config.mtu));
    }
    match &config.name {
        Some(name) if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') => {
            let reason = format!("a link's name has 1 to {MAX_NAME} bytes, none of them NUL");
            Err(TunError::Create { name: name.clone(), source: io::Error::new(io::ErrorKind::InvalidInput, reason) })
        }
        _ => Ok(()),
    }
}

/// The driver would attach to an existing persistent TUN device of that name, and removing our device would remove it.
fn refuse_existing(netlink: &mut Netlink, name: &str) -> Result<(), TunError> {
    match netlink.link_index(name) {
        Ok(_) => Err(queue::already_exists(name)),
        Err(NetlinkError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stops packets that the kernel sends on the device by itself. ICMP redirects would tell clients of the subnet to
/// bypass the gateway, which they cannot; IPv6 would send router solicitations to peers that cannot answer. Best
/// effort: /proc/sys is read-only in many containers, and IPv6 may be missing.
fn disable_redirects_and_ipv6(name: &str) {
    for (key, value) in
        [(format!("ipv4/conf/{name}/send_redirects"), "0"), (format!("ipv6/conf/{name}/disable_ipv6"), "1")]
    {
        if let Err(error) = fs::write(format!("/proc/sys/net/{key}"), value) {
            log::debug!("cannot set net/{key} to {value}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DeviceConfig {
        let addr = Ipv4Addr::new(10, 0, 0, 1);
        DeviceConfig { name: None, queues: 1, addr, prefix: 24, mtu: 1420, txqlen: None, offload: true }
    }

    #[test]
    fn bounds_are_checked_before_anything_is_opened() {
        for queues in [0, MAX_QUEUES + 1, usize::MAX] {
            let error = Device::create(&DeviceConfig { queues, ..config() }).unwrap_err();
            assert!(matches!(error, TunError::TooManyQueues(asked) if asked == queues), "{error:?}");
        }
        for mtu in [0, MIN_MTU - 1] {
            let error = Device::create(&DeviceConfig { mtu, ..config() }).unwrap_err();
            assert!(matches!(error, TunError::BadMtu(asked) if asked == mtu), "{error:?}");
        }
        assert!(check(&DeviceConfig { queues: MAX_QUEUES, mtu: u16::MAX, ..config() }).is_ok());
        assert!(check(&DeviceConfig { queues: 1, mtu: MIN_MTU, ..config() }).is_ok());
    }

    #[test]
    fn a_name_that_no_link_can_have_is_refused() {
        for name in ["", "sixteen-bytes-xx", "a\0b"] {
            let error = Device::create(&DeviceConfig { name: Some(name.into()), ..config() }).unwrap_err();
            let TunError::Create { name: named, source } = &error else { panic!("{error:?}") };
            assert_eq!((named.as_str(), source.kind()), (name, io::ErrorKind::InvalidInput));
        }
        assert!(check(&DeviceConfig { name: Some("fifteen-bytes-x".into()), ..config() }).is_ok());
    }

    /// Needs no privilege: every namespace has a loopback link, and the name is checked before the driver is opened.
    #[test]
    fn the_name_of_a_link_is_refused() {
        let error = Device::create(&DeviceConfig { name: Some("lo".into()), ..config() }).unwrap_err();
        let TunError::Create { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(error.to_string(), "create TUN device lo: a network link of this name exists");
    }
}
