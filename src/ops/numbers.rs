//! Memory of what the CPU computes: who drops numbers leaves it to the next ones of the same thread.

use std::cell::RefCell;
use std::mem;
use std::ops::{Deref, DerefMut};

/// Vectors that a thread keeps.
const MOST_VECTORS: usize = 32;
/// Numbers that it keeps in all: 16 MB.
const MOST_NUMBERS: usize = 1 << 22;

thread_local! {
    /// The last one was dropped last.
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// float32 numbers. A step makes as many vectors of the same lengths as the step before it. New memory would be zeros that
/// nobody reads, in pages that the system has yet to find.
#[derive(Debug, Clone)]
pub struct Numbers(Vec<f32>);

impl Numbers {
    /// So many, each of any value.
    pub fn new(count: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let at = kept.iter().rposition(|numbers| numbers.len() == count)?;
            Some(kept.remove(at))
        });
        let mut numbers = kept.unwrap_or_else(|| vec![0.0; count]);
        // Who reads what was not written is found out by tests.
        if cfg!(debug_assertions) {
            numbers.fill(f32::NAN);
        }
        Self(numbers)
    }

    /// As a vector, which is not left to others.
    pub fn into_vec(mut self) -> Vec<f32> {
        mem::take(&mut self.0)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let numbers = mem::take(&mut self.0);
        if numbers.is_empty() || numbers.len() > MOST_NUMBERS {
            return;
        }
        // A thread that ends has no use for it.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            kept.push(numbers);
            let mut count: usize = kept.iter().map(Vec::len).sum();
            while kept.len() > MOST_VECTORS || count > MOST_NUMBERS {
                count -= kept.remove(0).len();
            }
        });
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl From<Vec<f32>> for Numbers {
    fn from(numbers: Vec<f32>) -> Self {
        Self(numbers)
    }
}

impl FromIterator<f32> for Numbers {
    fn from_iter<I: IntoIterator<Item = f32>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Vec<usize> {
        KEPT.with_borrow(|kept| kept.iter().map(Vec::len).collect())
    }

    #[test]
    fn memory_is_left_to_numbers_of_the_same_length() {
        let first = Numbers::new(1000);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(kept(), [1000]);
        assert_ne!(Numbers::new(999).as_ptr(), place);
        let again = Numbers::new(1000);
        assert_eq!((again.as_ptr(), again.len()), (place, 1000));
        assert_eq!(again.into_vec().len(), 1000);
        assert_eq!(kept(), [999]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for length in 1..100 {
            drop(Numbers::new(length));
        }
        let last: Vec<usize> = (100 - MOST_VECTORS..100).collect();
        assert_eq!(kept(), last);
        drop(Numbers::new(MOST_NUMBERS - 99));
        assert_eq!(kept(), [99, MOST_NUMBERS - 99]);
        drop(Numbers::new(MOST_NUMBERS + 1));
        assert_eq!(kept().len(), 2);
    }
}
