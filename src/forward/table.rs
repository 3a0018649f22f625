//! Inner address -> session: written when a lease begins, moves or ends, read for every packet.

use crate::lease::Subnet;
use once_cell::race::OnceBox;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the session of an inner address lives.
///
/// A slot is used again after its session has ended; the generation then differs, so that a packet for the old
/// session never reaches the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Number of the worker that owns the session.
    pub worker: u16,
    /// Which use of the slot.
    pub generation: u16,
    /// The session's place among those of its worker.
    pub slot: u32,
}

impl Route {
    /// The one value that a [`Table`] cannot hold, because its bits mean "none" there.
    const UNREPRESENTABLE: Route = Route { worker: u16::MAX, generation: u16::MAX, slot: u32::MAX };

    /// 0 is kept for "none": the complement, so that the first slot of the first worker is not it.
    fn pack(self) -> u64 {
        !(u64::from(self.worker) << 48 | u64::from(self.generation) << 32 | u64::from(self.slot))
    }

    fn unpack(packed: u64) -> Option<Route> {
        let bits = !packed;
        let route = Route { worker: (bits >> 48) as u16, generation: (bits >> 32) as u16, slot: bits as u32 };
        (packed != 0).then_some(route)
    }
}

/// The routes of one subnet, shared by all workers.
///
/// Readers take no lock and never wait: two dependent loads. A route is one 64-bit value, so a reader sees a whole
/// one, old or new. Room is made in blocks of 256 addresses when the first address of a block gets a route; a
/// subnet's empty table takes 8 bytes a block (512 KiB for a /8).
#[derive(Debug)]
pub struct Table {
    subnet: Subnet,
    blocks: Box<[OnceBox<Block>]>,
}

const BLOCK_LEN: usize = 256;
type Block = [AtomicU64; BLOCK_LEN];

impl Table {
    /// An empty table for all addresses of the subnet.
    pub fn new(subnet: &Subnet) -> Table {
        let blocks = subnet.host_mask() as usize / BLOCK_LEN + 1;
        Table { subnet: *subnet, blocks: (0..blocks).map(|_| OnceBox::new()).collect() }
    }

    /// The route of an address; `None` where there is none, and outside the subnet.
    #[inline]
    pub fn get(&self, addr: Ipv4Addr) -> Option<Route> {
        // Acquire: who sees a route also sees what its session's owner wrote before it set the route.
        Route::unpack(self.entry(addr)?.load(Ordering::Acquire))
    }

