//! Jobs as coroutines: a blocking function with a stack of its own, which stops at every file-system call and goes on when
//! the seed says so. Dropping one that is stopped unwinds it, as a crash ends a thread.

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::Cell;
use std::ptr::null;

type JobYielder = Yielder<(), &'static str>;

thread_local! {
    /// The yielder of the job that runs; null outside of jobs.
    static CURRENT: Cell<*const JobYielder> = const { Cell::new(null()) };
}

/// Enough for a job's buffers and a redb transaction, in a debug build too.
const STACK_BYTES: usize = 1 << 20;

/// Stacks that were used and can be used again.
#[derive(Default)]
pub struct Stacks(Vec<DefaultStack>);

/// A job that has begun, or is about to.
pub struct Running(Coroutine<(), &'static str, (), DefaultStack>);

impl Running {
    /// A job, not begun.
    pub fn new(stacks: &mut Stacks, job: impl FnOnce() + 'static) -> Self {
        let stack =
            stacks.0.pop().unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("memory for one more stack"));
        Self(Coroutine::with_stack(stack, move |yielder: &JobYielder, ()| {
            CURRENT.set(yielder);
            job();
        }))
    }

    /// Lets it run to its next file-system call, whose name is returned, or to its end.
    pub fn resume(mut self, stacks: &mut Stacks) -> Option<(Self, &'static str)> {
        let result = self.0.resume(());
        CURRENT.set(null());
        match result {
            CoroutineResult::Yield(call) => Some((self, call)),
            CoroutineResult::Return(()) => {
                stacks.0.push(self.0.into_stack());
                None
            }
        }
    }
}

/// A step of the job that runs: it stops here. Outside of jobs (at a node's start) nothing happens.
pub fn step(call: &'static str) {
    let current = CURRENT.get();
    if current.is_null() {
        return;
    }
    // SAFETY: `CURRENT` is set by the coroutine whose stack this runs on (below, and at its begin) and cleared whenever it
    // stops or ends, so the yielder it points to lives further up on this very stack.
    #[allow(unsafe_code)]
    unsafe { &*current }.suspend(call);
    CURRENT.set(current);
}
