//! What the tensors of a checkpoint are for, as data: a table of names for each architecture, none of them guessed
//! from a part of a name. Knows how mlx-lm lays tensors out, which is what is written; knows no way to pack them.

pub(super) mod tables;

use std::fmt;

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Rows for tokens; also the head where there is no other.
    Embedding,
    /// From hidden states to logits.
    Head,
    /// Chooses experts, or how much of the shared one is taken.
    Router,
    /// Queries of attention.
    Query,
    /// Keys of attention.
    Key,
    /// Values of attention.
    Value,
    /// From heads back to hidden states.
    Output,
    /// To and from the small rows that latent attention keeps.
    Latent,
    /// Inputs of a gated delta layer.
    DeltaInput,
    /// What becomes decays and corrections of a gated delta layer.
    DeltaDecay,
    /// From a gated delta layer back to hidden states.
    DeltaOutput,
    /// A convolution along the sequence.
    Convolution,
    /// Of a gated MLP.
    Mlp(Side),
    /// Of the expert that every token takes.
    SharedExpert(Side),
    /// Of experts that tokens are routed to.
    RoutedExpert(Side),
    /// The weight of a norm.
    Norm,
    /// What is added to a product.
    Bias,
    /// Few numbers that are computed with as they are: sinks, logarithms of decays.
    Constant,
    /// No table knows it.
    Unknown,
}

/// Which matrix of a gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one whose activation gates.
    Gate,
    /// The one that is gated.
    Up,
    /// The one back to hidden states.
    Down,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, side) = match self {
            Self::Embedding => ("embedding", None),
            Self::Head => ("head", None),
            Self::Router => ("router", None),
            Self::Query => ("query", None),
            Self::Key => ("key", None),
            Self::Value => ("value", None),
            Self::Output => ("output", None),
            Self::Latent => ("latent", None),
            Self::DeltaInput => ("delta input", None),
            Self::DeltaDecay => ("delta decay", None),
            Self::DeltaOutput => ("delta output", None),
            Self::Convolution => ("convolution", None),
            Self::Mlp(side) => ("mlp", Some(side)),
            Self::SharedExpert(side) => ("shared expert", Some(side)),
            Self::RoutedExpert(side) => ("routed expert", Some(side)),
            Self::Norm => ("norm", None),
            Self::Bias => ("bias", None),
            Self::Constant => ("constant", None),
            Self::Unknown => ("unknown", None),
        };
        f.write_str(kind)?;
        match side {
            Some(Side::Gate) => f.write_str(" gate"),
            Some(Side::Up) => f.write_str(" up"),
            Some(Side::Down) => f.write_str(" down"),
            None => Ok(()),
        }
    }
}

/// What becomes of a tensor.
#[derive(Debug, Clone, Copy)]
pub enum Layout {
    /// It stays as it is.
    Whole,
    /// It is one of a stack that gets this name; the last number in its own name is its place.
    Stacked(&'static str),
    /// Others are made of it.
    Split(&'static [Made]),
    /// A norm that holds how far it is from 1, where the checkpoint was not saved by mlx-lm: 1 is added.
    Raised,
    /// A convolution `[channels, 1, taps]` that becomes `[channels, taps, 1]`.
    Taps,
    /// It stays in its type whatever is asked for.
    Exact,
    /// Nothing: why it is not needed.
    Dropped(&'static str),
}

/// A tensor that is made of another.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Its name, under the text model as that of a [`TensorRule`].
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// What is taken.
    pub view: View,
}

/// What is taken of a tensor, of each matrix where it is a stack of them.
#[derive(Debug, Clone, Copy)]
pub enum View {
    /// All of it.
    Whole,
    /// `[E, 2 · rows, columns]`: the first half of the rows of each, or the second.
    Half(usize),
    /// `[E, columns, rows]`: each transposed.
    Transposed,
    /// `[E, columns, 2 · rows]`: each transposed, and every second row, from this one on.
    TransposedEverySecond(usize),
    /// `[E, 2 · columns]`: every second number of each row, from this one on.
    EverySecond(usize),
    /// `[heads · (a + b), columns]`, `a` and `b` fields of the configuration: of each head `a` rows, transposed.
    FirstOfHeads(&'static str, &'static str),
    /// The same, and of each head `b` rows as they are.
    LastOfHeads(&'static str, &'static str),
}

/// What is known of the tensors of one name.
#[derive(Debug, Clone, Copy)]
pub struct TensorRule {
    /// The name under the text model, or `lm_head`; `*` stands for a number.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// What becomes of it.
    pub layout: Layout,
}

/// The tensors of one architecture.
#[derive(Debug, Clone, Copy)]
pub struct Tensors {
    /// What is known of each name.
    pub rules: &'static [&'static [TensorRule]],
    /// Where mlx-lm puts the text model and its head, if not where the checkpoint has them.
    pub saved_under: Option<(&'static str, &'static str)>,
    /// Beginnings of names that nothing is computed with.
    pub unused: &'static [&'static str],
}

