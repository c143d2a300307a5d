//! The decider as a table: a script of commands, and what each comes to.

use std::sync::Arc;

use bytes::Bytes;

use super::Applied;
use super::Outcome;
use super::Proposal;
use super::apply;
use super::apply_once;
use crate::Command;
use crate::EventKind;
use crate::Op;
use crate::RequestId;
use crate::State;
use crate::When;
use crate::answers::WINDOW;

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        lease: None,
    }
}

fn leased(key: &'static str, lease: u64) -> Op {
    Op::Put {
        key: key.into(),
        value: "leased".into(),
        lease: Some(lease),
    }
}

fn delete(key: &'static str) -> Op {
    Op::Delete { key: key.into() }
}

fn at(key: &'static str, is: u64) -> When {
    When::Revision {
        key: key.into(),
        is,
    }
}

fn grant(id: u64) -> Op {
    Op::GrantLease { id, ttl_ms: 1000 }
}

/// `+key=value(created)` or `-key`, as the events say, behind the outcome.
fn describe(applied: &Applied) -> String {
    let mut text = match &applied.outcome {
        Outcome::Applied { revision } => format!("applied {revision}"),
        Outcome::Refused { current, revision } => {
            let keys: Vec<_> = current
                .iter()
                .map(|(key, is)| format!("{}@{is}", key.escape_ascii()))
                .collect();
            format!("refused {revision} [{}]", keys.join(" "))
        }
        Outcome::LeaseNotFound { id } => format!("no lease {id}"),
        Outcome::TooOld => "too old".to_owned(),
    };
    for event in &applied.events {
        let key = event.key.escape_ascii();
        let before = if event.previous.is_some() { "" } else { " new" };
        text += &match &event.kind {
            EventKind::Put { value, created } => {
                format!(" +{key}={}({created}){before}", value.escape_ascii())
            }
            EventKind::Delete => format!(" -{key}"),
        };
    }
    text
}

#[test]
fn commands_do_what_the_table_says() {
    let script: Vec<(Vec<When>, Vec<Op>, &str)> = vec![
        (vec![], vec![put("a", "1")], "applied 1 +a=1(1) new"),
        (vec![at("a", 0)], vec![put("a", "2")], "refused 1 [a@1]"),
        (vec![at("a", 1)], vec![put("a", "2")], "applied 2 +a=2(1)"),
        (
            vec![at("a", 2), at("b", 0)],
            vec![put("b", "1"), delete("a")],
            "applied 3 +b=1(3) new -a",
        ),
        (
            vec![at("a", 2), at("b", 0)],
            vec![put("b", "2")],
            "refused 3 [a@0 b@3]",
        ),
        (vec![], vec![delete("a")], "applied 3"),
        (
            vec![at("a", 0)],
            vec![put("a", "3")],
            "applied 4 +a=3(4) new",
        ),
        // Leases: needed, granted, granted in the same command, kept alive without a revision, revoked with their keys.
        (vec![], vec![put("c", "1"), leased("l", 9)], "no lease 9"),
        (
            vec![],
            vec![grant(9), leased("l", 9), leased("m", 9)],
            "applied 5 +l=leased(5) new +m=leased(5) new",
        ),
        (vec![], vec![Op::KeepAlive { id: 9 }], "applied 5"),
        (
            vec![When::Unrenewed { id: 9, renewed: 1 }],
            vec![Op::RevokeLease { id: 9 }],
            "refused 5 []",
        ),
        (vec![], vec![put("m", "free")], "applied 6 +m=free(5)"),
        (
            vec![When::Unrenewed { id: 9, renewed: 2 }],
            vec![Op::RevokeLease { id: 9 }],
            "applied 7 -l",
        ),
        (vec![], vec![Op::KeepAlive { id: 9 }], "no lease 9"),
        (vec![], vec![Op::RevokeLease { id: 9 }], "applied 7"),
        (
            vec![],
            vec![Op::RevokeLease { id: 9 }, leased("l", 9)],
            "no lease 9",
        ),
        (
            vec![When::Unrenewed { id: 9, renewed: 2 }],
            vec![put("z", "1")],
            "refused 7 []",
        ),
    ];
    let mut state = State::default();
    for (when, ops, expected) in script {
        let command = Command { when, ops };
        let before = state.clone();
        let revision = state.revision() + 1;
        let applied = apply(&mut state, revision, &command);
        assert_eq!(describe(&applied), expected, "{command:?}");
        if !matches!(applied.outcome, Outcome::Applied { .. }) {
            assert_eq!(state, before, "refused and yet changed: {command:?}");
        }
    }
    let entry = state.get(b"m").expect("m");
    assert_eq!((entry.created, entry.modified, entry.lease), (5, 6, None));
    assert!(state.leased.is_empty());
}

