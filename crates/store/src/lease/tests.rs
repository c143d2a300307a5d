use std::time::Duration;

use tokio::time::Instant;

use super::Deadlines;
use crate::Command;
use crate::Op;
use crate::State;
use crate::When;
use crate::apply;

fn perform(state: &mut State, op: Op) {
    let revision = state.revision() + 1;
    apply(state, revision, &Command::always(vec![op]));
}

#[tokio::test]
async fn a_lease_ends_when_its_time_is_over_and_it_was_not_renewed() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut state = State::default();
    perform(
        &mut state,
        Op::GrantLease {
            id: 1,
            ttl_ms: 1000,
        },
    );
    perform(
        &mut state,
        Op::GrantLease {
            id: 2,
            ttl_ms: u64::MAX,
        },
    );
    let mut deadlines = Deadlines::default();
    assert!(deadlines.due(&state, after(0)).is_empty());
    assert!(deadlines.due(&state, after(999)).is_empty());
    perform(&mut state, Op::KeepAlive { id: 1 });
    assert!(
        deadlines.due(&state, after(1000)).is_empty(),
        "the full time again"
    );
    let due = deadlines.due(&state, after(2000));
    let end = Command {
        when: vec![When::Unrenewed { id: 1, renewed: 3 }],
        ops: vec![Op::RevokeLease { id: 1 }],
    };
    assert_eq!(due, [end]);
    // A new leader counts anew.
    assert!(Deadlines::default().due(&state, after(2000)).is_empty());
}
