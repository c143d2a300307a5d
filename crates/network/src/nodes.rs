//! The cluster's nodes: who has which pods' addresses, and what a node's own addresses are.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::Cidr;

/// A node, as far as connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, which its certificate says too.
    pub name: String,
    /// The range of its pods' addresses, once it has one.
    pub pods: Option<Cidr>,
    /// Where its agent takes links, once it has said so: at the first of its own addresses.
    pub link: Option<SocketAddr>,
    /// Its own addresses, as it says itself.
    pub addresses: Vec<Ipv4Addr>,
}

/// All nodes that this one has heard of, itself among them.
#[derive(Debug, Default)]
pub struct Nodes {
    by_name: HashMap<String, Arc<Node>>,
    /// By the first address of their pods' ranges, which do not overlap.
    by_range: BTreeMap<Ipv4Addr, Arc<Node>>,
    /// By the addresses at which they take links, and their names.
    by_link: BTreeMap<(Ipv4Addr, String), Arc<Node>>,
}

impl Nodes {
    /// Takes up a node, or what has become of it. None: it is gone.
    pub fn set(&mut self, name: &str, node: Option<Node>) {
        if let Some(old) = self.by_name.remove(name) {
            self.by_range.retain(|_, held| !Arc::ptr_eq(held, &old));
            self.by_link.retain(|_, held| !Arc::ptr_eq(held, &old));
        }
        let Some(node) = node else { return };
        let node = Arc::new(node);
        if let Some(range) = node.pods {
            self.by_range.insert(range.first(), Arc::clone(&node));
        }
        if let Some(SocketAddr::V4(link)) = node.link {
            let at = (*link.ip(), name.to_owned());
            self.by_link.insert(at, Arc::clone(&node));
        }
        self.by_name.insert(name.to_owned(), node);
    }

    /// A node by its name.
    pub fn named(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name)
    }

    /// The node whose pods have such addresses.
    pub fn of_pod(&self, address: Ipv4Addr) -> Option<&Arc<Node>> {
        let (_, node) = self.by_range.range(..=address).next_back()?;
        let range = node.pods?;
        range.contains(address).then_some(node)
    }

    /// The node whose address it is to the node that is called `own`: that one itself, if it has the address, else the first
    /// by name that takes links there.
    ///
    /// Nodes say themselves which addresses are theirs, and could name anybody's. Where links go a certificate is asked for
    /// before anything is sent to the node's pods; what other nodes say beyond that is not believed.
    pub fn at(&self, address: Ipv4Addr, own: &str) -> Option<&Arc<Node>> {
        let own = self.named(own);
        own.filter(|own| own.addresses.contains(&address))
            .or_else(|| {
                let mut from = self.by_link.range((address, String::new())..);
                let ((at, _), node) = from.next()?;
                (*at == address).then_some(node)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, range: &str, address: [u8; 4]) -> Node {
        Node {
            name: name.to_owned(),
            pods: range.parse().ok(),
            link: Some(SocketAddr::from((address, 7000))),
            addresses: vec![address.into()],
        }
    }

    #[test]
    fn pods_and_nodes_are_found_by_their_addresses() {
        let mut nodes = Nodes::default();
        nodes.set("a", Some(node("a", "10.128.0.0/18", [192, 0, 2, 1])));
        nodes.set("b", Some(node("b", "10.128.64.0/18", [192, 0, 2, 2])));
        nodes.set("c", Some(node("c", "", [192, 0, 2, 3])));
        let of = |nodes: &Nodes, address: [u8; 4]| {
            let found = nodes.of_pod(address.into());
            found.map(|node| node.name.clone())
        };
        for (address, due) in [
            ([10, 128, 0, 7], Some("a")),
            ([10, 128, 63, 255], Some("a")),
            ([10, 128, 64, 0], Some("b")),
            ([10, 128, 128, 1], None),
            ([10, 127, 255, 255], None),
            ([192, 0, 2, 3], None),
        ] {
            assert_eq!(of(&nodes, address).as_deref(), due, "{address:?}");
        }
        let at = |nodes: &Nodes, last| {
            let found = nodes.at(Ipv4Addr::new(192, 0, 2, last), "");
            found.map(|node| node.name.clone())
        };
        assert_eq!(at(&nodes, 3).as_deref(), Some("c"));
        // A node that moves leaves nothing behind.
        nodes.set("a", Some(node("a", "10.128.128.0/18", [192, 0, 2, 9])));
        assert_eq!(of(&nodes, [10, 128, 0, 7]), None);
        assert_eq!(of(&nodes, [10, 128, 128, 7]).as_deref(), Some("a"));
        assert_eq!(at(&nodes, 1), None);
        // Nor does one take another's address with it.
        nodes.set("d", Some(node("d", "", [192, 0, 2, 9])));
        assert_eq!(at(&nodes, 9).as_deref(), Some("a"));
        nodes.set("d", None);
        assert_eq!(at(&nodes, 9).as_deref(), Some("a"));
        nodes.set("a", None);
        assert_eq!((of(&nodes, [10, 128, 128, 7]), at(&nodes, 9)), (None, None));
        assert!(nodes.named("a").is_none() && nodes.named("b").is_some());
    }

    #[test]
    fn of_other_nodes_the_address_counts_that_their_links_go_to() {
        let mut nodes = Nodes::default();
        let (ours, others) = (Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(192, 0, 2, 2));
        let mut a = node("a", "10.128.0.0/18", [192, 0, 2, 1]);
        a.addresses.extend([ours, others]);
        nodes.set("a", Some(a.clone()));
        nodes.set("b", Some(node("b", "10.128.64.0/18", [192, 0, 2, 2])));
        let at = |nodes: &Nodes, address, own| {
            let found = nodes.at(address, own);
            found.map(|node| node.name.clone())
        };
        for (own, due_of_ours, due_of_others) in [
            ("a", Some("a"), Some("a")),
            ("b", None, Some("b")),
            ("c", None, Some("b")),
        ] {
            assert_eq!(at(&nodes, ours, own).as_deref(), due_of_ours, "{own}");
            assert_eq!(at(&nodes, others, own).as_deref(), due_of_others, "{own}");
        }
        // Nobody can ask it for a certificate yet.
        a.link = None;
        nodes.set("a", Some(a));
        let first = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(at(&nodes, first, "c"), None);
        assert_eq!(at(&nodes, first, "a").as_deref(), Some("a"));
    }
}
