//! Ctrl-C: the first ends the answer, the second the program. Knows nothing of answers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// Tells whether Ctrl-C was pressed while something was being generated. At any other time, and
/// the second time, Ctrl-C ends the program as if nobody listened.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    /// Nothing is being generated.
    idle: Arc<AtomicBool>,
    pressed: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn listen() -> io::Result<Self> {
        let idle = Arc::new(AtomicBool::new(true));
        let pressed = Arc::new(AtomicBool::new(false));
        // The handlers run in this order.
        flag::register_conditional_default(SIGINT, Arc::clone(&idle))?;
        flag::register_conditional_default(SIGINT, Arc::clone(&pressed))?;
        flag::register(SIGINT, Arc::clone(&pressed))?;
        Ok(Self { idle, pressed })
    }

    /// Something is being generated from now on.
    pub(crate) fn begin(&self) {
        self.pressed.store(false, Ordering::SeqCst);
        self.idle.store(false, Ordering::SeqCst);
    }

    /// Whether Ctrl-C was pressed since [`Self::begin`].
    pub(crate) fn pressed(&self) -> bool {
        self.pressed.load(Ordering::SeqCst)
    }

    /// Nothing is being generated any more. Says whether Ctrl-C was pressed since [`Self::begin`].
    pub(crate) fn end(&self) -> bool {
        self.idle.store(true, Ordering::SeqCst);
        self.pressed.swap(false, Ordering::SeqCst)
    }
}
