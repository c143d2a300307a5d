//! A node's network: which pod has which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{Notify, Semaphore};

use crate::budget::Budget;
use crate::datagram;
use crate::descriptors::{self, Share};
use crate::enter::OwnPorts;
use crate::link::Links;
use crate::passing::Passing;
use crate::pipe::Breaker;
use crate::ports::Ports;
use crate::resolve::MOST_ASKED;
use crate::stream::MOST_WAITING;
use crate::table::Table;

/// Bytes that may wait in all streams that one pod writes to, and in all of its sockets for datagrams.
const BUFFERED: usize = 64 << 20;

/// A range of IPv4 addresses, such as `10.128.0.0/18`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: u32,
    length: u8,
}

impl Cidr {
    fn size(self) -> u64 {
        1 << (32 - u32::from(self.length))
    }

    /// How many addresses pods can have: the first and the last are nobody's, as on any subnet.
    fn usable(self) -> u64 {
        self.size() - 2
    }

    /// One of them, counted from 0.
    fn at(self, place: u64) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1 + place as u32)
    }

    /// Which one an address is.
    fn place(self, address: Ipv4Addr) -> Option<u64> {
        let offset = u64::from(u32::from(address).wrapping_sub(self.base));
        offset.checked_sub(1).filter(|place| *place < self.usable())
    }

    /// Its lowest address.
    pub fn first(self) -> Ipv4Addr {
        self.base.into()
    }

    /// Its highest address.
    pub(crate) fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + (self.size() - 1) as u32)
    }

    /// How many leading bits its addresses share.
    pub(crate) fn length(self) -> u8 {
        self.length
    }

    /// Whether the address lies in this range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u64::from(u32::from(address).wrapping_sub(self.base)) < self.size()
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.length)
    }
}

impl std::str::FromStr for Cidr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| malformed())?;
        let length: u8 = length.parse().map_err(|_| malformed())?;
        if length > 30 || u32::from(address).trailing_zeros() < 32 - u32::from(length) {
            return Err(malformed());
        }
        Ok(Self {
            base: address.into(),
            length,
        })
    }
}

/// Why a pod got no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not an IPv4 range with its host bits clear and a length of at most 30.
    #[error("{0:?} is not an IPv4 range like 10.128.0.0/18")]
    Malformed(String),
    /// Every address of the node's range is in use.
    #[error("no free pod address in {0}")]
    Exhausted(Cidr),
    /// The address asked for lies outside the node's range, or is its first or last.
    #[error("{0} is not a pod address of {1}")]
    Foreign(Ipv4Addr, Cidr),
    /// The address asked for belongs to a live pod.
    #[error("pod address {0} is in use")]
    Taken(Ipv4Addr),
}

#[derive(Debug, Default)]
struct Pods {
    by_address: BTreeMap<Ipv4Addr, Weak<Pod>>,
    /// The addresses before this one were given out at some time, or may have been. None is reused before
    /// all were, so that a late packet or a stale endpoint does not meet another pod.
    fresh: u64,
    /// Those of them that nobody has.
    freed: BTreeSet<u64>,
    /// Where the search for one of these goes on.
    next: u64,
}

impl Pods {
    /// The next address of so many, counted from the first one.
    fn take(&mut self, usable: u64) -> Option<u64> {
        if self.fresh < usable {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        let later = self.freed.range(self.next..).next();
        let place = *later.or_else(|| self.freed.first())?;
        self.freed.remove(&place);
        self.next = place + 1;
        Some(place)
    }

    /// Takes a certain one that nobody has.
    fn take_back(&mut self, place: u64) {
        if place >= self.fresh {
            // Those just before it were given out lately, too.
            self.freed.extend(self.fresh..place);
            self.fresh = place + 1;
        }
        self.freed.remove(&place);
    }
}

#[derive(Debug)]
struct Node {
    cidr: Cidr,
    pods: Mutex<Pods>,
    table: RwLock<Table>,
    links: OnceLock<Links>,
    /// Counted up by each lookup, so that who takes the first address of a name is spread.
    turn: AtomicUsize,
    /// What the node's own connections are told apart by.
    own: OwnPorts,
    /// The sockets of the system by which its pods and the outside reach each other.
    sockets: Arc<descriptors::Budget>,
}

/// One node's network. Clones are handles to the same network.
#[derive(Clone, Debug)]
pub struct Network(Arc<Node>);

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) address: Ipv4Addr,
    pub(crate) uid: String,
    /// The connections that its rules have let pass.
    pub(crate) passing: Mutex<Passing>,
    pub(crate) ports: Mutex<Ports>,
    pub(crate) budget: Budget,
    /// Room to ask the host's resolver.
    pub(crate) asked: Arc<Semaphore>,
    /// Connections that wait to be accepted, at all listeners together.
    pub(crate) waiting: Budget,
    /// Streams are accepted at an address where they were not.
    pub(crate) listened: Notify,
    /// Room for sockets of the node that carry the pod's datagrams outside.
    pub(crate) outside: Semaphore,
    /// Room for its streams to the outside.
    pub(crate) outside_streams: Arc<Semaphore>,
    /// What it has of the node's sockets, for both.
    pub(crate) sockets: Arc<Share>,
    node: Arc<Node>,
}

