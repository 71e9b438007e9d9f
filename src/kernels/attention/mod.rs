//! Causal attention of a batch of segments, each over the cache of its own sequence.
//!
//! Both ways through are those of Dao et al. 2022 (arXiv:2205.14135): keys are taken in blocks, and
//! what was summed for a query is scaled down when a block brings a higher score. With few rows
//! (`decode`) reading the cache is what takes time, with many (`prefill`) multiplying is.

mod decode;
mod prefill;
mod softmax;

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use self::decode::Piece;
use self::prefill::Block;
use super::bfloats::MANY;
use super::number::{Byte, CacheNumber, Half, Number, Single};
use super::pages::{PAGE, Page};
use super::parts::Parts;
use super::pool::Pool;
use super::simd::{Instructions, Kernel, Simd, run_with};

/// From so many rows of a segment on, packing keys for multiplication pays.
const PREFILL_ROWS: usize = 8;

/// Tasks for each thread, so that all end at about the same time.
const TASKS_PER_THREAD: usize = 8;

/// What is the same for all segments.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, Hkv; divides H. Query heads `i·H/Hkv..(i+1)·H/Hkv` read head `i`.
    pub kv_heads: usize,
    /// Width of a query or key head, D.
    pub width: usize,
    /// Width of a value head, Dv.
    pub value_width: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// How many positions a query sees, its own included; all if absent.
    pub window: Option<usize>,
    /// `[H]`: a score that takes part in each softmax and has no value.
    pub sinks: Option<&'a [f32]>,
    /// How the caches store keys and values.
    pub number: CacheNumber,
}

/// The newest rows of one sequence, and its cache with their keys and values already in it.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSegment<'a> {
    /// Rows, L: the last positions of the sequence.
    pub rows: usize,
    /// Positions that the pages hold, the rows' own included.
    pub length: usize,
    /// Their keys and values.
    pub pages: &'a [Page<'a>],
}

/// Attends from `queries` `[T, H, D]`, the segments' rows laid end to end, into `out`
/// `[T, H · Dv]`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn attend(
    pool: &Pool,
    attention: &Attention<'_>,
    segments: &[AttentionSegment<'_>],
    queries: &[f32],
    out: &mut [f32],
) {
    attend_with(
        Instructions::best(),
        pool,
        attention,
        segments,
        queries,
        out,
    );
}

fn attend_with(
    instructions: Instructions,
    pool: &Pool,
    attention: &Attention<'_>,
    segments: &[AttentionSegment<'_>],
    queries: &[f32],
    out: &mut [f32],
) {
    attention.check(segments, queries.len(), out.len());
    let plan = Plan::new(instructions, attention, segments, pool.threads());
    let mut partials = vec![0.0; plan.partials];
    let call = Call {
        attention,
        queries,
        out: Parts::new(out),
        partials: Parts::new(&mut partials),
    };
    pool.run(plan.tasks.len(), |index| {
        let task = Doing {
            call: &call,
            plan: &plan,
            task: &plan.tasks[index],
        };
        run_with(instructions, task);
    });
}

impl Attention<'_> {
    /// Keys of a task. Where one begins the memory rests, so long ones are read faster; few heads need
    /// shorter ones to keep all threads at work. Always as many, so that what a sequence gets does
    /// not depend on those beside it.
    fn piece(&self) -> usize {
        (128 * self.kv_heads).clamp(256, 1024)
    }

    /// Query heads to one head of keys and values.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn check(&self, segments: &[AttentionSegment<'_>], queries: usize, out: usize) {
        let rows: usize = segments.iter().map(|segment| segment.rows).sum();
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads));
        assert!(self.width > 0 && self.value_width > 0 && self.window != Some(0));
        assert_eq!(queries, rows * self.heads * self.width);
        assert_eq!(out, rows * self.heads * self.value_width);
        assert!(self.sinks.is_none_or(|sinks| sinks.len() == self.heads));
        for segment in segments {
            assert!(segment.rows <= segment.length);
            assert!(segment.length <= PAGE * segment.pages.len());
            let size = |width: usize| self.kv_heads * PAGE * self.number.row_bytes(width);
            for page in segment.pages {
                assert_eq!(page.keys.len(), size(self.width));
                assert_eq!(page.values.len(), size(self.value_width));
            }
        }
    }
}

/// What all tasks of a call share.
struct Call<'a> {
    attention: &'a Attention<'a>,
    queries: &'a [f32],
    out: Parts<'a, f32>,
    partials: Parts<'a, f32>,
}

/// The work of a call, cut in tasks.
struct Plan<'a> {
    tasks: Vec<Task<'a>>,
    /// Floats that pieces leave for whoever merges them.
    partials: usize,
    /// Pieces done of each group that was cut in pieces.
    done: Vec<AtomicUsize>,
}

