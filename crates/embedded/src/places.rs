//! Places for connections: a bounded number in all, and a bounded number for each source, so that no source takes all.
//!
//! A connection that has not earned its place yet, because its peer has no service or is still in the handshake, holds
//! it loosely. When all places are taken, a newcomer pushes out the oldest loose connection of the source that has most
//! of them, or its own source's if that one has as many. So any number of sources that only take places keeps nobody
//! out: they push out each other.

use parking_lot::Mutex;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use vpn_core::source::{Network, Source};

/// Connections that were pushed out, summed over the process.
pub static PUSHED_OUT: AtomicU64 = AtomicU64::new(0);

/// The places of one kind.
pub(crate) struct Places {
    most: AtomicUsize,
    most_per_source: AtomicUsize,
    held: Mutex<Held>,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All places are taken, and firmly.
    All,
    /// This network has as many as it may have.
    Source(Network, usize),
}

/// One connection's place; dropping it gives it back.
pub(crate) struct Place {
    places: Arc<Places>,
    source: Source,
    socket: Arc<TcpStream>,
    /// Its number while it is loose.
    loose: Cell<Option<u64>>,
}

#[derive(Default)]
struct Held {
    all: usize,
    next: u64,
    /// Peers choose the keys of all maps, so these use the standard library's hash.
    networks: HashMap<Network, Count>,
    /// The loose connections of each source, the oldest first.
    loose: HashMap<Source, BTreeMap<u64, Arc<TcpStream>>>,
    /// The networks with loose connections inside another network, or inside none: those with most of them last, and
    /// of those with the same number the one that has had some for longest.
    ranks: HashMap<Option<Network>, BTreeSet<Rank>>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    places: usize,
    loose: usize,
    /// The number of the first loose connection since there was none.
    since: u64,
}

type Rank = (usize, Reverse<u64>, Network);

impl Places {
    pub(crate) fn new(most: usize, most_per_source: usize) -> Arc<Self> {
        Arc::new(Places { most: most.into(), most_per_source: most_per_source.into(), held: Mutex::default() })
    }

    /// Changes the numbers, for connections that come from now on. Of those that are there, newcomers push out what is
    /// too many, as far as they hold their places loosely.
    pub(crate) fn change(&self, most: usize, most_per_source: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_per_source.store(most_per_source, Ordering::Relaxed);
    }

    /// Most places.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// An error if the source of `peer` has its share.
    pub(crate) fn has_share_left(&self, peer: IpAddr) -> Result<(), Full> {
        self.share_left(&self.held.lock(), Source::of(peer))
    }

    fn share_left(&self, held: &Held, source: Source) -> Result<(), Full> {
        for network in networks(source) {
            let most = share(network, self.most_per_source.load(Ordering::Relaxed));
            if held.count(network).places >= most {
                return Err(Full::Source(network, most));
            }
        }
        Ok(())
    }

    /// A loose place for a connection from `peer`.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr, socket: &Arc<TcpStream>) -> Result<Place, Full> {
        let source = Source::of(peer);
        let mut held = self.held.lock();
        self.share_left(&held, source)?;
        let (most, mut pushed_out, mut is_full) = (self.most(), Vec::new(), false);
        while held.all >= most && !is_full {
            let next = held.push_out(source);
            is_full = next.is_none();
            pushed_out.extend(next);
        }
        if is_full {
            drop(held);
            pushed_out.iter().for_each(end);
            return Err(Full::All);
        }
        held.change(source, |count| count.places += 1);
        held.all += 1;
        let loose = Cell::new(Some(held.loosen(source, socket)));
        drop(held);
        pushed_out.iter().for_each(end);
        Ok(Place { places: Arc::clone(self), source, socket: Arc::clone(socket), loose })
    }
}

impl Place {
    /// Three of four places are taken: newcomers push others out, or soon will.
    pub(crate) fn is_crowded(&self) -> bool {
        let most = self.places.most();
        self.places.held.lock().all >= most - most / 4
    }

    /// The connection has earned its place: no newcomer pushes it out.
    pub(crate) fn hold(&self) {
        if let Some(number) = self.loose.get() {
            // Otherwise it has been pushed out just now.
            if self.places.held.lock().tighten(self.source, number).is_some() {
                self.loose.set(None);
            }
        }
    }

