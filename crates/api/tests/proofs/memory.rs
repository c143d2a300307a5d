//! Counts what a thread allocates, so that a test can tell how much a body costs.

#![expect(
    unsafe_code,
    reason = "an allocator cannot be written without; this one hands all to the system's and counts"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn gain(bytes: usize) {
    // A thread that ends allocates when its counters are gone; nobody asks for those bytes.
    let _ = NOW.try_with(|now| {
        now.set(now.get().saturating_add(bytes));
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

fn lose(bytes: usize) {
    let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(bytes)));
}

// SAFETY: every call goes to `System` as it came; what is done beside it touches no memory of the caller's, and
// the counters need no allocation: they are constants at a thread's begin.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        gain(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        lose(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What `work` gives, and how many bytes more than before this thread held at most meanwhile.
pub(crate) fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    MOST.set(before);
    let done = work();
    (done, MOST.get().saturating_sub(before))
}

#[test]
fn what_is_held_at_once_counts() {
    let ((), bytes) = most(|| {
        for _ in 0..10 {
            drop(std::hint::black_box(vec![0_u8; 1 << 20]));
        }
    });
    assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
}
