//! What a rule lets pass: peers and ports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::PodPolicy;
use crate::{Family, Protocol};

/// The name of a set of pods that rules have in common. Who belongs to it stands at the
/// [pods](PodPolicy::groups), so that whether a pod does is asked of the pod alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(pub u64);

/// Lets pass what has one of these peers at its other end and one of these ports at its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who.
    pub peers: Peers,
    /// At which ports of the destination.
    pub ports: Ports,
}

/// Who may be at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Every address, of a pod or not.
    Everyone,
    /// Only these; nobody if there are none.
    Only {
        /// Pods that belong to one of them.
        groups: BTreeSet<Group>,
        /// Addresses in one of them, of pods or not.
        blocks: Vec<Block>,
    },
}

/// Which ports of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port of every protocol.
    All,
    /// Only these; none if there are none.
    Only(Vec<Port>),
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By number.
    Range(Protocol, RangeInclusive<u16>),
    /// Whatever the destination calls so; what is no pod calls nothing so.
    Named(Protocol, String),
}

/// A port to which a pod gives a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// What it is served by.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// A range of addresses without some ranges within.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    within: Range,
    except: Vec<Range>,
}

/// Addresses of one family that agree in the bits of the mask. Unlike a node's [`Cidr`](crate::Cidr) it may be
/// one address, or all, and may be written with bits beyond its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    family: Family,
    base: u128,
    mask: u128,
}

impl Rule {
    /// Whether it lets this pass: to this port of the destination, with this peer at the other end of the pod that
    /// has the rule.
    pub(super) fn allows(&self, packet: &Packet<'_>) -> bool {
        // Ports first: they need no look at the peer.
        self.ports.contain(packet) && self.peers.contain(packet)
    }
}

/// What is judged by one pod's rules.
pub(super) struct Packet<'a> {
    pub(super) peer: IpAddr,
    /// What is known of the peer, if it is a pod.
    pub(super) peer_pod: Option<&'a PodPolicy>,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// What is known of the destination, if it is a pod.
    pub(super) destination: Option<&'a PodPolicy>,
}

impl Peers {
    fn contain(&self, packet: &Packet<'_>) -> bool {
        let Self::Only { groups, blocks } = self else {
            return true;
        };
        let belongs = packet
            .peer_pod
            .is_some_and(|pod| groups.iter().any(|g| pod.groups.contains(g)));
        belongs || blocks.iter().any(|b| b.contains(packet.peer))
    }
}

impl Ports {
    fn contain(&self, packet: &Packet<'_>) -> bool {
        let Self::Only(ports) = self else {
            return true;
        };
        ports.iter().any(|port| match port {
            Port::Range(protocol, range) => {
                *protocol == packet.protocol && range.contains(&packet.port)
            }
            Port::Named(protocol, name) => {
                *protocol == packet.protocol
                    && packet
                        .destination
                        .is_some_and(|pod| pod.calls(name, *protocol, packet.port))
            }
        })
    }
}

impl Block {
    /// Takes up an `ipBlock`: `10.0.0.0/8` or `2001:db8::/32`, and what is not meant of it.
    ///
    /// # Errors
    /// The first text that is no range of addresses.
    pub fn new<'a>(
        cidr: &str,
        except: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, MalformedBlock> {
        let except = except.into_iter().map(Range::parse);
        Ok(Self {
            within: Range::parse(cidr)?,
            except: except.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.within.contains(address) && !self.except.iter().any(|part| part.contains(address))
    }
}

/// Text that is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses")]
pub struct MalformedBlock(String);

impl Range {
    fn parse(text: &str) -> Result<Self, MalformedBlock> {
        let read = || {
            let (address, length) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let (family, bits) = bits(address);
            let width = match family {
                Family::V4 => 32,
                Family::V6 => 128,
            };
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            let length: u32 = length.parse().ok().filter(|l| digits && *l <= width)?;
            // A shift by all bits is none to the machine.
            let mask = u128::MAX.checked_shl(width - length).unwrap_or(0);
            Some(Self {
                family,
                base: bits & mask,
                mask,
            })
        };
        read().ok_or_else(|| MalformedBlock(text.to_owned()))
    }

    fn contains(self, address: IpAddr) -> bool {
        let (family, bits) = bits(address);
        family == self.family && bits & self.mask == self.base
    }
}

fn bits(address: IpAddr) -> (Family, u128) {
    match address {
        IpAddr::V4(address) => (Family::V4, u32::from(address).into()),
        IpAddr::V6(address) => (Family::V6, address.into()),
    }
}
