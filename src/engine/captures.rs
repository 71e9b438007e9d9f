//! Where in a prompt checkpoints are worth their memory. Knows nothing of what they are.

use std::collections::BTreeMap;

use crate::engine::request::Request;

/// Tokens between checkpoints of a long run (reference: 8192).
const GRID: usize = 8192;

/// How far before its end a prompt without messages is captured: what a template ends with is gone from the
/// next prompt (reference: 4).
const BEFORE_END: usize = 4;

/// Checkpoints closer to a later one than this save less than they cost.
const LEAST_GAP: usize = 32;

/// Of the ends of messages, so many of the last ones are captured, and the first.
const LAST_JOINTS: usize = 3;

/// A place to keep a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capture {
    /// Tokens before it.
    pub(super) position: usize,
    /// Others are likely to go on from here.
    pub(super) is_restore_point: bool,
}

/// Where to capture while a prompt is evaluated after its first `cached` tokens. It was known up to `matched`:
/// others went on differently from there.
pub(super) fn captures(request: &Request, cached: usize, matched: usize) -> Vec<Capture> {
    let end = request.tokens.len();
    let inside = |position: &usize| (cached + 1..end).contains(position);
    let joints: Vec<usize> = request.joints.iter().copied().filter(inside).collect();
    let last_joints = joints.iter().rev().take(LAST_JOINTS);
    let mut places: BTreeMap<usize, bool> = BTreeMap::new();
    let grid = (GRID..end).step_by(GRID);
    for position in grid
        .chain(joints.first().copied())
        .chain(last_joints.copied())
    {
        places.insert(position, true);
    }
    // The last message may be followed by what only this prompt ends with.
    let is_near_end = |position: &usize| position + LEAST_GAP > end;
    if !joints.last().is_some_and(is_near_end) {
        places.insert(end.saturating_sub(BEFORE_END), true);
    }
    places.entry(matched).or_insert(false);
    let mut kept: Vec<Capture> = Vec::new();
    for (position, is_restore_point) in places.into_iter().rev() {
        let is_close = kept
            .last()
            .is_some_and(|next| position + LEAST_GAP > next.position);
        if inside(&position) && (!is_close || position == matched) {
            kept.push(Capture {
                position,
                is_restore_point,
            });
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(tokens: usize, joints: &[usize], cached: usize, matched: usize) -> Vec<usize> {
        let request = Request {
            tokens: vec![1; tokens],
            joints: joints.to_vec(),
            ..Request::default()
        };
        let captures = captures(&request, cached, matched);
        captures.iter().map(|capture| capture.position).collect()
    }

    #[test]
    fn a_prompt_without_messages_is_captured_near_its_end_and_on_a_grid() {
        assert_eq!(positions(100, &[], 0, 0), [96]);
        assert_eq!(positions(20_000, &[], 0, 0), [8192, 16_384, 19_996]);
        assert_eq!(positions(20_000, &[], 8192, 8192), [16_384, 19_996]);
        assert!(positions(4, &[], 0, 0).is_empty());
    }

    #[test]
    fn the_first_message_and_the_last_ones_are_captured() {
        let joints = [50, 100, 200, 300, 400, 500];
        assert_eq!(positions(506, &joints, 0, 0), [50, 300, 400, 500]);
        assert_eq!(positions(506, &joints, 400, 400), [500]);
    }

    #[test]
    fn what_is_close_to_a_later_one_is_not_captured() {
        assert_eq!(positions(506, &[100, 480, 500], 0, 0), [100, 500]);
    }

    #[test]
    fn a_fork_that_was_seen_is_captured_wherever_it_is() {
        assert_eq!(positions(506, &[100, 500], 100, 490), [490, 500]);
        assert_eq!(positions(506, &[500], 100, 103), [103, 500]);
    }
}
