//! Texts as lists of numbers, for models that were trained for that. Knows no dialect.

use mlxr::config::EmbeddingConfig;
use mlxr::engine::request::Read;

use super::answering::Step;
use super::asking::Asking;
use super::fields::Fields;
use super::models::{Lease, Served};
use super::question::{Prompt, Question};
use crate::wire::{Failure, Fault};

/// The most texts of one request.
const MOST_TEXTS: usize = 2048;

/// What is to be embedded.
pub(super) struct Texts {
    pub(super) prompt: Prompt,
    /// Those that are too long are cut at their end.
    pub(super) is_cut: bool,
    /// Tokens that a text may have; no more than the model allows.
    pub(super) context: Option<usize>,
    /// How many of the first numbers are wanted.
    pub(super) dimensions: Option<usize>,
}

/// Embeddings, one for each text.
pub(super) struct Embeddings {
    pub(super) vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub(super) tokens: usize,
}

impl Texts {
    /// Reads what is asked out of these fields.
    ///
    /// # Errors
    /// Where it is no text, no list of them, or too long a list.
    pub(super) fn read(fields: &mut Fields, name: &str, is_cut: bool) -> Result<Self, Failure> {
        let prompt = Prompt::read(name, fields.require(name)?)?;
        let count = prompt.count();
        if count > MOST_TEXTS {
            let problem = format!("{count} texts are more than {MOST_TEXTS}");
            return Err(Failure::field(name, problem));
        }
        Ok(Self {
            prompt,
            is_cut,
            context: None,
            dimensions: fields.take("dimensions")?,
        })
    }

    /// Computes them.
    ///
    /// # Errors
    /// Where the model makes none, a text is empty or too long, or there are not so many dimensions.
    pub(super) async fn embed(self, asking: &Asking, lease: Lease) -> Result<Embeddings, Failure> {
        let config = config(lease.served())?;
        let question = Question {
            prompt: self.prompt,
            is_embedded: true,
            is_cut: self.is_cut,
            context: self.context,
            limit: Some(0),
            ..Question::default()
        };
        let mut answering = asking.begin(lease, question).await?;
        let mut embeddings = Embeddings {
            vectors: Vec::new(),
            tokens: 0,
        };
        while let Some((index, step)) = answering.next().await? {
            match step {
                Step::Read(Read::State(state)) => {
                    let vectors = &mut embeddings.vectors;
                    if vectors.len() <= index {
                        vectors.resize_with(index + 1, Vec::new);
                    }
                    vectors[index] = shaped(state, self.dimensions, config)?;
                }
                Step::Done(_, ended) => embeddings.tokens += ended.usage.prompt,
                _ => {}
            }
        }
        Ok(embeddings)
    }
}

/// How a model makes embeddings.
///
/// # Errors
/// Where it makes none: the states of other models are not meant to be compared.
fn config(served: &Served) -> Result<EmbeddingConfig, Failure> {
    match &served.read.embedding {
        Ok(Some(config)) => Ok(*config),
        Ok(None) => Err(Failure::field(
            "model",
            format!(
                "{} makes no embeddings: it was not trained for that",
                served.name
            ),
        )),
        Err(failure) => Err(Failure::new(Fault::Invalid, failure.message.clone())),
    }
}

/// The first `dimensions` of a state, of length 1 where the model's are or some are left out.
fn shaped(
    mut state: Vec<f32>,
    dimensions: Option<usize>,
    config: EmbeddingConfig,
) -> Result<Vec<f32>, Failure> {
    let all = state.len();
    let wanted = dimensions.unwrap_or(all);
    if !(1..=all).contains(&wanted) {
        let problem = format!("the model has 1 to {all}");
        return Err(Failure::field("dimensions", problem));
    }
    state.truncate(wanted);
    if config.is_normalized || wanted < all {
        let squares = state.iter().map(|number| f64::from(*number).powi(2));
        let length = squares.sum::<f64>().sqrt();
        if length > 0.0 {
            for number in &mut state {
                *number = (f64::from(*number) / length) as f32;
            }
        }
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_has_the_length_and_the_dimensions_that_are_wanted() {
        let state = vec![3.0, 4.0, 12.0];
        let [plain, normal] = [false, true].map(|is_normalized| EmbeddingConfig { is_normalized });
        assert_eq!(shaped(state.clone(), None, plain), Ok(state.clone()));
        let cut = shaped(state.clone(), Some(2), plain).unwrap();
        assert_eq!(cut, [0.6, 0.8]);
        let whole = shaped(state.clone(), Some(3), normal).unwrap();
        assert!((whole[2] - 12.0 / 13.0).abs() < 1e-6);
        assert_eq!(shaped(vec![0.0], None, normal), Ok(vec![0.0]));
        for none in [0, 4] {
            let refused = shaped(state.clone(), Some(none), plain).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some("dimensions"));
        }
    }
}
