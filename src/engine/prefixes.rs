//! Which state a new prompt goes on from, and what becomes of that of ended sequences.

mod base;
mod copies;
mod room;
mod stored;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::cache::trie::{Checkpoint, NodeId, Rows, Trie};
use crate::engine::captures::{Capture, captures};
use crate::engine::figures::{self, KnownPrefix};
use crate::engine::request::Request;
use crate::engine::stepper::{Restorable, Slot};
use crate::error::Result;
use base::Base;

/// What is known of all prefixes, and who stands where.
#[derive(Debug)]
pub(super) struct Prefixes<R, C> {
    trie: Trie<R, C>,
    /// Every open slot.
    places: BTreeMap<Slot, Place>,
    /// Slots of ended sequences, least recently used first.
    idle: Vec<Slot>,
    /// Memory that is promised to the others.
    reserved: BTreeMap<Slot, usize>,
}

/// Where a slot stands.
#[derive(Debug)]
struct Place {
    /// The deepest node whose tokens its cache holds.
    tip: NodeId,
    /// What it captures on the way.
    captures: Vec<Capture>,
}

/// A slot for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) slot: Slot,
    /// Tokens of the prompt that are known.
    pub(super) matched: usize,
    /// Of these, those that the slot holds.
    pub(super) cached: usize,
    /// Numbers of tokens after which it is to keep checkpoints.
    pub(super) captures: Vec<usize>,
}

impl<R: Rows, C: Checkpoint> Prefixes<R, C> {
    /// Knows nothing.
    pub(super) fn new() -> Self {
        Self {
            trie: Trie::new(Instant::now()),
            places: BTreeMap::new(),
            idle: Vec::new(),
            reserved: BTreeMap::new(),
        }
    }

    /// A slot that holds as much of a prompt as can be restored: always less than all of it, since one
    /// token must be computed. It may grow to `reserved` bytes, which [`Self::fits`] said there are.
    pub(super) fn place(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        request: &Request,
        reserved: usize,
    ) -> Result<Placed> {
        let now = Instant::now();
        let prompt = &request.tokens;
        let usable = if request.reads_all() { 0 } else { prompt.len() };
        let known = &prompt[..usable.saturating_sub(1)];
        let mut found = self.trie.find(known);
        let mut base = self.best(stepper, &found);
        // What is about to be used goes last.
        for &id in &found.path {
            if self.trie.node(id).range().start < base.length {
                self.trie.touch(id, now);
            }
        }
        if let Some(slot) = base.slot {
            self.idle.retain(|idle| *idle != slot);
        }
        let held = base.slot.map_or(0, |slot| stepper.bytes(slot));
        let moved = base
            .slot
            .map_or(0, |slot| stepper.copy_bytes(self.beyond(slot, base.kept)));
        if self.make_room_for(stepper, reserved.saturating_sub(held) + moved) {
            found = self.trie.find(known);
            base = match base.slot {
                Some(slot) => self.base(stepper, &found, Some(slot)),
                None => self.best(stepper, &found),
            };
            // What it was to be gone on with is given up.
            if let Some(slot) = base.slot.filter(|_| base.length == 0) {
                self.close(stepper, slot);
                base = Base::default();
            }
        }
        let mut slot = self.take(stepper, &base)?;
        let restored = self
            .page_out(stepper, slot, base.kept)
            .and_then(|()| self.restore(stepper, slot, &base, &prompt[..base.length], now));
        if restored.is_err() {
            // Copies that cannot be put back are of no use to anybody: everything is computed.
            self.close(stepper, slot);
            let unused = self.trie.find(&prompt[..base.length]).path;
            for &id in unused.iter().rev().chain(&base.checkpoint) {
                self.trie.forget_if_there(id);
            }
            base = Base::default();
            slot = self.take(stepper, &base)?;
        }
        let mut captures = if stepper.needs_checkpoints() {
            captures(request, base.length, found.tokens)
        } else {
            Vec::new()
        };
        // The last ones are of most use.
        let size = stepper.checkpoint_bytes();
        while !captures.is_empty() && !self.fits(stepper, reserved + captures.len() * size) {
            captures.remove(0);
        }
        let reserved = reserved + captures.len() * size;
        let positions = captures.iter().map(|capture| capture.position).collect();
        if let Some(place) = self.places.get_mut(&slot) {
            place.captures = captures;
        }
        self.reserved.insert(slot, reserved);
        self.make_room(stepper);
        Ok(Placed {
            slot,
            matched: found.tokens,
            cached: base.length,
            captures: positions,
        })
    }

    /// How much of a prompt [`Self::place`] would restore.
    pub(super) fn restorable(
        &self,
        stepper: &impl Restorable<Rows = R, Checkpoint = C>,
        prompt: &[u32],
    ) -> usize {
        let found = self.trie.find(&prompt[..prompt.len().saturating_sub(1)]);
        self.best(stepper, &found).length
    }

    /// What a sequence that evaluates its prompt will leave of the first `shared` tokens for others to go on
    /// from.
    pub(super) fn will_restore(
        &self,
        stepper: &impl Restorable,
        slot: Slot,
        shared: usize,
    ) -> usize {
        if !stepper.needs_checkpoints() {
            return shared;
        }
        let place = self.places.get(&slot);
        let captures = place.iter().flat_map(|place| &place.captures);
        let positions = captures.map(|capture| capture.position);
        positions.filter(|&at| at <= shared).max().unwrap_or(0)
    }

