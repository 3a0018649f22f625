//! Maps inner addresses to sessions: written when a lease begins, moves or ends, read for every packet.

use crate::lease::Subnet;
use once_cell::race::OnceBox;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// The location of an inner address's session.
///
/// A slot is reused after its session has ended, while a packet may still be on its way to the old session. Code that
/// follows a route must check that the session there has the packet's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The number of the worker that owns the session.
    pub worker: u16,
    /// The session's slot on its worker.
    pub slot: u32,
}

/// The routes of one subnet, shared by all workers.
///
/// Readers take no lock and never wait: a look-up is two dependent loads. A route is one 32-bit value, so a reader sees
/// a whole one, old or new, and the routes of 65,000 sessions fit into a processor's second-level cache. Memory is
/// allocated in blocks of 256 addresses when the first address of a block gets a route; a subnet's empty table takes 8
/// bytes per block (512 KiB for a /8).
///
/// ```
/// use std::net::Ipv4Addr;
/// use vpn_core::forward::{Route, Table};
/// use vpn_core::lease::Subnet;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let table = Table::new(&Subnet::parse("10.98.0.0", "255.255.255.0")?, 2);
/// let client = Ipv4Addr::new(10, 98, 0, 2);
/// let (old, new) = (Route { worker: 0, slot: 5 }, Route { worker: 1, slot: 0 });
/// assert!(table.set(client, old));
/// assert_eq!(table.get(client), Some(old));
///
/// // The session moves to another worker. Its old owner may clear the old route late: the new one stays.
/// assert!(table.set(client, new));
/// assert!(!table.clear(client, old));
/// assert_eq!(table.get(client), Some(new));
/// assert_eq!(table.get(Ipv4Addr::new(192, 0, 2, 1)), None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Table {
    subnet: Subnet,
    /// The number of bits of a value for the slot; the others are for the worker.
    slot_bits: u32,
    blocks: Box<[OnceBox<Block>]>,
}

const BLOCK_LEN: usize = 256;
type Block = [AtomicU32; BLOCK_LEN];
/// The value of an address without a route.
const NONE: u32 = 0;

impl Table {
    /// Creates an empty table for all addresses of the subnet and this number of workers.
    pub fn new(subnet: &Subnet, workers: u16) -> Table {
        let blocks = subnet.host_mask() as usize / BLOCK_LEN + 1;
        let worker_bits = u32::from(workers.max(1)).next_power_of_two().trailing_zeros();
        Table {
            subnet: *subnet,
            slot_bits: u32::BITS - worker_bits,
            blocks: (0..blocks).map(|_| OnceBox::new()).collect(),
        }
    }

    /// Packs a route as its complement, so that the first slot of the first worker differs from `NONE`. Returns `None`
    /// for a route that does not fit: a worker has 2^32 divided by the number of workers, less one, slots.
    fn pack(&self, route: Route) -> Option<u32> {
        let (worker, slot) = (u64::from(route.worker) << self.slot_bits, u64::from(route.slot));
        let packed = !u32::try_from(worker | slot).ok()?;
        (slot >> self.slot_bits == 0 && packed != NONE).then_some(packed)
    }

    fn unpack(&self, packed: u32) -> Option<Route> {
        let bits = u64::from(!packed);
        let route =
            Route { worker: (bits >> self.slot_bits) as u16, slot: (bits & ((1 << self.slot_bits) - 1)) as u32 };
        (packed != NONE).then_some(route)
    }

    /// Returns the route of an address; `None` if it has none, or is outside the subnet.
    #[inline]
    pub fn get(&self, addr: Ipv4Addr) -> Option<Route> {
        // Acquire: a reader that sees a route also sees what the session's owner wrote before setting it.
        self.unpack(self.entry(addr)?.load(Ordering::Acquire))
    }

    /// Sets the route of an address, whatever it was. Returns `false` and does nothing outside the subnet and for a
    /// route that does not fit: a worker beyond the table's, or a slot beyond those of a worker.
    pub fn set(&self, addr: Ipv4Addr, route: Route) -> bool {
        let (Some(packed), Some((block, index))) = (self.pack(route), self.place(addr)) else { return false };
        let block = block.get_or_init(|| Box::new([const { AtomicU32::new(NONE) }; BLOCK_LEN]));
        let Some(entry) = block.get(index) else { return false };
        entry.store(packed, Ordering::Release);
        true
    }

