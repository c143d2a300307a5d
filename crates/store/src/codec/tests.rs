use std::collections::BTreeSet;
use std::sync::Arc;

use super::Encode;
use crate::Command;
use crate::Op;
use crate::RequestId;
use crate::When;
use crate::apply::Proposal;
use crate::types::LogEntry;
use crate::types::Membership;
use crate::types::Payload;
use crate::types::Peer;
use crate::types::StoredMembership;
use crate::types::log_id;

fn entries() -> Vec<LogEntry> {
    let command = Command {
        when: vec![
            When::Revision {
                key: "a".into(),
                is: 7,
            },
            When::Unrenewed { id: 1, renewed: 2 },
        ],
        ops: vec![
            Op::Put {
                key: "a".into(),
                value: "value".into(),
                lease: Some(1),
            },
            Op::Put {
                key: "b".into(),
                value: "".into(),
                lease: None,
            },
            Op::Delete { key: "c".into() },
            Op::GrantLease { id: 1, ttl_ms: 2 },
            Op::KeepAlive { id: 3 },
            Op::RevokeLease { id: 4 },
        ],
    };
    let proposal = Proposal {
        id: RequestId(u128::MAX - 1),
        seen: 3,
        command: Arc::new(command),
    };
    let peers = [1, 2, 3].map(|id| {
        (
            id,
            Peer {
                name: format!("n{id}"),
                address: format!("127.0.0.{id}:1"),
            },
        )
    });
    let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
    let membership =
        Membership::new(voters, std::collections::BTreeMap::from(peers)).expect("membership");
    [
        Payload::Blank,
        Payload::Normal(proposal),
        Payload::Membership(membership),
    ]
    .into_iter()
    .map(|payload| LogEntry {
        log_id: log_id(4, 9),
        payload,
    })
    .collect()
}

#[test]
fn log_entries_come_back_as_they_were() {
    for entry in entries() {
        assert_eq!(
            LogEntry::from_slice(&entry.to_vec()).expect("decoded"),
            entry
        );
    }
    let none = StoredMembership::default();
    assert_eq!(
        StoredMembership::from_slice(&none.to_vec()).expect("decoded"),
        none
    );
}

#[test]
fn malformed_bytes_are_refused_without_harm() {
    for entry in entries() {
        let bytes = entry.to_vec();
        for cut in 0..bytes.len() {
            assert!(LogEntry::from_slice(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            // Lengths become enormous this way: nothing may be allocated for them.
            bytes[at] = 0xff;
            let _ = LogEntry::from_slice(&bytes);
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(LogEntry::from_slice(&longer).is_err());
    }
}
