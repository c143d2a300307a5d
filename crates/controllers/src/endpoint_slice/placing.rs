//! Which endpoint goes into which slice: as few writes as will do, and no slice over its size.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::Endpoint;

/// The most endpoints that one slice has, as in Kubernetes.
pub(super) const SLICE: usize = 100;

/// Endpoints by what they stand for: a pod's uid, or an address.
pub(super) type Endpoints = BTreeMap<String, Endpoint>;

/// What an endpoint stands for.
pub(super) fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|r| r.uid.clone());
    uid.unwrap_or_else(|| endpoint.addresses.join(","))
}

/// Spreads endpoints over the slices that hold some of them already: `slices` are what those have now.
///
/// An endpoint stays where it is. New ones fill slices that change anyway, then the fullest with room for
/// them all, then slices of their own: those come behind the given ones. A slice that is left with none
/// is empty in the result. This is Kubernetes' `reconcileByPortMapping`.
pub(super) fn place(mut wanted: Endpoints, slices: &[&[Endpoint]]) -> Vec<Vec<Endpoint>> {
    let mut placed: Vec<Vec<Endpoint>> = Vec::new();
    let mut changed = Vec::new();
    for slice in slices {
        let kept: Vec<Endpoint> = slice
            .iter()
            .filter_map(|endpoint| wanted.remove(&identity(endpoint)))
            .take(SLICE)
            .collect();
        changed.push(kept.as_slice() != *slice);
        placed.push(kept);
    }
    let mut new: Vec<Endpoint> = wanted.into_values().collect();
    // A slice that is written anyway takes what it can; one that has lost all its own goes instead.
    let touched = placed.iter_mut().zip(&changed);
    for (slice, _) in touched.filter(|(slice, changed)| **changed && !slice.is_empty()) {
        take(slice, &mut new);
    }
    while !new.is_empty() {
        let room = |slice: &Vec<Endpoint>| SLICE.saturating_sub(slice.len());
        let fullest = placed
            .iter_mut()
            .filter(|slice| room(slice) >= new.len())
            .max_by_key(|slice| slice.len());
        match fullest {
            Some(slice) => take(slice, &mut new),
            None => {
                let mut slice = Vec::new();
                take(&mut slice, &mut new);
                placed.push(slice);
            }
        }
    }
    placed
}

/// Moves as many endpoints into a slice as it has room for.
fn take(slice: &mut Vec<Endpoint>, from: &mut Vec<Endpoint>) {
    let room = SLICE.saturating_sub(slice.len()).min(from.len());
    slice.extend(from.drain(..room));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: usize) -> Endpoint {
        Endpoint {
            addresses: vec![format!("10.0.{}.{}", address / 256, address % 256)],
            ..Endpoint::default()
        }
    }

    fn slice(addresses: impl IntoIterator<Item = usize>) -> Vec<Endpoint> {
        addresses.into_iter().map(endpoint).collect()
    }

    fn spread(wanted: &[Endpoint], slices: &[Vec<Endpoint>]) -> Vec<Vec<Endpoint>> {
        let wanted = wanted.iter().map(|e| (identity(e), e.clone())).collect();
        let slices: Vec<&[Endpoint]> = slices.iter().map(Vec::as_slice).collect();
        place(wanted, &slices)
    }

    fn lengths(placed: &[Vec<Endpoint>]) -> Vec<usize> {
        placed.iter().map(Vec::len).collect()
    }

    #[test]
    fn endpoints_stay_and_new_ones_fill_what_is_there() {
        for (wanted, slices, lengths_after) in [
            (slice(0..250), vec![], vec![100, 100, 50]),
            (
                slice(0..250),
                vec![slice(0..100), slice(100..200)],
                vec![100, 100, 50],
            ),
            // The fullest that has room for all.
            (
                slice(0..130),
                vec![slice(0..30), slice(30..120)],
                vec![30, 100],
            ),
            // One that is written anyway comes first.
            (
                slice(1..131),
                vec![slice(0..30), slice(30..120)],
                vec![40, 90],
            ),
            (
                slice(50..60),
                vec![slice(0..50), slice(50..60)],
                vec![0, 10],
            ),
            (vec![], vec![slice(0..3)], vec![0]),
        ] {
            let placed = spread(&wanted, &slices);
            assert_eq!(lengths(&placed), lengths_after, "{} wanted", wanted.len());
            let mut all: Vec<_> = placed.iter().flatten().map(identity).collect();
            all.sort();
            let mut due: Vec<_> = wanted.iter().map(identity).collect();
            due.sort();
            assert_eq!(all, due);
            // What was placed right is not written again.
            assert_eq!(spread(&wanted, &placed), placed);
        }
    }

    #[test]
    fn an_endpoint_in_two_slices_stays_in_the_first() {
        let placed = spread(&slice(0..2), &[slice(0..2), slice(1..3)]);
        assert_eq!(placed, [slice(0..2), vec![]]);
    }
}