/// The numbers in a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers(Vec<usize>);

impl Numbers {
    /// The numbers in a name that fits `pattern`.
    pub fn of(pattern: &str, name: &str) -> Option<Self> {
        let mut numbers = Vec::new();
        let (mut patterns, mut parts) = (pattern.split('.'), name.split('.'));
        loop {
            match (patterns.next(), parts.next()) {
                (None, None) => return Some(Self(numbers)),
                (Some("*"), Some(part)) => numbers.push(part.parse().ok()?),
                (Some(pattern), Some(part)) if pattern == part => {}
                _ => return None,
            }
        }
    }

    /// The layer: the first number.
    pub fn layer(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// The place in a stack: the last number.
    pub fn place(&self) -> Option<usize> {
        self.0.last().copied()
    }

    /// A name of the same numbers, as many as it takes.
    pub fn fill(&self, pattern: &str) -> String {
        let mut numbers = self.0.iter();
        let parts = pattern.split('.').map(|part| match part {
            "*" => numbers.next().map(usize::to_string).unwrap_or_default(),
            part => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join(".")
    }
}

impl Tensors {
    /// The rule for a name under the text model, and the numbers in it.
    pub fn rule(&self, name: &str) -> Option<(&'static TensorRule, Numbers)> {
        let mut rules = self.rules.iter().flat_map(|rules| rules.iter());
        rules.find_map(|rule| Some((rule, Numbers::of(rule.name, name)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ARCHITECTURES;
    use super::*;

    #[test]
    fn a_name_fits_as_a_whole_or_not_at_all() {
        let rule = "layers.*.mlp.experts.*.up_proj.weight";
        let numbers = Numbers::of(rule, "layers.3.mlp.experts.12.up_proj.weight").unwrap();
        assert_eq!((numbers.layer(), numbers.place()), (Some(3), Some(12)));
        assert_eq!(numbers.fill("layers.*.mlp.up"), "layers.3.mlp.up");
        for name in [
            "layers.3.mlp.experts.x.up_proj.weight",
            "layers.3.mlp.experts.12.up_proj",
            "layers.3.mlp.experts.12.up_proj.weight.more",
            "model.layers.3.mlp.experts.12.up_proj.weight",
        ] {
            assert_eq!(Numbers::of(rule, name), None, "{name}");
        }
    }

    #[test]
    fn no_architecture_has_two_rules_for_a_name() {
        for spec in ARCHITECTURES {
            let rules = spec.tensors.rules.iter().flat_map(|rules| rules.iter());
            let mut names: Vec<&str> = rules.map(|rule| rule.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{:?}", spec.names);
        }
    }

    #[test]
    fn what_is_made_has_a_rule_of_its_own_with_the_same_role() {
        for spec in ARCHITECTURES {
            for rule in spec.tensors.rules.iter().flat_map(|rules| rules.iter()) {
                let made: Vec<(&str, Role)> = match rule.layout {
                    Layout::Stacked(name) => vec![(name, rule.role)],
                    Layout::Split(made) => made.iter().map(|made| (made.name, made.role)).collect(),
                    _ => Vec::new(),
                };
                for (name, role) in made {
                    let name = name.replace('*', "0");
                    let (found, _) = spec.tensors.rule(&name).unwrap_or_else(|| panic!("{name}"));
                    assert_eq!(found.role, role, "{name}");
                    assert!(matches!(found.layout, Layout::Whole), "{name}");
                }
            }
        }
    }
}