    /// Removes the route of an address if it still is `expected`; returns `false` otherwise.
    pub fn clear(&self, addr: Ipv4Addr, expected: Route) -> bool {
        let (Some(expected), Some(entry)) = (self.pack(expected), self.entry(addr)) else { return false };
        entry.compare_exchange(expected, NONE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn entry(&self, addr: Ipv4Addr) -> Option<&AtomicU32> {
        let (block, index) = self.place(addr)?;
        block.get()?.get(index)
    }

    fn place(&self, addr: Ipv4Addr) -> Option<(&OnceBox<Block>, usize)> {
        let host = self.subnet.host(addr)? as usize;
        Some((self.blocks.get(host / BLOCK_LEN)?, host % BLOCK_LEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Creates a table for 16 workers.
    fn table(prefix: u8) -> Table {
        Table::new(&Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix }, 16)
    }

    fn addr(host: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 | host)
    }

    fn route(worker: u16, slot: u32) -> Route {
        Route { worker, slot }
    }

    #[test]
    fn shared_between_threads() {
        fn is_shareable<T: Send + Sync>() {}
        is_shareable::<Table>();
    }

    #[test]
    fn an_empty_table_has_no_route_and_no_block() {
        let table = table(8);
        assert_eq!(table.blocks.len(), 65536);
        for host in [0, 1, 2, 255, 256, 0xff_ffff] {
            assert_eq!(table.get(addr(host)), None);
            assert!(!table.clear(addr(host), route(0, 0)));
        }
        assert!(table.blocks.iter().all(|block| block.get().is_none()));
        assert!(table.set(addr(2), route(0, 0)));
        assert_eq!(table.blocks.iter().filter(|block| block.get().is_some()).count(), 1);
    }

    #[test]
    fn every_address_of_the_subnet_has_its_own_route() {
        for prefix in [22, 24, 25, 30] {
            let table = table(prefix);
            let hosts = 1 << (32 - prefix);
            for host in 0..hosts {
                assert!(table.set(addr(host), route(1, host)));
            }
            for host in 0..hosts {
                assert_eq!(table.get(addr(host)), Some(route(1, host)));
            }
            for outside in [addr(hosts), Ipv4Addr::new(9, 255, 255, 255), Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED] {
                assert!(!table.set(outside, route(0, 0)), "{outside} in /{prefix}");
                assert_eq!(table.get(outside), None);
            }
        }
    }

    #[test]
    fn a_route_fits_or_is_refused() {
        for (workers, last_worker) in [(0, 0), (1, 0), (2, 1), (3, 3), (16, 15), (17, 31), (u16::MAX, u16::MAX)] {
            let table = Table::new(&Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 24 }, workers);
            let slots = (1_u64 << 32) / (u64::from(last_worker) + 1);
            let last_slot = (slots - 1) as u32;
            for edge in [route(0, 0), route(last_worker, 0), route(last_worker, last_slot - 1)] {
                assert!(table.set(addr(2), edge), "{edge:?} of {workers}");
                assert_eq!(table.get(addr(2)), Some(edge));
                assert!(table.clear(addr(2), edge));
                assert_eq!(table.get(addr(2)), None);
            }
            // The very last one stands for `NONE`.
            let mut beyond = vec![route(last_worker, last_slot)];
            beyond.extend(last_slot.checked_add(1).map(|slot| route(0, slot)));
            beyond.extend(last_worker.checked_add(1).map(|worker| route(worker, 0)));
            for beyond in beyond {
                assert!(!table.set(addr(2), beyond), "{beyond:?} of {workers}");
                assert!(!table.clear(addr(2), beyond), "an empty entry is not that route");
                assert_eq!(table.get(addr(2)), None);
            }
        }
    }

    #[test]
    fn clear_only_touches_what_was_expected() {
        let table = table(24);
        let (old, new) = (route(1, 1), route(1, 2));
        assert!(table.set(addr(2), new));
        assert!(!table.clear(addr(2), old), "the address has a new session");
        assert_eq!(table.get(addr(2)), Some(new));
        assert!(table.clear(addr(2), new));
        assert!(!table.clear(addr(2), new));
    }

    #[test]
    fn readers_see_whole_routes_while_writers_change_them() {
        let table = table(20);
        let hosts = || (0..4096).step_by(37).map(addr);
        // Both numbers agree in each route, so that a torn one would be detected.
        let whole = |number: u16| route(number % 16, u32::from(number));
        hosts().for_each(|host| assert!(table.set(host, whole(0))));
        std::thread::scope(|scope| {
            let read = || {
                let found = (0..1000).flat_map(|_| hosts()).filter_map(|host| table.get(host));
                found.inspect(|found| assert_eq!(*found, whole(found.slot as u16))).count()
            };
            let readers = [scope.spawn(read), scope.spawn(read)];
            let mut number = 0_u16;
            while readers.iter().any(|reader| !reader.is_finished()) {
                number = (number + 1) % 60_000;
                for host in hosts() {
                    assert!(table.set(host, whole(number)));
                    assert!(!number.is_multiple_of(5) || table.clear(host, whole(number)));
                }
            }
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
    }

    #[test]
    fn of_concurrent_clears_of_one_route_one_succeeds() {
        let table = table(24);
        for round in 0..200 {
            let expected = route(0, round);
            assert!(table.set(addr(7), expected));
            let cleared: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| table.clear(addr(7), expected))).collect();
                threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
            });
            assert_eq!(cleared, 1);
        }
    }

    proptest! {
        #[test]
        fn packing_is_a_bijection_without_none(workers in 1_u16.., worker: u16, slot: u32) {
            let table = Table::new(&Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 30 }, workers);
            let route = route(worker % workers, slot % (1 << (table.slot_bits - 1)));
            let packed = table.pack(route);
            prop_assert_ne!(packed, Some(NONE));
            prop_assert_eq!(table.unpack(packed.unwrap()), Some(route));
        }

        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0_u32..1100, 0_u16..3, any::<bool>()), 1..300)) {
            let table = table(22);
            let mut map = HashMap::new();
            for (host, worker, sets) in steps {
                let route = route(worker, 7);
                // Few addresses, so that steps collide; some are outside.
                let host = if host < 1000 { host % 8 * 128 } else { host };
                let expected = if sets { host < 1024 } else { map.get(&host) == Some(&route) };
                prop_assert_eq!(if sets { table.set(addr(host), route) } else { table.clear(addr(host), route) }, expected);
                if expected {
                    if sets { map.insert(host, route) } else { map.remove(&host) };
                }
                prop_assert_eq!(table.get(addr(host)), map.get(&host).copied());
            }
        }
    }
}
