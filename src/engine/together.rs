//! Several processes that each compute a part of one model: all run an engine, and do the same at each turn. The first
//! one has the requests and tells the others. Knows no way to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::constraint::Grammars;
use crate::engine::outlet::Outlet;
use crate::engine::request::Request;
use crate::engine::schedule::fresh_seed;
use crate::engine::sequence::Submission;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The way to the processes that compute a model together with this one.
pub trait Peers: Send + Sync {
    /// Which of them this is: 0 is the first.
    fn rank(&self) -> usize;

    /// What the first one gives, on all of them; what others give means nothing. Waits until all have asked.
    ///
    /// # Errors
    /// Where some cannot be reached any more.
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
}

/// What all processes hear before a turn.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Heard {
    /// New ones, whose seeds are set.
    requests: Vec<Request>,
    /// Those that nobody wants any more, by their numbers from the first on.
    unwanted: Vec<u64>,
    /// There is nobody left who could ask.
    is_over: bool,
}

/// Whether a request is still wanted: who reads its answer says so on one process, and all act on it at the same turn.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// As its reader says.
    pub(super) is_left: AtomicBool,
    /// As all know.
    pub(super) is_over: AtomicBool,
}

/// Brings what all do together.
pub(super) struct Together {
    peers: Arc<dyn Peers>,
    grammars: Grammars,
    next: u64,
    open: Vec<(u64, Weak<Wanted>)>,
}

impl Together {
    pub(super) fn new(peers: Arc<dyn Peers>, tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            peers,
            grammars: Grammars::new(tokenizer),
            next: 0,
            open: Vec::new(),
        }
    }

    /// The requests that join before the next turn, and whether there is none any more. The first process gives its own.
    pub(super) fn hear(
        &mut self,
        mut own: Vec<Submission>,
        is_over: bool,
    ) -> Result<(Vec<Submission>, bool)> {
        let failed = |error: serde_json::Error| Error::Apart(error.to_string());
        for submission in &mut own {
            submission
                .request
                .sampling
                .seed
                .get_or_insert_with(fresh_seed);
        }
        self.open.retain(|(_, wanted)| wanted.strong_count() > 0);
        let left = |(number, wanted): &(u64, Weak<Wanted>)| {
            let wanted = wanted.upgrade()?;
            let is_news =
                wanted.is_left.load(Ordering::Relaxed) && !wanted.is_over.load(Ordering::Relaxed);
            is_news.then_some(*number)
        };
        let heard = Heard {
            requests: own.iter().map(|own| own.request.clone()).collect(),
            unwanted: self.open.iter().filter_map(left).collect(),
            is_over,
        };
        let told = self
            .peers
            .share(serde_json::to_vec(&heard).map_err(failed)?)?;
        let heard = if self.peers.rank() == 0 {
            heard
        } else {
            serde_json::from_slice(&told).map_err(failed)?
        };
        if self.peers.rank() > 0 {
            own = heard
                .requests
                .into_iter()
                .map(|request| self.followed(request))
                .collect::<Result<_>>()?;
        }
        for (number, wanted) in &self.open {
            if let Some(wanted) = wanted.upgrade()
                && heard.unwanted.contains(number)
            {
                wanted.is_over.store(true, Ordering::Relaxed);
            }
        }
        for submission in &mut own {
            let wanted = Arc::default();
            self.open.push((self.next, Arc::downgrade(&wanted)));
            self.next += 1;
            submission.outlet.leave_together(wanted);
        }
        Ok((own, heard.is_over))
    }

    /// A request of another process.
    fn followed(&self, request: Request) -> Result<Submission> {
        let after = request.constraint_after.as_deref();
        let guide = request.constraint.as_ref();
        let guide = guide.map(|constraint| self.grammars.guide(constraint, after));
        Ok(Submission {
            guide: guide.transpose()?.map(Box::new),
            request,
            outlet: Outlet::new(Box::new(|_| std::ops::ControlFlow::Continue(()))),
            submitted: Instant::now(),
        })
    }
}
