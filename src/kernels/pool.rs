//! The threads that kernels share: a region of tasks starts in about a microsecond.
//!
//! A decode step is hundreds of short regions, so threads wait for the next one by looking for a
//! while before they sleep. Tasks are handed out one by one: a thread that the system takes its
//! processor from holds up nothing but its own task.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};

/// Looks for work before the processor is offered to others.
const SPINS: usize = 2_000;

/// Offers of the processor to others before a thread sleeps.
const YIELDS: usize = 200;

/// In [`Shared::gate`]: threads may enter the region.
const OPEN: u64 = 1 << 31;

/// In [`Shared::gate`]: the count of threads inside. Above [`OPEN`] is the region's number.
const INSIDE: u64 = OPEN - 1;

type Task<'a> = &'a (dyn Fn(usize) + Sync);

/// Threads, the caller's among them, that do the tasks of one region at a time.
pub struct Pool {
    shared: &'static Shared,
    workers: Vec<Thread>,
    /// Held by whoever has a region under way.
    turn: Mutex<()>,
}

struct Shared {
    gate: AtomicU64,
    /// The region's function, its number of tasks and the next to do.
    task: Mutex<Option<Task<'static>>>,
    count: AtomicUsize,
    next: AtomicUsize,
    sleepers: AtomicUsize,
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Pool {
    /// A pool of so many threads, the caller's included. The threads live as long as the program.
    pub fn new(threads: NonZero<usize>) -> Self {
        let shared: &'static Shared = Box::leak(Box::new(Shared {
            gate: AtomicU64::new(0),
            task: Mutex::new(None),
            count: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        }));
        // A thread that the system refuses makes the pool smaller. One that it gives and then has no room for what it
        // needs to begin aborts the program: whoever asks for a number of threads must bound it.
        let workers = (1..threads.get())
            .filter_map(|index| {
                let thread = thread::Builder::new().name(format!("kernels-{index}"));
                let handle = thread.spawn(move || shared.work()).ok()?;
                Some(handle.thread().clone())
            })
            .collect();
        Self {
            shared,
            workers,
            turn: Mutex::new(()),
        }
    }

    /// Threads that do the tasks of a region.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Does `task(0)` to `task(count - 1)`, in any order and on any thread; returns when all are
    /// done. A region inside a region, or beside another thread's, is done by its caller alone.
    ///
    /// # Panics
    /// With what the first task that panicked said, after all threads have left.
    pub fn run(&self, count: usize, task: impl Fn(usize) + Sync) {
        #[cfg(test)]
        let task = super::simd::inherited(task);
        let turn = self.turn.try_lock();
        if count <= 1 || self.workers.is_empty() || turn.is_err() {
            drop(turn);
            (0..count).for_each(task);
            return;
        }
        let task: Task<'_> = &task;
        // SAFETY: the reference outlives its use: this function returns only after the gate is
        // closed and everybody who entered has left.
        let task = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        let shared = self.shared;
        *lock(&shared.task) = Some(task);
        shared.count.store(count, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        let number = shared.gate.load(Ordering::Relaxed) >> 32;
        shared
            .gate
            .store(number.wrapping_add(1) << 32 | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            self.workers.iter().for_each(Thread::unpark);
        }
        shared.work_off(task);
        shared.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut waited = 0;
        while shared.gate.load(Ordering::Acquire) & INSIDE > 0 {
            pause(&mut waited);
        }
        *lock(&shared.task) = None;
        drop(turn);
        if shared.panicked.swap(false, Ordering::Relaxed)
            && let Some(panic) = lock(&shared.panic).take()
        {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// What a thread of the pool does for ever.
    fn work(&self) {
        let mut seen = 0;
        loop {
            let gate = self.next_region(seen);
            seen = gate >> 32;
            let entered =
                self.gate
                    .compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed);
            if entered.is_err() {
                // Closed, or somebody else entered in this moment: look again.
                seen -= 1;
                continue;
            }
            let task = *lock(&self.task);
            if let Some(task) = task {
                self.work_off(task);
            }
            self.gate.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Waits for an open region with another number than the one seen last.
    fn next_region(&self, seen: u64) -> u64 {
        let open = |gate: u64| gate & OPEN > 0 && gate >> 32 != seen;
        let mut waited = 0;
        loop {
            let gate = self.gate.load(Ordering::Acquire);
            if open(gate) {
                return gate;
            }
            if waited < SPINS + YIELDS {
                pause(&mut waited);
                continue;
            }
            // Whoever opens a region looks at `sleepers` after it has stored the gate.
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            if !open(self.gate.load(Ordering::SeqCst)) {
                thread::park();
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
            waited = 0;
        }
    }

    /// Does tasks until none is left. After a panic the rest is skipped.
    fn work_off(&self, task: Task<'_>) {
        let count = self.count.load(Ordering::Relaxed);
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                task(index);
            }
        }));
        if let Err(panic) = done {
            self.next.store(count, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
            self.panicked.store(true, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

static SHARED: OnceLock<Pool> = OnceLock::new();

/// Sets how many threads the pool of this process has. Says whether it did: the first use decides.
pub fn set_threads(threads: NonZero<usize>) -> bool {
    let mut made = false;
    SHARED.get_or_init(|| {
        made = true;
        Pool::new(threads)
    });
    made
}

/// The pool of this process: a thread for each processor, unless [`set_threads`] was faster.
pub fn shared() -> &'static Pool {
    SHARED
        .get_or_init(|| Pool::new(thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)))
}

/// A pool of one thread and one of three, for tests: the threads of a pool never end.
#[cfg(test)]
pub(super) fn for_tests() -> [&'static Pool; 2] {
    static POOLS: OnceLock<[Pool; 2]> = OnceLock::new();
    let pools = POOLS.get_or_init(|| [1, 3].map(|n| Pool::new(NonZero::new(n).unwrap())));
    pools.each_ref()
}

/// Does `work` on each item, each once, on the threads of a pool.
pub(super) fn run_each<T: Send>(pool: &Pool, items: Vec<T>, work: impl Fn(T) + Sync) {
    if let [_] = items.as_slice() {
        return items.into_iter().for_each(work);
    }
    let items: Vec<Mutex<Option<T>>> = items
        .into_iter()
        .map(|item| Mutex::new(Some(item)))
        .collect();
    pool.run(items.len(), |index| {
        if let Some(item) = lock(&items[index]).take() {
            work(item);
        }
    });
}

/// A short wait, longer the longer it has lasted.
fn pause(waited: &mut usize) {
    *waited += 1;
    if *waited < SPINS {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once() {
        let pool = Pool::new(NonZero::new(3).unwrap());
        for count in [0, 1, 2, 7, 1000] {
            for _ in 0..200 {
                let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.run(count, |index| {
                    done[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn sleepers_are_woken_and_regions_within_regions_are_done() {
        let pool = Pool::new(NonZero::new(4).unwrap());
        let done = AtomicUsize::new(0);
        for _ in 0..5 {
            while pool.shared.sleepers.load(Ordering::SeqCst) < 3 {
                thread::yield_now();
            }
            pool.run(8, |_| {
                pool.run(3, |_| {
                    done.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        assert_eq!(done.into_inner(), 120);
    }

    #[test]
    fn threads_that_call_together_all_get_their_work_done() {
        let pool = Pool::new(NonZero::new(2).unwrap());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let done = AtomicUsize::new(0);
                        pool.run(5, |_| {
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                        assert_eq!(done.into_inner(), 5);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(NonZero::new(2).unwrap());
        for _ in 0..20 {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                pool.run(50, |index| assert!(index != 20, "task {index}"));
            }));
            let panic = panic.unwrap_err();
            assert_eq!(crate::error::panic_text(&*panic), "task 20");
        }
        let done = AtomicUsize::new(0);
        pool.run(50, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 50);
    }
}
