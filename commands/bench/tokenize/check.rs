//! Whether two tokenizers agree on a text in all the ways in which it is measured. Measures nothing.

use mlxr::Result;
use mlxr::tokenizer::{Bos, Tokenizer};

use super::corpus::{CUTS, Corpus};

/// Ids that are told from the first difference on.
const TOLD: usize = 5;

/// The first difference, as a sentence.
///
/// # Errors
/// What encoding says.
pub(super) fn difference(
    ours: &Tokenizer,
    reference: &Tokenizer,
    corpus: &Corpus,
) -> Result<Option<String>> {
    for cut in CUTS {
        let mut byte = 0;
        for part in corpus.cut(cut) {
            let (a, b) = (
                ours.encode(part, Bos::Never)?,
                reference.encode(part, Bos::Never)?,
            );
            if let Some(sentence) = first(&a, &b) {
                let length = part.len();
                return Ok(Some(format!(
                    "{}: the ids of the {length} bytes from {byte} on differ: {sentence}",
                    corpus.name
                )));
            }
            byte += part.len();
        }
    }
    Ok(None)
}

/// Where ids differ, and some of them.
fn first(ours: &[u32], reference: &[u32]) -> Option<String> {
    let longest = ours.len().max(reference.len());
    let at = (0..longest).find(|at| ours.get(*at) != reference.get(*at))?;
    let some = |ids: &[u32]| ids[at.min(ids.len())..ids.len().min(at + TOLD)].to_vec();
    let (ours, reference) = (some(ours), some(reference));
    Some(format!(
        "from token {at} on ours are {ours:?}, the reference's {reference:?}"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use mlxr::files::ModelFiles;
    use mlxr::tokenizer::Tokenizer;
    use serde_json::{Value, json};

    use super::{Corpus, difference, first};
    use crate::model::BUILT_IN;

    #[test]
    fn the_first_difference_is_told_with_what_follows_it() {
        assert_eq!(first(&[1, 2], &[1, 2]), None);
        assert_eq!(
            first(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2]).unwrap(),
            "from token 2 on ours are [3, 4, 5, 6, 7], the reference's []"
        );
    }

    #[test]
    fn tokenizers_agree_or_it_is_told_where_they_do_not() {
        let ours = Tokenizer::load(&BUILT_IN).unwrap();
        let mut json: Value =
            serde_json::from_slice(&BUILT_IN.require("tokenizer.json").unwrap()).unwrap();
        json["normalizer"] = json!({"type": "Lowercase"});
        let file = (
            "tokenizer.json".to_owned(),
            serde_json::to_vec(&json).unwrap(),
        );
        let files = Arc::new(BTreeMap::from([file]));
        let other = Tokenizer::load(&ModelFiles::Derived("other".into(), files)).unwrap();

        let mut corpus = Corpus {
            name: "text".to_owned(),
            text: "there was a time\n".repeat(20),
        };
        assert_eq!(difference(&ours, &other, &corpus).unwrap(), None);
        corpus.text += "Once\n";
        let told = difference(&ours, &other, &corpus).unwrap().unwrap();
        let begin =
            "text: the ids of the 345 bytes from 0 on differ: from token 100 on ours are [536";
        assert!(told.starts_with(begin), "{told}");
    }
}
