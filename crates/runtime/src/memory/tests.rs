use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::advance;

use super::*;

fn alone(limit: u64) -> Memory {
    Memory::new(Some(limit), 0, NodeMemory::endless())
}

#[test]
fn growth_ends_at_the_limit() {
    let memory = alone(100);
    assert_eq!(memory.grow(100), Ok(()));
    assert_eq!(memory.grow(1), Err(OutOfMemory::Limit(100)));
    assert_eq!(memory.grow(u64::MAX), Err(OutOfMemory::Limit(100)));
    memory.shrink(40);
    assert_eq!((memory.used(), memory.grow(40)), (60, Ok(())));
}

#[test]
fn what_all_have_ends_at_the_node_but_for_what_was_requested() {
    let node = NodeMemory::new(Some(100), Arc::new(|_| None));
    let memory = |requested| Memory::new(None, requested, node.clone());
    let (greedy, modest) = (memory(0), memory(30));
    assert_eq!(greedy.grow(101), Err(OutOfMemory::Node(100)));
    assert_eq!(greedy.grow(95), Ok(()));
    assert_eq!(greedy.grow(6), Err(OutOfMemory::Node(5)));
    assert_eq!(greedy.used(), 95, "nothing was counted");
    assert_eq!(modest.grow(30), Ok(()));
    assert_eq!(modest.grow(1), Err(OutOfMemory::Node(0)));
    modest.resize(None, 40).unwrap();
    assert_eq!(modest.grow(10), Ok(()));
    greedy.shrink(95);
    assert_eq!(greedy.grow(60), Ok(()));
    assert_eq!(greedy.grow(1), Err(OutOfMemory::Node(0)));
    modest.shrink(40);
    assert_eq!(greedy.grow(40), Ok(()));
}

/// A machine that other programs leave something of.
#[derive(Default)]
struct Machine {
    for_guests: AtomicU64,
    looks: AtomicU64,
}

impl Machine {
    fn leaving(bytes: u64) -> Arc<Self> {
        let machine = Self::default();
        machine.leave(bytes);
        Arc::new(machine)
    }

    fn leave(&self, bytes: u64) {
        self.for_guests.store(bytes, Relaxed);
    }

    fn node(self: &Arc<Self>, most: Option<u64>) -> Arc<NodeMemory> {
        let machine = self.clone();
        let left = move |used| {
            machine.looks.fetch_add(1, Relaxed);
            Some(machine.for_guests.load(Relaxed).saturating_sub(used))
        };
        NodeMemory::new(most, Arc::new(left))
    }

    fn looks(&self) -> u64 {
        self.looks.load(Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_grants_half_of_what_is_left() {
    let machine = Machine::leaving(1_000);
    let guest = Memory::new(None, 0, machine.node(None));
    for (bytes, grown, looks) in [
        (500, Ok(()), 1),
        // 250 of the other half,
        (1, Ok(()), 2),
        (249, Ok(()), 2),
        // and all of what is left for whoever wants it at once.
        (240, Ok(()), 3),
        (11, Err(OutOfMemory::Node(10)), 3),
        (10, Ok(()), 4),
        (1, Err(OutOfMemory::Node(0)), 4),
    ] {
        assert_eq!((guest.grow(bytes), machine.looks()), (grown, looks));
    }
    // What was given back is there without a look.
    guest.shrink(10);
    assert_eq!((guest.grow(4), machine.looks()), (Ok(()), 4));
    machine.leave(2_000);
    assert_eq!(guest.grow(7), Err(OutOfMemory::Node(6)));
    advance(HOLDS).await;
    assert_eq!((guest.grow(7), machine.looks()), (Ok(()), 5));
}

#[tokio::test(start_paused = true)]
async fn what_others_take_is_not_granted_but_to_who_requested_it() {
    let machine = Machine::leaving(1_000);
    let node = machine.node(Some(2_000));
    let memory = |requested| Memory::new(None, requested, node.clone());
    let (greedy, modest) = (memory(0), memory(100));
    assert_eq!(greedy.grow(400), Ok(()));
    machine.leave(450);
    // The look holds for a while, and for what it has granted.
    assert_eq!((greedy.grow(40), machine.looks()), (Ok(()), 1));
    advance(HOLDS).await;
    assert_eq!(greedy.grow(11), Err(OutOfMemory::Node(10)));
    machine.leave(300);
    advance(HOLDS).await;
    assert_eq!(greedy.grow(1), Err(OutOfMemory::Node(0)));
    assert_eq!(machine.looks(), 3);
    assert_eq!((modest.grow(100), machine.looks()), (Ok(()), 3));
    assert_eq!(modest.grow(1), Err(OutOfMemory::Node(0)));
    // However much there is, nobody has more than the node gives.
    machine.leave(u64::MAX);
    advance(HOLDS).await;
    assert_eq!(greedy.grow(1_461), Err(OutOfMemory::Node(1_460)));
    assert_eq!(greedy.grow(1_460), Ok(()));
}

/// However fast guests of any size grow, and others with them, they never have more than the last look has left, they are
/// refused only where too little is, and looks are few.
#[tokio::test(start_paused = true)]
async fn guests_come_as_near_as_they_may() {
    for size in [1, 7, 64 << 10, 1 << 20, 300 << 20] {
        for others in [0, 1, 3] {
            let machine = Machine::leaving(10 << 30);
            let guest = Memory::new(None, 0, machine.node(None));
            // Small ones take their time only near the end.
            let step = |left: u64| size.max(left / 1_000);
            let left = || {
                machine
                    .for_guests
                    .load(Relaxed)
                    .saturating_sub(guest.used())
            };
            while guest.grow(step(left())).is_ok() {
                assert!(guest.used() <= machine.for_guests.load(Relaxed));
                let taken = step(left()) * others / 4;
                machine.leave(machine.for_guests.load(Relaxed) - taken.min(left()));
            }
            let (left, looks) = (left(), machine.looks());
            assert!(left < size, "{size} {others}: {left}");
            assert!(looks < 100, "{size} {others}: {looks}");
        }
    }
}

#[test]
fn a_limit_is_never_below_what_is_used() {
    let memory = alone(100);
    memory.grow(80).unwrap();
    let refused = memory.resize(Some(79), 0).unwrap_err();
    assert_eq!(
        refused,
        ResizeError::MemoryInUse {
            limit: 79,
            used: 80
        }
    );
    let words = refused.to_string();
    assert!(words.contains("79") && words.contains("80"), "{words}");
    assert_eq!((memory.limit(), memory.used()), (100, 80));
    memory.resize(Some(80), 0).unwrap();
    assert_eq!(memory.grow(1), Err(OutOfMemory::Limit(80)));
    memory.resize(Some(200), 0).unwrap();
    assert_eq!(memory.grow(120), Ok(()));
    memory.resize(None, 0).unwrap();
    assert_eq!(memory.grow(1 << 40), Ok(()));
}