    /// The connection holds its place loosely again, as the newest of its source.
    pub(crate) fn loosen(&self) {
        if self.loose.get().is_none() {
            self.loose.set(Some(self.places.held.lock().loosen(self.source, &self.socket)));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock();
        if self.loose.get().is_none_or(|number| held.tighten(self.source, number).is_some()) {
            held.give_back(self.source);
        }
    }
}

/// Ends a connection that has been pushed out.
fn end(socket: &Arc<TcpStream>) {
    PUSHED_OUT.fetch_add(1, Ordering::Relaxed);
    // Whoever serves the connection reads its end; an error means that it has gone already.
    let _ = socket.shutdown(Shutdown::Both);
}

impl Held {
    fn count(&self, network: Network) -> Count {
        self.networks.get(&network).copied().unwrap_or_default()
    }

    /// Changes the counts of all networks of a source.
    fn change(&mut self, source: Source, change: impl Fn(&mut Count)) {
        let mut outer = None;
        for network in networks(source) {
            let mut count = self.count(network);
            let before = count;
            change(&mut count);
            if (count.loose, count.since) != (before.loose, before.since) {
                self.rank(outer, network, before, count);
            }
            if count.places == 0 && count.loose == 0 {
                self.networks.remove(&network);
            } else {
                self.networks.insert(network, count);
            }
            outer = Some(network);
        }
    }

    fn rank(&mut self, outer: Option<Network>, network: Network, before: Count, now: Count) {
        let ranks = self.ranks.entry(outer).or_default();
        ranks.remove(&(before.loose, Reverse(before.since), network));
        if now.loose > 0 {
            ranks.insert((now.loose, Reverse(now.since), network));
        } else if ranks.is_empty() {
            self.ranks.remove(&outer);
        }
    }

    /// Adds a loose connection and returns its number.
    fn loosen(&mut self, source: Source, socket: &Arc<TcpStream>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.loose.entry(source).or_default().insert(number, Arc::clone(socket));
        self.change(source, |count| {
            if count.loose == 0 {
                count.since = number;
            }
            count.loose += 1;
        });
        number
    }

    /// Removes a loose connection from the loose ones; `None` if it is none of them.
    fn tighten(&mut self, source: Source, number: u64) -> Option<Arc<TcpStream>> {
        let of_source = self.loose.get_mut(&source)?;
        let socket = of_source.remove(&number)?;
        if of_source.is_empty() {
            self.loose.remove(&source);
        }
        self.change(source, |count| count.loose -= 1);
        Some(socket)
    }

    fn give_back(&mut self, source: Source) {
        self.change(source, |count| count.places -= 1);
        self.all -= 1;
    }