impl Pod {
    /// What is known of the cluster.
    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.node.table.read()
    }

    /// How many lookups there were before this one.
    pub(crate) fn turn(&self) -> usize {
        self.node.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The way to other nodes, once there is one.
    pub(crate) fn links(&self) -> Option<&Links> {
        self.node.links.get()
    }

    /// Whether an address is one that this node's pods have.
    pub(crate) fn is_near(&self, address: Ipv4Addr) -> bool {
        self.node.cidr.contains(address)
    }

    /// Whether an address means this pod to itself: loopback and the unspecified address always do.
    pub(crate) fn own(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || address.is_unspecified() || address == self.address
    }

    /// The pod that this address means to this pod.
    pub(crate) fn at(self: &Arc<Self>, address: Ipv4Addr) -> Option<Arc<Self>> {
        if self.own(address) {
            return Some(self.clone());
        }
        self.node.pods.lock().by_address.get(&address)?.upgrade()
    }
}

/// A pod's place in the network. The address is free again once every clone is dropped.
#[derive(Clone, Debug)]
pub struct PodNet(Arc<Pod>);

impl Network {
    /// A network without pods, which gives out the addresses of `cidr`. Connections to and from the outside have an eighth
    /// of the files that this process may open.
    pub fn new(cidr: Cidr) -> Self {
        Self::with(cidr, descriptors::Budget::of_sockets(places(cidr)))
    }

    /// The same, and so many sockets for connections to and from the outside.
    pub fn with_sockets(cidr: Cidr, most: usize) -> Self {
        Self::with(cidr, descriptors::Budget::new(most, places(cidr)))
    }

    fn with(cidr: Cidr, sockets: Arc<descriptors::Budget>) -> Self {
        Self(Arc::new(Node {
            cidr,
            pods: Mutex::default(),
            table: RwLock::default(),
            links: OnceLock::new(),
            turn: AtomicUsize::new(0),
            own: OwnPorts::default(),
            sockets,
        }))
    }

    /// Says how other nodes are reached. Before it is said, and of a second time, nothing comes.
    pub fn link(&self, links: Links) {
        // The first stays: what is under way uses it.
        let _ = self.0.links.set(links);
    }

    /// Judges again what was let pass between these addresses and the pods of this node: what may not pass any
    /// more is reset.
    pub fn judge_again(&self, addresses: &BTreeSet<Ipv4Addr>) {
        let policies = self.0.table.read().policies.clone();
        // Of whom no rules are nothing is to be ended.
        let isolated = policies.isolated(self.0.cidr.first(), self.0.cidr.last());
        for pod in isolated
            .into_iter()
            .filter_map(|address| self.pod_at(address))
        {
            // Reset outside of the lock, which what ends by it takes.
            let denied = pod.passing.lock().denied(pod.address, addresses, &policies);
            denied.iter().for_each(Breaker::reset);
        }
    }

    /// The live pod that has an address of this node.
    pub(crate) fn pod_at(&self, address: Ipv4Addr) -> Option<Arc<Pod>> {
        self.0.pods.lock().by_address.get(&address)?.upgrade()
    }

    /// The next address that a connection of the node itself comes from.
    pub(crate) fn own_address(&self, node: Ipv4Addr) -> SocketAddrV4 {
        self.0.own.next(node)
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.0.table.read()
    }