    /// Sets the route of an address, whatever it was. `false`, and nothing done, outside the subnet and for the one
    /// route that cannot be told from none (all three numbers at their maximum).
    pub fn set(&self, addr: Ipv4Addr, route: Route) -> bool {
        if route == Route::UNREPRESENTABLE {
            return false;
        }
        let Some((block, index)) = self.place(addr) else { return false };
        let block = block.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BLOCK_LEN]));
        let Some(entry) = block.get(index) else { return false };
        entry.store(route.pack(), Ordering::Release);
        true
    }

    /// Removes the route of an address if it still is `expected`; `false` where it is not.
    pub fn clear(&self, addr: Ipv4Addr, expected: Route) -> bool {
        self.exchange(addr, expected, 0)
    }

    /// Changes the route of an address from `expected` to `new` in one step; `false` where it is not `expected`, and
    /// for a `new` that [`Table::set`] refuses.
    pub fn replace(&self, addr: Ipv4Addr, expected: Route, new: Route) -> bool {
        new != Route::UNREPRESENTABLE && self.exchange(addr, expected, new.pack())
    }

    fn exchange(&self, addr: Ipv4Addr, expected: Route, new: u64) -> bool {
        expected != Route::UNREPRESENTABLE
            && self.entry(addr).is_some_and(|entry| {
                entry.compare_exchange(expected.pack(), new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
    }

    fn entry(&self, addr: Ipv4Addr) -> Option<&AtomicU64> {
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

    fn table(prefix: u8) -> Table {
        Table::new(&Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix })
    }

    fn addr(host: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 | host)
    }

    fn route(worker: u16, generation: u16, slot: u32) -> Route {
        Route { worker, generation, slot }
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
            assert!(!table.clear(addr(host), route(0, 0, 0)));
            assert!(!table.replace(addr(host), route(0, 0, 0), route(1, 1, 1)));
        }
        assert!(table.blocks.iter().all(|block| block.get().is_none()));
        assert!(table.set(addr(2), route(0, 0, 0)));
        assert_eq!(table.blocks.iter().filter(|block| block.get().is_some()).count(), 1);
    }

    #[test]
    fn every_address_of_the_subnet_has_its_own_route() {
        for prefix in [22, 24, 25, 30] {
            let table = table(prefix);
            let hosts = 1 << (32 - prefix);
            for host in 0..hosts {
                assert!(table.set(addr(host), route(1, 2, host)));
            }
            for host in 0..hosts {
                assert_eq!(table.get(addr(host)), Some(route(1, 2, host)));
            }
            for outside in [addr(hosts), Ipv4Addr::new(9, 255, 255, 255), Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED] {
                assert!(!table.set(outside, route(0, 0, 0)), "{outside} in /{prefix}");
                assert_eq!(table.get(outside), None);
            }
        }
    }

    #[test]
    fn the_first_and_the_last_route_are_no_exception() {
        let table = table(24);
        let last = route(u16::MAX, u16::MAX, u32::MAX - 1);
        for edge in [route(0, 0, 0), last, route(0, u16::MAX, u32::MAX), route(u16::MAX, 0, u32::MAX)] {
            assert!(table.set(addr(2), edge));
            assert_eq!(table.get(addr(2)), Some(edge));
            assert!(table.clear(addr(2), edge));
            assert_eq!(table.get(addr(2)), None);
        }
        assert!(!table.set(addr(2), Route::UNREPRESENTABLE));
        assert!(!table.clear(addr(2), Route::UNREPRESENTABLE), "an empty entry is not that route");
        assert!(!table.replace(addr(2), Route::UNREPRESENTABLE, last));
        assert!(table.set(addr(2), last) && !table.replace(addr(2), last, Route::UNREPRESENTABLE));
        assert_eq!(table.get(addr(2)), Some(last));
    }

    #[test]
    fn clear_and_replace_only_touch_what_was_expected() {
        let table = table(24);
        let (old, new) = (route(1, 1, 1), route(1, 2, 1));
        assert!(table.set(addr(2), new));
        assert!(!table.clear(addr(2), old), "the address has a new session");
        assert!(!table.replace(addr(2), old, route(3, 3, 3)));
        assert_eq!(table.get(addr(2)), Some(new));
        assert!(table.replace(addr(2), new, old));
        assert!(table.clear(addr(2), old));
        assert!(!table.clear(addr(2), old));
    }

    #[test]
    fn readers_see_whole_routes_while_writers_change_them() {
        let table = table(20);
        let hosts = || (0..4096).step_by(37).map(addr);
        // In each route all three numbers agree, so that a torn one would show.
        let whole = |number: u16| route(number, number, u32::from(number));
        hosts().for_each(|host| assert!(table.set(host, whole(0))));
        std::thread::scope(|scope| {
            let read = || {
                let found = (0..1000).flat_map(|_| hosts()).filter_map(|host| table.get(host));
                found.inspect(|found| assert_eq!(*found, whole(found.worker))).count()
            };
            let readers = [scope.spawn(read), scope.spawn(read)];
            let mut number = 0_u16;
            while readers.iter().any(|reader| !reader.is_finished()) {
                number = (number + 1) % 60_000;
                for host in hosts() {
                    assert!(table.set(host, whole(number)));
                    assert!(table.replace(host, whole(number), whole(number + 1)));
                    assert!(!number.is_multiple_of(5) || table.clear(host, whole(number + 1)));
                }
            }
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
    }

    #[test]
    fn of_many_that_clear_one_route_one_succeeds() {
        let table = table(24);
        for round in 0..200 {
            let expected = route(0, round, 9);
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
        fn packing_is_a_bijection_without_none(worker: u16, generation: u16, slot: u32) {
            let route = route(worker, generation, slot);
            prop_assume!(route != Route::UNREPRESENTABLE);
            prop_assert_ne!(route.pack(), 0);
            prop_assert_eq!(Route::unpack(route.pack()), Some(route));
        }

        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0_u32..1100, 0_u16..3, 0_u16..3, 0_u8..3), 1..300)) {
            let table = table(22);
            let mut map = HashMap::new();
            for (host, first, second, step) in steps {
                let (first, second) = (route(first, 0, 0), route(second, 0, 0));
                // Few addresses, so that steps meet; some of them outside.
                let host = if host < 1000 { host % 8 * 128 } else { host };
                let matches = map.get(&host) == Some(&first);
                let expected = match step {
                    0 => host < 1024,
                    _ => matches,
                };
                let done = match step {
                    0 => table.set(addr(host), first),
                    1 => table.clear(addr(host), first),
                    _ => table.replace(addr(host), first, second),
                };
                prop_assert_eq!(done, expected);
                if done {
                    match step {
                        0 => map.insert(host, first),
                        1 => map.remove(&host),
                        _ => map.insert(host, second),
                    };
                }
                prop_assert_eq!(table.get(addr(host)), map.get(&host).copied());
            }
        }
    }
}
