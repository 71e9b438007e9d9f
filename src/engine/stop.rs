//! Text that waits because it may become a stop string. Knows nothing of tokens.

/// Stop strings, and the text that was not handed out yet.
#[derive(Debug)]
pub(super) struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    /// The strings that end an answer; none of them may be empty.
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Appends text.
    pub(super) fn push(&mut self, text: &str) {
        self.held.push_str(text);
    }

    /// Hands out the text that can no longer become part of a stop string, or, where a stop string
    /// is reached, the text before it and the stop string.
    ///
    /// The stop string that begins first counts, the longest of those that begin together.
    pub(super) fn release(&mut self) -> (String, Option<String>) {
        if let Some((start, stop)) = self.reached() {
            let stop = stop.to_owned();
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), Some(stop));
        }
        let waits = self
            .held
            .char_indices()
            .map(|(start, _)| start)
            .find(|&start| {
                let tail = &self.held[start..];
                self.stops.iter().any(|stop| stop.starts_with(tail))
            });
        let rest = self.held.split_off(waits.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// As [`Stops::release`], and hands out what waits: nothing follows.
    pub(super) fn finish(&mut self) -> (String, Option<String>) {
        let (mut text, stop) = self.release();
        if stop.is_none() {
            text.push_str(&std::mem::take(&mut self.held));
        }
        (text, stop)
    }

    fn reached(&self) -> Option<(usize, &str)> {
        let found = self
            .stops
            .iter()
            .filter_map(|stop| Some((self.held.find(stop)?, stop)));
        let (start, stop) =
            found.min_by_key(|(start, stop)| (*start, std::cmp::Reverse(stop.len())))?;
        Some((start, stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pieces handed out, what `finish` gave, and the stop string where one was reached.
    fn feed(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let mut state = Stops::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut texts = Vec::new();
        for piece in pieces {
            state.push(piece);
            let (text, stop) = state.release();
            texts.push(text);
            if stop.is_some() {
                return (texts, stop);
            }
        }
        let (text, stop) = state.finish();
        texts.push(text);
        (texts, stop)
    }

    fn check(stops: &[&str], pieces: &[&str], texts: &[&str], stop: Option<&str>) {
        let (got, reached) = feed(stops, pieces);
        assert_eq!(
            (got, reached.as_deref()),
            (texts.iter().map(|&t| t.to_owned()).collect(), stop)
        );
    }

    #[test]
    fn without_stop_strings_nothing_waits() {
        check(&[], &["a", "", "b"], &["a", "", "b", ""], None);
    }

    #[test]
    fn a_stop_string_may_span_pieces() {
        check(
            &["END"],
            &["one E", "N", "D two"],
            &["one ", "", ""],
            Some("END"),
        );
    }

    #[test]
    fn a_false_start_is_handed_out_later() {
        check(&["END"], &["E", "N", "x"], &["", "", "ENx", ""], None);
        check(&["aab"], &["aa", "a", "b"], &["", "a", ""], Some("aab"));
    }

    #[test]
    fn what_waits_at_the_end_is_handed_out() {
        check(&["END"], &["so EN"], &["so ", "EN"], None);
    }

    #[test]
    fn the_first_to_begin_counts_then_the_longest() {
        check(&["cd", "bcd"], &["abcd"], &["a"], Some("bcd"));
        check(&["b", "bc"], &["abcd"], &["a"], Some("bc"));
    }

    #[test]
    fn characters_of_many_bytes_are_never_split() {
        check(&["é!"], &["caf", "é", "?"], &["caf", "", "é?", ""], None);
    }

    proptest! {
        #[test]
        fn one_stop_string_cuts_where_a_search_of_the_whole_would(
            pieces in prop::collection::vec("[abé]{0,3}", 0..12),
            stop in "[abé]{1,4}",
        ) {
            let pieces = pieces.iter().map(String::as_str).collect::<Vec<_>>();
            let whole = pieces.concat();
            let (texts, reached) = feed(&[&stop], &pieces);
            prop_assert_eq!(reached.is_some(), whole.contains(&stop));
            prop_assert_eq!(texts.concat(), whole.split(&stop).next().unwrap());
        }
    }
}