    /// Takes up changes of the cluster. Connections that begin afterwards follow them.
    pub fn update(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.0.table.write());
    }

    /// The sockets by which its pods and the outside reach each other.
    pub(crate) fn sockets(&self) -> &Arc<descriptors::Budget> {
        &self.0.sockets
    }

    /// The range that this node's pods get their addresses from.
    pub fn cidr(&self) -> Cidr {
        self.0.cidr
    }

    /// Gives a new pod an address of its own. `uid` is what the pod is known by on other nodes.
    ///
    /// # Errors
    /// [`AddressError::Exhausted`] when none is free.
    pub fn join(&self, uid: &str) -> Result<PodNet, AddressError> {
        let cidr = self.0.cidr;
        let mut pods = self.0.pods.lock();
        let place = pods.take(cidr.usable());
        let place = place.ok_or(AddressError::Exhausted(cidr))?;
        Ok(self.admit(&mut pods, cidr.at(place), uid))
    }

    /// Gives a pod the address that it had before, after its agent was started again.
    ///
    /// # Errors
    /// When the address is not one of this node's or belongs to a live pod.
    pub fn rejoin(&self, address: Ipv4Addr, uid: &str) -> Result<PodNet, AddressError> {
        let cidr = self.0.cidr;
        let place = cidr.place(address);
        let place = place.ok_or(AddressError::Foreign(address, cidr))?;
        let mut pods = self.0.pods.lock();
        if pods.by_address.contains_key(&address) {
            return Err(AddressError::Taken(address));
        }
        pods.take_back(place);
        Ok(self.admit(&mut pods, address, uid))
    }

    fn admit(&self, pods: &mut Pods, address: Ipv4Addr, uid: &str) -> PodNet {
        let pod = Arc::new(Pod {
            address,
            uid: uid.to_owned(),
            passing: Mutex::default(),
            ports: Mutex::default(),
            budget: Budget::new(BUFFERED),
            asked: Arc::new(Semaphore::new(MOST_ASKED)),
            waiting: Budget::new(MOST_WAITING),
            listened: Notify::new(),
            outside: Semaphore::new(datagram::nat::MOST),
            outside_streams: Arc::new(Semaphore::new(crate::outside::MOST_STREAMS)),
            sockets: Share::of_one(&self.0.sockets),
            node: self.0.clone(),
        });
        pods.by_address.insert(address, Arc::downgrade(&pod));
        PodNet(pod)
    }

    /// How many pods hold an address.
    pub fn pods(&self) -> usize {
        self.0.pods.lock().by_address.len()
    }
}

/// Who has a part of a node's sockets: each pod that there may be, and clients of the node's ports and of its Ingresses.
fn places(cidr: Cidr) -> usize {
    cidr.usable() as usize + 2
}

impl PodNet {
    /// The pod's address.
    pub fn address(&self) -> Ipv4Addr {
        self.0.address
    }

    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.0
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let mut pods = self.node.pods.lock();
        pods.by_address.remove(&self.address);
        pods.freed.extend(self.node.cidr.place(self.address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(cidr: &str) -> Network {
        Network::new(cidr.parse().unwrap())
    }

    #[test]
    fn addresses_are_unique_and_come_back_late() {
        let network = network("10.128.0.0/29");
        let mut pods: Vec<_> = (0..6).map(|_| network.join("uid").unwrap()).collect();
        assert_eq!(pods[0].address(), Ipv4Addr::new(10, 128, 0, 1));
        assert_eq!(
            network.join("uid").unwrap_err(),
            AddressError::Exhausted(network.cidr())
        );
        let freed = pods.remove(2).address();
        assert_eq!(network.join("uid").unwrap().address(), freed);
        assert_eq!(network.pods(), 5);
    }

    #[test]
    fn a_pod_keeps_its_address_over_a_restart() {
        let network = network("10.128.64.0/18");
        let address = Ipv4Addr::new(10, 128, 64, 9);
        let pod = network.rejoin(address, "uid").unwrap();
        assert_eq!(
            network.rejoin(address, "uid").unwrap_err(),
            AddressError::Taken(address)
        );
        drop(pod);
        network.rejoin(address, "uid").unwrap();
        let new = network.join("uid").unwrap().address();
        assert_eq!(new, Ipv4Addr::new(10, 128, 64, 10), "reused late");
        for foreign in ["10.128.64.0", "10.128.127.255", "10.128.128.1"] {
            let foreign = foreign.parse().unwrap();
            assert!(matches!(
                network.rejoin(foreign, "uid"),
                Err(AddressError::Foreign(..))
            ));
        }
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.1/24",
            "10.0.0.0/31",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
