//! Which state a new prompt goes on from, and what becomes of that of ended sequences.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use crate::cache::trie::{Checkpoint, Match, NodeId, Rows, Trie};
use crate::engine::captures::{Capture, captures};
use crate::engine::request::Request;
use crate::engine::stepper::{Restorable, Slot, Stored};
use crate::error::Result;

/// What is known of all prefixes, and who stands where.
#[derive(Debug)]
pub(super) struct Prefixes<R, C> {
    trie: Trie<R, C>,
    /// Every open slot.
    places: BTreeMap<Slot, Place>,
    /// Slots of ended sequences, least recently used first.
    idle: Vec<Slot>,
    /// Bytes of their caches and of all copies, at most.
    limit: usize,
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

/// A way to serve a prompt.
#[derive(Debug, Default)]
struct Base {
    /// From this cache, or from an empty one.
    slot: Option<Slot>,
    /// Tokens of it that stay.
    kept: usize,
    /// Tokens that can be restored in all.
    length: usize,
    /// The node whose checkpoint restores them, where the cache itself does not.
    checkpoint: Option<NodeId>,
    /// Tokens whose state must be copied for it.
    cost: usize,
}

impl<R: Rows, C: Checkpoint> Prefixes<R, C> {
    /// Knows nothing, and will keep no more than `limit` bytes for later.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            trie: Trie::new(Instant::now()),
            places: BTreeMap::new(),
            idle: Vec::new(),
            limit,
        }
    }

    /// Takes in what is stored.
    pub(super) fn load(&mut self, stepper: &mut impl Restorable<Rows = R, Checkpoint = C>) {
        let now = Instant::now();
        for Stored {
            tokens,
            start,
            rows,
            checkpoint,
        } in stepper.stored()
        {
            let known = self.trie.find(&tokens[..start]).tokens;
            if known < start {
                // What it goes on from has made room for something else.
                continue;
            }
            self.trie.extend(Self::root(), &tokens[..start], now);
            let end = self.trie.extend(Self::root(), &tokens, now);
            let path = self.trie.path(end);
            let path = path.iter().filter(|&&id| self.end(id) > start);
            let path: Vec<NodeId> = path.copied().collect();
            let mut rest = Some(rows);
            for id in path {
                let node_end = self.end(id);
                let part = if node_end < tokens.len() {
                    let cut = rest.take().and_then(|rows| rows.split(node_end));
                    cut.map(|(part, left)| {
                        rest = Some(left);
                        part
                    })
                } else {
                    rest.take()
                };
                if let Some(part) = part {
                    self.trie.attach_rows(id, part);
                }
                self.trie.mark_stored(id);
            }
            if let Some(checkpoint) = checkpoint {
                self.trie.attach_checkpoint(end, checkpoint);
                self.trie.mark_restore_point(end);
            }
        }
    }

    /// Stores what is not stored yet of the tokens that a slot holds.
    fn store(&mut self, stepper: &mut impl Restorable<Rows = R, Checkpoint = C>, slot: Slot) {
        let Some(tip) = self.places.get(&slot).map(|place| place.tip) else {
            return;
        };
        let mut tokens = Vec::new();
        for id in self.trie.path(tip) {
            let node = self.trie.node(id);
            tokens.extend_from_slice(node.tokens());
            if node.is_stored() {
                continue;
            }
            let state = if id == tip && node.checkpoint().is_none() && stepper.needs_checkpoints() {
                stepper.checkpoint(slot).ok()
            } else {
                None
            };
            let copied = match node.rows() {
                Some(_) => None,
                None => stepper.copy_rows(slot, node.range()).ok(),
            };
            let Some(rows) = node.rows().or(copied.as_ref()) else {
                return;
            };
            stepper.store(&tokens, rows, node.checkpoint().or(state.as_ref()));
            self.trie.mark_stored(id);
        }
    }

    /// A slot that holds as much of a prompt as can be restored: always less than all of it, since one
    /// token must be computed.
    pub(super) fn place(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        request: &Request,
    ) -> Result<Placed> {
        let now = Instant::now();
        let prompt = &request.tokens;
        let found = self.trie.find(&prompt[..prompt.len().saturating_sub(1)]);
        let base = self.best(stepper, &found);
        let slot = if let Some(slot) = base.slot {
            self.idle.retain(|idle| *idle != slot);
            slot
        } else {
            let slot = stepper.open()?;
            self.stand(slot, Self::root(), Vec::new());
            slot
        };
        let restored = self
            .page_out(stepper, slot, base.kept)
            .and_then(|()| self.restore(stepper, slot, &base, &prompt[..base.length], now));
        if restored.is_err() {
            // Copies that cannot be put back are of no use to anybody.
            self.close(stepper, slot);
            let unused = self.trie.find(&prompt[..base.length]).path;
            for &id in unused.iter().rev().chain(&base.checkpoint) {
                self.trie.forget_if_there(id);
            }
            return self.place(stepper, request);
        }
        let captures = if stepper.needs_checkpoints() {
            captures(request, base.length, found.tokens)
        } else {
            Vec::new()
        };
        let positions = captures.iter().map(|capture| capture.position).collect();
        if let Some(place) = self.places.get_mut(&slot) {
            place.captures = captures;
        }
        self.make_room(stepper);
        Ok(Placed {
            slot,
            matched: found.tokens,
            cached: base.length,
            captures: positions,
        })
    }

    /// A sequence has evaluated these tokens of its prompt, which are all of it if it `is_whole`.
    pub(super) fn advance(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        tokens: &[u32],
        is_whole: bool,
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
        if is_whole {
            let tip = self.grow(slot, tokens, now);
            self.trie.compact(tip);
        }
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
        self.idle.push(slot);
        self.make_room(stepper);
    }

    /// Gives up caches of ended sequences and copies, the least recently used first, until what is kept for
    /// later is within the limit. The cache of the sequence that ended last stays whatever its size: most
    /// prompts go on from there.
    fn make_room(&mut self, stepper: &mut impl Restorable<Rows = R, Checkpoint = C>) {
        loop {
            let idle = self.idle.iter().map(|&slot| stepper.bytes(slot));
            if idle.sum::<usize>() + self.trie.bytes() <= self.limit {
                return;
            }
            let oldest = self.idle.first().copied().filter(|_| self.idle.len() > 1);
            let used = oldest.and_then(|slot| self.places.get(&slot));
            let used = used.map(|place| (false, self.trie.node(place.tip).last_used()));
            match (oldest, self.trie.oldest()) {
                (Some(slot), copy) if copy.is_none_or(|copy| used <= Some(copy)) => {
                    // What cannot be copied is computed again.
                    drop(self.lend(stepper, slot));
                    self.close(stepper, slot);
                }
                (_, Some(_)) => self.trie.evict(self.trie.bytes() - 1),
                (_, None) => return,
            }
        }
    }

    /// Copies out what of a slot's cache is needed for branches that others have computed.
    fn lend(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
    ) -> Result<()> {
        let Some(place) = self.places.get(&slot) else {
            return Ok(());
        };
        let path = self.trie.path(place.tip);
        let is_shared = |id: &NodeId| self.trie.node(*id).children().count() > 1;
        let shared = path.iter().rposition(is_shared).map_or(0, |last| last + 1);
        for &id in &path[..shared] {
            self.copy_out(stepper, slot, id)?;
        }
        Ok(())
    }

    /// Copies a node's rows out of a slot's cache if it is the only one that has them.
    fn copy_out(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        id: NodeId,
    ) -> Result<()> {
        let node = self.trie.node(id);
        let range = node.range();
        if node.backing() == 1 && node.rows().is_none() && !range.is_empty() {
            let rows = stepper.copy_rows(slot, range)?;
            self.trie.attach_rows(id, rows);
        }
        Ok(())
    }

    /// Gives up a slot whose state is not to be relied on.
    pub(super) fn close(&mut self, stepper: &mut impl Restorable, slot: Slot) {
        self.idle.retain(|idle| *idle != slot);
        if let Some(place) = self.places.remove(&slot) {
            self.trie.leave(place.tip);
        }
        stepper.close(slot);
    }

    /// Whether a slot is that of an ended sequence.
    pub(super) fn is_idle(&self, slot: Slot) -> bool {
        self.idle.contains(&slot)
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

    /// The way that restores most; among equals the cheapest, then the cache that was used last.
    fn best(&self, stepper: &impl Restorable<Rows = R, Checkpoint = C>, found: &Match) -> Base {
        let idle = self.idle.iter().map(|&slot| Some(slot));
        let bases = std::iter::once(None).chain(idle);
        let bases = bases.map(|slot| self.base(stepper, found, slot));
        let best = bases
            .filter(|base| base.length > 0)
            .max_by_key(|base| (base.length, Reverse(base.cost)));
        best.unwrap_or_default()
    }

    fn base(
        &self,
        stepper: &impl Restorable<Rows = R, Checkpoint = C>,
        found: &Match,
        slot: Option<Slot>,
    ) -> Base {
        let own = slot.and_then(|slot| self.places.get(&slot));
        let own = own.map_or(Vec::new(), |place| self.trie.path(place.tip));
        let both = found.path.iter().zip(&own).take_while(|(a, b)| a == b);
        let shared = both
            .last()
            .map_or(0, |(&id, _)| self.end(id).min(found.tokens));
        let rows = self.rows_from(found, shared);
        let (length, checkpoint) = if stepper.needs_checkpoints() {
            let is_live = slot.is_some_and(|slot| stepper.reaches(slot, shared));
            let live = (if is_live { shared } else { 0 }, None);
            live.max(self.last_checkpoint(found, rows))
        } else {
            (rows, None)
        };
        let kept = shared.min(length);
        let lost = own.iter().map(|&id| {
            let node = self.trie.node(id);
            let is_only_here = node.backing() == 1 && node.rows().is_none();
            let lost = node.range().end - node.range().start.max(kept).min(node.range().end);
            if is_only_here { lost } else { 0 }
        });
        Base {
            slot,
            kept,
            length,
            checkpoint,
            cost: lost.sum::<usize>() + length - kept,
        }
    }

    /// How far there are keys and values of what was found, on from some position.
    fn rows_from(&self, found: &Match, position: usize) -> usize {
        let mut reached = position;
        for &id in &found.path {
            let node = self.trie.node(id);
            if node.range().end <= reached {
                continue;
            }
            if node.rows().is_none() && node.backing() == 0 {
                break;
            }
            reached = node.range().end.min(found.tokens);
        }
        reached
    }

    /// The last position of what was found, up to some, that a checkpoint restores, and its node.
    fn last_checkpoint(&self, found: &Match, limit: usize) -> (usize, Option<NodeId>) {
        let ends = found.path.iter().filter_map(|&id| {
            let node = self.trie.node(id);
            let end = node.range().end.min(limit);
            let checkpoint = node.checkpoint()?;
            let is_there = end > node.range().start && checkpoint.restores(end);
            is_there.then_some((end, Some(id)))
        });
        ends.max().unwrap_or_default()
    }

    /// Copies out what only this slot's cache has beyond its first `kept` tokens.
    fn page_out(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        kept: usize,
    ) -> Result<()> {
        let Some(tip) = self.places.get(&slot).map(|place| place.tip) else {
            return Ok(());
        };
        let path = self.trie.path(tip);
        let inside = path.iter().find(|&&id| {
            let range = self.trie.node(id).range();
            range.start < kept && kept < range.end
        });
        if let Some(&id) = inside {
            self.trie.cut(id, kept);
        }
        for id in self.trie.path(tip) {
            if self.trie.node(id).range().start >= kept {
                self.copy_out(stepper, slot, id)?;
            }
        }
        let (node, end) = (self.trie.node(tip), self.end(tip));
        if stepper.needs_checkpoints()
            && end > kept
            && node.checkpoint().is_none()
            && stepper.settle(slot)? == end
        {
            let checkpoint = stepper.checkpoint(slot)?;
            self.trie.attach_checkpoint(tip, checkpoint);
        }
        Ok(())
    }

    /// Makes a slot hold the tokens that `base` restores.
    fn restore(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        slot: Slot,
        base: &Base,
        tokens: &[u32],
        now: Instant,
    ) -> Result<()> {
        let (kept, length) = (base.kept, base.length);
        let path = self.trie.find(tokens).path;
        let needed = path.iter().copied().filter(|&id| self.end(id) > kept);
        let needed: Vec<NodeId> = needed.collect();
        for &id in &needed {
            self.copy_from_others(stepper, id)?;
        }
        let rows = needed.iter().filter_map(|&id| self.trie.node(id).rows());
        let rows: Vec<&R> = rows.collect();
        let checkpoint = base.checkpoint;
        let checkpoint = checkpoint.and_then(|id| self.trie.node(id).checkpoint());
        if length > 0 {
            stepper.restore(slot, kept, &rows, checkpoint, length)?;
        }
        // The last node may be held in part only.
        let tip = path.iter().rev().find(|&&id| self.end(id) <= length);
        let tip = tip.copied().unwrap_or(Self::root());
        self.stand(slot, tip, Vec::new());
        if let Some(&landing) = path.last() {
            self.trie.touch(landing, now);
        }
        Ok(())
    }

    /// Copies the rows of a node out of a cache that has them, where nobody has done so.
    fn copy_from_others(
        &mut self,
        stepper: &mut impl Restorable<Rows = R, Checkpoint = C>,
        id: NodeId,
    ) -> Result<()> {
        if self.trie.node(id).rows().is_some() {
            return Ok(());
        }
        let mut places = self.places.iter();
        let backer = places.find(|(_, place)| self.trie.path(place.tip).contains(&id));
        if let Some((&backer, _)) = backer {
            let rows = stepper.copy_rows(backer, self.trie.node(id).range())?;
            self.trie.attach_rows(id, rows);
        }
        Ok(())
    }

    /// Bytes that are kept for later.
    #[cfg(test)]
    pub(super) fn bytes(&self, stepper: &impl Restorable<Rows = R, Checkpoint = C>) -> usize {
        let idle = self.idle.iter().map(|&slot| stepper.bytes(slot));
        idle.sum::<usize>() + self.trie.bytes()
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