#[test]
fn events_carry_the_entry_before() {
    let mut state = State::default();
    apply(&mut state, 1, &Command::always(vec![put("a", "1")]));
    let entry = state.get(b"a").cloned();
    let applied = apply(&mut state, 2, &Command::always(vec![put("a", "2")]));
    assert_eq!(applied.events[0].previous, entry);
}

fn proposal(id: u128, seen: u64, command: Command) -> Proposal {
    Proposal {
        id: RequestId(id),
        seen,
        command: Arc::new(command),
    }
}

#[test]
fn a_repeated_request_gets_its_first_answer() {
    let mut state = State::default();
    let create = proposal(
        1,
        0,
        Command {
            when: vec![at("a", 0)],
            ops: vec![put("a", "1")],
        },
    );
    let refused = proposal(
        2,
        0,
        Command {
            when: vec![at("a", 0)],
            ops: vec![put("a", "2")],
        },
    );
    assert_eq!(
        describe(&apply_once(&mut state, 1, &create)),
        "applied 1 +a=1(1) new"
    );
    assert_eq!(
        describe(&apply_once(&mut state, 2, &refused)),
        "refused 1 [a@1]"
    );
    apply_once(
        &mut state,
        3,
        &proposal(3, 0, Command::always(vec![delete("a")])),
    );
    let before = state.clone();
    // Neither the success is repeated nor does the refusal turn into a success, though both could now.
    assert_eq!(describe(&apply_once(&mut state, 4, &create)), "applied 1");
    assert_eq!(
        describe(&apply_once(&mut state, 5, &refused)),
        "refused 1 [a@1]"
    );
    assert_eq!(state, before);
}

#[test]
fn what_may_have_been_forgotten_is_never_applied_again() {
    let mut state = State::default();
    let old = proposal(1, 10, Command::always(vec![put("a", "old")]));
    apply_once(&mut state, 10, &old);
    for index in 11..11 + WINDOW {
        apply_once(
            &mut state,
            index,
            &proposal(
                u128::from(index) + 100,
                index,
                Command::always(vec![delete("x")]),
            ),
        );
    }
    assert!(
        state.answers.get(RequestId(1)).is_none(),
        "the record is bounded"
    );
    assert_eq!(
        describe(&apply_once(&mut state, 11 + WINDOW, &old)),
        "too old"
    );
    assert_eq!(state.get(b"a").map(|entry| entry.modified), Some(1));
}

#[test]
fn ranges_are_prefixes_and_pages() {
    let mut state = State::default();
    let ops = ["/a", "/a/1", "/a/2", "/a/3", "/b/1"]
        .into_iter()
        .map(|key| put(key, "v"))
        .collect();
    apply(&mut state, 1, &Command::always(ops));
    let keys = |prefix: &[u8], after: Option<&[u8]>| -> Vec<Bytes> {
        state
            .range_after(prefix, after)
            .map(|(key, _)| key.clone())
            .collect()
    };
    assert_eq!(keys(b"/a/", None), ["/a/1", "/a/2", "/a/3"]);
    assert_eq!(keys(b"/a/", Some(b"/a/1")), ["/a/2", "/a/3"]);
    assert_eq!(keys(b"/a/", Some(b"/a/3")), [""; 0]);
    assert_eq!(keys(b"/a/", Some(b"/")), ["/a/1", "/a/2", "/a/3"]);
    assert_eq!(keys(b"", None).len(), 5);
    assert_eq!(state.range(b"/c").count(), 0);
}