    /// Has a sequence capture its state after so many tokens, which it has not evaluated, if memory can be
    /// promised for it.
    pub(super) fn capture(
        &mut self,
        stepper: &impl Restorable,
        slot: Slot,
        position: usize,
    ) -> bool {
        let size = stepper.checkpoint_bytes();
        let fits = self.fits(stepper, size);
        if let (Some(place), Some(reserved)) = (
            self.places.get_mut(&slot).filter(|_| fits),
            self.reserved.get_mut(&slot),
        ) {
            *reserved += size;
            place.captures.push(Capture {
                position,
                is_restore_point: true,
            });
        }
        fits
    }

    /// The slot that is gone on from, or a new one.
    fn take(&mut self, stepper: &mut impl Restorable, base: &Base) -> Result<Slot> {
        if let Some(slot) = base.slot {
            self.idle.retain(|idle| *idle != slot);
            return Ok(slot);
        }
        let slot = stepper.open()?;
        self.stand(slot, Self::root(), Vec::new());
        Ok(slot)
    }

    /// A sequence has evaluated these tokens of its prompt: others can go on from there.
    pub(super) fn advance(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        tokens: &[u32],
    ) {
        let now = Instant::now();
        for (position, checkpoint) in stepper.captured(slot, tokens.len()) {
            let tip = self.grow(slot, &tokens[..position], now);
            self.trie.attach_checkpoint(tip, checkpoint);
            let place = self.places.get(&slot);
            let mut captures = place.iter().flat_map(|place| &place.captures);
            if captures.any(|capture| capture.position == position && capture.is_restore_point) {
                self.trie.mark_restore_point(tip);
            }
            self.trie.compact(tip);
        }
        let tip = self.grow(slot, tokens, now);
        self.trie.compact(tip);
        self.make_room(stepper);
    }

    /// A sequence has ended in good order, and held `tokens` once all its steps were done.
    pub(super) fn retire(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        tokens: &[u32],
    ) {
        let now = Instant::now();
        let start = self
            .places
            .get(&slot)
            .map_or(0, |place| self.end(place.tip));
        let held = stepper
            .settle(slot)
            .map_or(0, |held| held.min(tokens.len()));
        if held == 0 || held < start {
            return self.close(stepper, slot);
        }
        let tip = self.grow(slot, &tokens[..held], now);
        self.trie.compact(tip);
        self.trie.touch(tip, now);
        if stepper.stores() {
            self.store(stepper, slot);
        }
        self.reserved.remove(&slot);
        self.idle.push(slot);
        self.make_room(stepper);
    }

    /// Gives up a slot whose state is not to be relied on.
    pub(super) fn close(&mut self, stepper: &mut impl Restorable, slot: Slot) {
        self.idle.retain(|idle| *idle != slot);
        self.reserved.remove(&slot);
        if let Some(place) = self.places.remove(&slot) {
            self.trie.leave(place.tip);
        }
        stepper.close(slot);
    }

    /// Whether a slot is that of an ended sequence.
    pub(super) fn is_idle(&self, slot: Slot) -> bool {
        self.idle.contains(&slot)
    }

    /// What there is.
    pub(super) fn figures(&self) -> Vec<KnownPrefix> {
        figures::prefixes(&self.trie)
    }

    fn root() -> NodeId {
        Trie::<R, C>::ROOT
    }

    fn end(&self, id: NodeId) -> usize {
        self.trie.node(id).range().end
    }

    fn stand(&mut self, slot: Slot, tip: NodeId, captures: Vec<Capture>) {
        self.trie.stand(tip);
        if let Some(old) = self.places.insert(slot, Place { tip, captures }) {
            self.trie.leave(old.tip);
        }
    }

    /// How many tokens a slot's cache holds after its first `kept`, as far as the tree knows.
    fn beyond(&self, slot: Slot, kept: usize) -> usize {
        let place = self.places.get(&slot);
        place.map_or(0, |place| self.end(place.tip).saturating_sub(kept))
    }

    /// Moves a slot on to the end of the tokens that it now holds, which begin with those it held.
    fn grow(&mut self, slot: Slot, tokens: &[u32], now: Instant) -> NodeId {
        let Some(place) = self.places.get_mut(&slot) else {
            return Self::root();
        };
        let (tip, captures) = (place.tip, std::mem::take(&mut place.captures));
        let start = self.trie.node(tip).range().end;
        let tip = self.trie.extend(tip, &tokens[start..], now);
        self.stand(slot, tip, captures);
        tip
    }

    /// Idle slots and the tokens that their caches hold.
    #[cfg(test)]
    pub(super) fn idle(&self) -> Vec<(Slot, Vec<u32>)> {
        let idle = self.idle.iter().map(|&slot| {
            let path = self.trie.path(self.places[&slot].tip);
            let tokens = path.iter().flat_map(|&id| self.trie.node(id).tokens());
            (slot, tokens.copied().collect())
        });
        idle.collect()
    }
}