    /// Takes the place of the oldest loose connection of the source with most of them; `None` if there is none.
    fn push_out(&mut self, newcomer: Source) -> Option<Arc<TcpStream>> {
        let (most, _, mut network) = *self.ranks.get(&None)?.last()?;
        if let Some(own) = networks(newcomer).into_iter().next().filter(|own| self.count(*own).loose >= most) {
            network = own;
        }
        while let Some((_, _, inner)) = self.ranks.get(&Some(network)).and_then(BTreeSet::last) {
            network = *inner;
        }
        let source = network.source()?;
        let (number, socket) = self.loose.get(&source)?.first_key_value()?;
        let (number, socket) = (*number, Arc::clone(socket));
        self.tighten(source, number)?;
        self.give_back(source);
        Some(socket)
    }
}

/// The networks of a source, the widest first.
fn networks(source: Source) -> Vec<Network> {
    let mut networks: Vec<_> = source.networks().collect();
    networks.reverse();
    networks
}

/// The share of a network where a source has `share`.
pub(crate) fn share(network: Network, share: usize) -> usize {
    let wide = network.width().share(u64::try_from(share).unwrap_or(u64::MAX));
    usize::try_from(wide).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// Connections, whose peers see whether they were pushed out.
    struct Sockets(TcpListener);

    impl Sockets {
        fn new() -> Self {
            Sockets(TcpListener::bind("127.0.0.1:0").unwrap())
        }

        fn pair(&self) -> (Arc<TcpStream>, TcpStream) {
            let peer = TcpStream::connect(self.0.local_addr().unwrap()).unwrap();
            peer.set_nonblocking(true).unwrap();
            (Arc::new(self.0.accept().unwrap().0), peer)
        }
    }

    fn is_out(mut peer: &TcpStream) -> bool {
        matches!(peer.read(&mut [0]), Ok(0))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_empty(places: &Places) -> bool {
        let held = places.held.lock();
        held.all == 0 && held.networks.is_empty() && held.loose.is_empty() && held.ranks.is_empty()
    }

    #[test]
    fn the_oldest_loose_one_of_the_largest_source_goes() {
        let (sockets, places) = (Sockets::new(), Places::new(5, 4));
        let mut held = Vec::new();
        for source in ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2", "192.0.2.1"] {
            let (socket, peer) = sockets.pair();
            held.push((places.take(address(source), &socket).unwrap(), peer));
        }
        // The oldest of the largest source holds its place firmly: the next one goes.
        held[1].0.hold();
        let (socket, _honest) = sockets.pair();
        let honest = places.take(address("192.0.2.3"), &socket).unwrap();
        let out: Vec<_> = held.iter().map(|(_, peer)| is_out(peer)).collect();
        // Both have two loose ones, and the first has had some for longer.
        assert_eq!(out, [true, false, false, false, false]);
        // A source that has as many as any other pushes out its own.
        let (socket, _peer) = sockets.pair();
        let newest = places.take(address("192.0.2.2"), &socket).unwrap();
        let out: Vec<_> = held.iter().map(|(_, peer)| is_out(peer)).collect();
        assert_eq!(out, [true, false, true, false, false]);
        drop((held, honest, newest));
        assert!(is_empty(&places));
    }

    #[test]
    fn firm_places_stay_and_can_become_loose_again() {
        let (sockets, places) = (Sockets::new(), Places::new(2, 2));
        let [(one, one_peer), (two, two_peer)] = ["192.0.2.1", "192.0.2.2"].map(|source| {
            let (socket, peer) = sockets.pair();
            let place = places.take(address(source), &socket).unwrap();
            place.hold();
            (place, peer)
        });
        let (socket, _peer) = sockets.pair();
        assert_eq!(places.take(address("192.0.2.3"), &socket).err(), Some(Full::All));
        two.loosen();
        let three = places.take(address("192.0.2.3"), &socket).unwrap();
        assert_eq!((is_out(&one_peer), is_out(&two_peer)), (false, true));
        two.hold();
        drop((one, two, three));
        assert!(is_empty(&places));
    }

    #[test]
    fn fewer_places_push_out_the_loose_ones_beyond_them() {
        let (sockets, places) = (Sockets::new(), Places::new(4, 4));
        let take = |text: &str| {
            let (socket, peer) = sockets.pair();
            places.take(address(text), &socket).map(|place| (place, peer))
        };
        let held: Vec<_> = (1..5).map(|source| take(&format!("192.0.2.{source}")).unwrap()).collect();
        held[0].0.hold();
        places.change(2, 1);
        assert!(held.iter().all(|(_, peer)| !is_out(peer)), "those that are there stay until others need their places");
        assert!(matches!(take("192.0.2.1").err(), Some(Full::Source(_, 1))));
        let newcomer = take("192.0.2.9").unwrap();
        let out: Vec<_> = held.iter().map(|(_, peer)| is_out(peer)).collect();
        assert_eq!(out, [false, true, true, true]);
        newcomer.0.hold();
        assert_eq!(take("192.0.2.8").map(|_| ()).err(), Some(Full::All));
        places.change(3, 2);
        drop((take("192.0.2.8").unwrap(), take("192.0.2.1").unwrap(), held, newcomer));
        assert!(is_empty(&places));
    }

    #[test]
    fn a_site_has_a_share_however_many_networks_it_has() {
        let (sockets, places) = (Sockets::new(), Places::new(8, 4));
        let take = |text: &str| {
            let (socket, peer) = sockets.pair();
            places.take(address(text), &socket).map(|place| (place, peer))
        };
        let of_host: Vec<_> = (0..4).map(|_| take("2001:db8:1:100::1").unwrap()).collect();
        let why = |text: &str| match take(text).err() {
            Some(Full::Source(network, most)) => (network.to_string(), most),
            other => panic!("{other:?}"),
        };
        assert_eq!(why("2001:db8:1:100::2"), ("2001:db8:1:100::/64".into(), 4));
        let of_street: Vec<_> = (1..3).map(|host| take(&format!("2001:db8:1:10{host}::1")).unwrap()).collect();
        assert_eq!(why("2001:db8:1:103::1"), ("2001:db8:1:100::/56".into(), 6));
        let of_site: Vec<_> = (2..4).map(|street| take(&format!("2001:db8:1:{street}00::1")).unwrap()).collect();
        assert_eq!(why("2001:db8:1:400::1"), ("2001:db8:1::/48".into(), 8));
        // The largest source is the site; in it, the host with most.
        let honest = take("192.0.2.1").unwrap();
        assert!(is_out(&of_host[0].1));
        assert!(of_host[1..].iter().chain(&of_street).chain(&of_site).all(|(_, peer)| !is_out(peer)));
        drop((of_host, of_street, of_site, honest));
        assert!(is_empty(&places));
    }
}
