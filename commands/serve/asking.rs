//! What handlers of requests are given: the server, and what is left of a request that they do not understand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answering::Answering;
use super::fields::{Fields, Rest};
use super::meters::Meters;
use super::models::{Lease, Slots};
use super::question::Question;
use crate::args::Serve;
use crate::settings::Settings;
use crate::ui::Printer;
use crate::wire::Failure;

/// What all requests share.
pub(super) struct Server {
    pub(super) slots: Arc<Slots>,
    /// Whether it listens to this machine alone.
    pub(super) is_local: bool,
    /// Those who know one of these may ask; all where there are none.
    pub(super) keys: Vec<String>,
    /// Pages of these origins may ask.
    pub(super) origins: Vec<String>,
    /// Whether fields that mean nothing here are left out instead of refused.
    pub(super) is_lenient: bool,
    /// Bytes that the body of a request may have.
    pub(super) body_bytes: usize,
    pub(super) meters: Arc<Meters>,
    pub(super) printer: Printer,
}

impl Server {
    pub(super) fn new(
        flags: &Serve,
        settings: &Settings,
        is_local: bool,
        slots: Arc<Slots>,
        printer: Printer,
    ) -> Self {
        let mut keys = flags.api_key.clone();
        if keys.is_empty() {
            keys.extend(settings.api_key.clone());
        }
        Self {
            slots,
            is_local,
            keys,
            origins: flags.cors.clone(),
            is_lenient: flags.lenient,
            body_bytes: flags.max_body.as_u64() as usize,
            meters: Arc::default(),
            printer,
        }
    }
}

/// One request.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) server: Arc<Server>,
    left_out: Arc<Mutex<Vec<String>>>,
}

impl Asking {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            left_out: Arc::default(),
        }
    }

    /// The model that is to answer, and a place among those who are answered.
    ///
    /// # Errors
    /// Where there is no such model, it cannot be loaded, or too many wait already.
    pub(super) async fn lease(&self, name: Option<&str>) -> Result<Lease, Failure> {
        self.server.slots.lease(name).await
    }

    /// Deals with what was asked and is not done.
    ///
    /// # Errors
    /// Where there is something, unless the server is lenient or it is left out for everybody.
    pub(super) fn leave_out(&self, fields: Fields) -> Result<(), Failure> {
        let Rest { refused, left_out } = fields.rest();
        let mut told = self.left_out();
        told.extend(left_out);
        if self.server.is_lenient {
            told.extend(refused.into_iter().filter_map(|failure| failure.field));
            return Ok(());
        }
        match refused.into_iter().next() {
            None => Ok(()),
            Some(mut failure) => {
                failure.message += " (a server started with --lenient would leave it out)";
                Err(failure)
            }
        }
    }

    /// Asks a question of a model.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub(super) async fn begin(
        &self,
        lease: Lease,
        question: Question,
    ) -> Result<Answering, Failure> {
        Answering::begin(lease, question, Arc::clone(&self.server.meters)).await
    }

    /// The fields that were left out.
    pub(super) fn left_out(&self) -> MutexGuard<'_, Vec<String>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
