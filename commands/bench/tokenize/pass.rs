//! One pass over a text: what is timed, and nothing else.

use std::hint::black_box;
use std::panic::resume_unwind;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use mlxr::tokenizer::{Bos, Special, StreamDecoder, Tokenizer};
use mlxr::{Error, Result};

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) time: Duration,
    /// Of the text, in all threads together.
    pub(super) bytes: usize,
    /// Likewise.
    pub(super) tokens: usize,
}

/// Encodes all parts of a text, in as many threads at the same time, each all of them. The time is from the begin of
/// the first thread to the end of the last.
///
/// # Errors
/// What encoding says, [`Error::Io`] where a thread cannot be had.
pub(super) fn encode(tokenizer: &Tokenizer, parts: &[&str], threads: usize) -> Result<Pass> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let work = || {
        let begin = Instant::now();
        let mut tokens = 0;
        for part in parts {
            tokens += black_box(tokenizer.encode(black_box(part), Bos::Never)?).len();
        }
        Ok((begin, Instant::now(), tokens))
    };
    let spans = if threads == 1 {
        vec![work()?]
    } else {
        together(threads, &work)?
    };
    let begin = spans.iter().map(|(begin, ..)| *begin).min();
    let end = spans.iter().map(|(_, end, _)| *end).max();
    let time = begin.zip(end).map(|(begin, end)| end - begin);
    Ok(Pass {
        time: time.unwrap_or_default(),
        bytes: bytes * threads,
        tokens: spans.iter().map(|(.., tokens)| tokens).sum(),
    })
}

/// Does the same in as many threads, none of which begins before all are there.
fn together<T: Send>(threads: usize, work: &(impl Fn() -> Result<T> + Sync)) -> Result<Vec<T>> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let closed = gate.write();
        let started: Vec<_> = (0..threads)
            .map(|_| {
                let worker = || {
                    drop(gate.read());
                    work()
                };
                thread::Builder::new().spawn_scoped(scope, worker)
            })
            .collect();
        drop(closed);
        let ended = started.into_iter().map(|thread| {
            let thread = thread.map_err(Error::io("start", "a thread"))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        ended.collect()
    })
}

/// Decodes all ids at once.
pub(super) fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> Pass {
    let begin = Instant::now();
    let text = black_box(tokenizer.decode(black_box(ids), Special::Show));
    Pass {
        time: begin.elapsed(),
        bytes: text.len(),
        tokens: ids.len(),
    }
}

/// Decodes ids one after the other, as a model writes them.
pub(super) fn stream(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> Pass {
    let begin = Instant::now();
    let mut decoder = StreamDecoder::with_special(Arc::clone(tokenizer), Special::Show);
    let mut bytes = 0;
    for id in ids {
        bytes += black_box(decoder.push(black_box(*id))).len();
    }
    bytes += decoder.finish().len();
    Pass {
        time: begin.elapsed(),
        bytes,
        tokens: ids.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mlxr::tokenizer::{Bos, Tokenizer};

    use super::{decode, encode, stream};
    use crate::model::BUILT_IN;

    #[test]
    fn every_thread_encodes_everything_and_everything_is_decoded() {
        let tokenizer = Arc::new(Tokenizer::load(&BUILT_IN).unwrap());
        let text = "Once upon a time, é🙂";
        let ids = tokenizer.encode(text, Bos::Never).unwrap();
        for threads in [1, 3] {
            let pass = encode(&tokenizer, &[text, text], threads).unwrap();
            assert_eq!(pass.bytes, 2 * threads * text.len());
            assert_eq!(pass.tokens, 2 * threads * ids.len());
            assert!(!pass.time.is_zero());
        }
        for pass in [decode(&tokenizer, &ids), stream(&tokenizer, &ids)] {
            assert_eq!((pass.bytes, pass.tokens), (text.len(), ids.len()));
        }
    }
}
