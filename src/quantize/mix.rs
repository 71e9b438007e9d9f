//! Which part of a model gets how many bits, so that as little as possible is lost in the bytes that there are. Knows
//! no tensors.

/// What a part of a model takes, and what is lost by it, by each choice that there is for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Bytes and losses, bytes ascending.
    pub choices: Vec<(usize, f64)>,
}

/// For each part the choice that leads to about the least sum of losses within so many bytes; `None` where there is none,
/// because the smallest choices take more.
///
/// All begin with their smallest choice. Then the step up that saves most for its bytes is taken, as long as one fits:
/// exact where every byte saves less than the one before it, as is nearly so with bits. The first of equal ones is taken.
pub fn mix(parts: &[Part], room: usize) -> Option<Vec<usize>> {
    let mut chosen = vec![0; parts.len()];
    let smallest = parts.iter().map(|part| part.choices[0].0);
    let mut left = room.checked_sub(smallest.sum())?;
    loop {
        let mut best: Option<(f64, usize, usize, usize)> = None;
        for (index, part) in parts.iter().enumerate() {
            let (bytes, loss) = part.choices[chosen[index]];
            for (choice, &(more, less)) in part.choices.iter().enumerate().skip(chosen[index] + 1) {
                let step = more - bytes;
                let worth = (loss - less) / step.max(1) as f64;
                let is_better = best.is_none_or(|(most, ..)| worth > most);
                if step <= left && worth > 0.0 && is_better {
                    best = Some((worth, index, choice, step));
                }
            }
        }
        let Some((_, index, choice, step)) = best else {
            return Some(chosen);
        };
        chosen[index] = choice;
        left -= step;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A part of so many numbers that loses so much, a quarter of it for each bit more.
    fn part(numbers: usize, loss: f64) -> Part {
        let bits = [2, 3, 4, 5, 6, 8];
        let choices = bits.map(|bits| (numbers * bits / 8, loss * 0.25_f64.powi(bits as i32)));
        Part {
            choices: choices.to_vec(),
        }
    }

    #[test]
    fn more_bits_go_where_more_is_lost_for_the_bytes() {
        let parts = [part(800, 1.0), part(800, 16.0), part(80, 1.0)];
        let found = mix(&parts, 200 + 200 + 20 + 330).unwrap();
        assert!(found[1] > found[0] && found[2] > found[0], "{found:?}");
        assert_eq!(mix(&parts, 419), None);
        assert_eq!(mix(&parts, 420), Some(vec![0, 0, 0]));
        assert_eq!(mix(&parts, 10_000), Some(vec![5, 5, 5]));
        assert_eq!(mix(&[], 0), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn what_is_chosen_fits_and_nothing_more_does(
            sizes in prop::collection::vec((1_usize..100, 0.0_f64..10.0), 1..6),
            room in 0_usize..500,
        ) {
            let parts: Vec<Part> = sizes.iter().map(|&(size, loss)| part(8 * size, loss)).collect();
            let bytes = |chosen: &[usize]| -> usize {
                parts.iter().zip(chosen).map(|(part, &choice)| part.choices[choice].0).sum()
            };
            match mix(&parts, room) {
                None => prop_assert!(bytes(&vec![0; parts.len()]) > room),
                Some(chosen) => {
                    prop_assert!(bytes(&chosen) <= room);
                    for (index, part) in parts.iter().enumerate() {
                        let mut more = chosen.clone();
                        more[index] += 1;
                        let is_last = more[index] == part.choices.len();
                        let saves = !is_last && part.choices[more[index]].1 < part.choices[chosen[index]].1;
                        prop_assert!(!saves || bytes(&more) > room);
                    }
                }
            }
        }
    }
}
