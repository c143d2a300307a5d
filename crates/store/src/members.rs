//! Changes of membership, on the leader.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;

use crate::Error;
use crate::Member;
use crate::forward::Failure;
use crate::forward::write_failure;
use crate::network::Peers;
use crate::service::Raft;
use crate::types::Peer;

/// A learner this close behind the end of the log is caught up.
const CLOSE: u64 = 100;

/// Adds a learner, waits until it has caught up, and makes it a voter if it is to be one: as a voter that lags it
/// could hold up every commit.
pub(crate) async fn add(raft: &Raft, member: &Member) -> Result<(), Failure> {
    let peer = Peer {
        name: member.name.clone(),
        address: member.address.to_string(),
    };
    let known = raft
        .metrics()
        .borrow_watched()
        .membership_config
        .membership()
        .get_node(&member.id)
        .cloned();
    if let Some(known) = known.filter(|known| *known != peer) {
        let reason = format!(
            "member {} is {} at {} already; remove it first",
            member.id, known.name, known.address
        );
        return Err(Failure::Final(Error::Membership(reason)));
    }
    raft.add_learner(member.id, peer, false)
        .await
        .map_err(write_failure)?;
    if !member.voter {
        return Ok(());
    }
    let mut metrics = raft.metrics();
    while !caught_up(raft, member.id)? {
        if metrics.changed().await.is_err() {
            return Err(Failure::Again("raft has stopped".to_owned()));
        }
    }
    let voters = ChangeMembers::AddVoterIds(BTreeSet::from([member.id]));
    raft.change_membership(voters, true)
        .await
        .map_err(write_failure)?;
    Ok(())
}

fn caught_up(raft: &Raft, id: u64) -> Result<bool, Failure> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let Some(replication) = &metrics.replication else {
        return Err(Failure::Again("the leader changed".to_owned()));
    };
    let matched = replication
        .get(&id)
        .and_then(|matched| *matched)
        .map_or(0, |matched| matched.index + 1);
    Ok(matched > 0 && matched + CLOSE > metrics.last_log_index.unwrap_or(0))
}

/// Removes a member, voter or not. Nothing happens if it is none.
pub(crate) async fn remove(raft: &Raft, id: u64) -> Result<(), Failure> {
    let membership = raft
        .metrics()
        .borrow_watched()
        .membership_config
        .membership()
        .clone();
    if membership.get_node(&id).is_none() {
        return Ok(());
    }
    let ids = BTreeSet::from([id]);
    let change = if membership.voter_ids().any(|voter| voter == id) {
        ChangeMembers::RemoveVoters(ids)
    } else {
        ChangeMembers::RemoveNodes(ids)
    };
    raft.change_membership(change, false)
        .await
        .map_err(write_failure)?;
    Ok(())
}

/// How long a leader that wants to end waits for another: longer than the others, who hear nothing from it meanwhile, take
/// to elect one by themselves.
const HAND_OVER_WITHIN: Duration = Duration::from_millis(1500);

/// Hands leadership to another voter, one that has most of the log first; returns when this member does not lead any more.
/// Nothing happens if there is no other voter.
pub(crate) async fn transfer_leadership(raft: &Raft, peers: &Peers, id: u64) -> Result<(), Error> {
    let voters = other_voters(raft, id);
    if voters.is_empty() {
        return Ok(());
    }
    let wait = raft.wait(Some(HAND_OVER_WITHIN));
    let deposed = wait.metrics(
        |metrics| metrics.current_leader != Some(id),
        "leadership handed over",
    );
    let refused = async {
        let mut refused = peers.refused.subscribe();
        for to in &voters {
            peers.refused.send_replace(None);
            raft.trigger()
                .transfer_leader(*to)
                .await
                .map_err(|fatal| Error::Stopped(fatal.to_string()))?;
            // The sender lives as long as `peers`.
            let _ = refused
                .wait_for(|refused| refused.as_ref() == Some(to))
                .await;
        }
        Err(Error::Unavailable(format!(
            "none of the members {voters:?} takes over"
        )))
    };
    tokio::select! {
        biased;
        deposed = deposed => deposed
            .map(drop)
            .map_err(|error| Error::Unavailable(format!("no member took over: {error}"))),
        refused = refused => refused,
    }
}

/// The other voters, those with most of the log first.
fn other_voters(raft: &Raft, id: u64) -> Vec<u64> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let replication = metrics.replication.iter().flatten();
    let mut others: Vec<_> = replication
        .filter(|(member, _)| **member != id && voters.contains(member))
        .collect();
    others.sort_by_key(|(_, matched)| std::cmp::Reverse(**matched));
    others.into_iter().map(|(member, _)| *member).collect()
}