enum Task<'a> {
    Decode(Piece<'a>),
    Prefill(Block<'a>),
}

impl<'a> Plan<'a> {
    fn new(
        instructions: Instructions,
        attention: &'a Attention<'a>,
        segments: &'a [AttentionSegment<'a>],
        threads: usize,
    ) -> Self {
        let mut plan = Self {
            tasks: Vec::new(),
            partials: 0,
            done: Vec::new(),
        };
        let tasks = if threads > 1 {
            threads * TASKS_PER_THREAD
        } else {
            1
        };
        let mut placed = Vec::new();
        let mut first_row = 0;
        for segment in segments {
            placed.push((first_row, segment));
            first_row += segment.rows;
        }
        let groups = |prefill: bool| {
            let placed = placed.iter().filter(move |(_, segment)| {
                segment.rows > 0 && (segment.rows >= PREFILL_ROWS) == prefill
            });
            placed.flat_map(|&(first_row, segment)| {
                (0..attention.kv_heads).map(move |kv_head| Group {
                    attention,
                    segment,
                    first_row,
                    kv_head,
                })
            })
        };
        let rows: usize = groups(true).map(Group::rows).sum();
        for group in groups(true) {
            let is_tiled = group.segment.rows >= MANY
                && attention.number == CacheNumber::I8
                && instructions.has_tiles();
            let blocks = Block::cut(group, rows.div_ceil(tasks), is_tiled);
            plan.tasks.extend(blocks.map(Task::Prefill));
        }
        for group in groups(false) {
            let (pieces, partials) =
                Piece::cut(group, attention.piece(), plan.partials, plan.done.len());
            plan.tasks.extend(pieces.map(Task::Decode));
            plan.partials = partials;
            plan.done.push(AtomicUsize::new(0));
        }
        plan
    }
}

/// The rows of a segment in the query heads that share one head of keys and values. They are
/// counted with the heads running fastest: `0..L · H/Hkv`.
#[derive(Clone, Copy)]
struct Group<'a> {
    attention: &'a Attention<'a>,
    segment: &'a AttentionSegment<'a>,
    first_row: usize,
    kv_head: usize,
}

impl Group<'_> {
    fn rows(self) -> usize {
        self.segment.rows * self.attention.group()
    }

    fn head(self, row: usize) -> usize {
        let group = self.attention.group();
        self.kv_head * group + row % group
    }

    /// Where row and head are among all rows and heads of the call.
    fn place(self, row: usize) -> usize {
        (self.first_row + row / self.attention.group()) * self.attention.heads + self.head(row)
    }

    /// Positions whose keys a row sees.
    fn visible(self, row: usize) -> Range<usize> {
        let end = self.segment.length - self.segment.rows + row / self.attention.group() + 1;
        let window = self.attention.window.unwrap_or(end);
        end.saturating_sub(window)..end
    }

    /// Positions whose keys some row sees.
    fn keys(self) -> Range<usize> {
        self.visible(0).start..self.segment.length
    }

    /// Copies a query, multiplied by the scale.
    fn query(self, row: usize, queries: &[f32], to: &mut [f32]) {
        let width = self.attention.width;
        let query = &queries[self.place(row) * width..][..width];
        for (to, x) in to.iter_mut().zip(query) {
            *to = x * self.attention.scale;
        }
    }

    /// The keys, and the values, from a position on that begins a block, to the end of its page.
    fn cached<N: Number>(self, position: usize) -> (*const u8, *const u8) {
        let page = &self.segment.pages[position / PAGE];
        let place = self.kv_head * PAGE + position % PAGE;
        let keys = &page.keys[place * N::row_bytes(self.attention.width)..];
        let values = &page.values[place * N::row_bytes(self.attention.value_width)..];
        (keys.as_ptr(), values.as_ptr())
    }
}

/// One task under way.
struct Doing<'a> {
    call: &'a Call<'a>,
    plan: &'a Plan<'a>,
    task: &'a Task<'a>,
}

impl Kernel for Doing<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        match (self.task, self.call.attention.number) {
            (Task::Decode(piece), CacheNumber::F32) => piece.run::<S, Single>(self.call, self.plan),
            (Task::Decode(piece), CacheNumber::F16) => piece.run::<S, Half>(self.call, self.plan),
            (Task::Decode(piece), CacheNumber::I8) => piece.run::<S, Byte>(self.call, self.plan),
            (Task::Prefill(block), CacheNumber::F32) => block.run::<S, Single>(self.call),
            (Task::Prefill(block), CacheNumber::F16) => block.run::<S, Half>(self.call),
            (Task::Prefill(block), CacheNumber::I8) => block.run::<S, Byte>(self.call),
        }
    }
}

#[cfg(test)]
mod tests;
