//! What is measured, in which order. Measures nothing.

use serde::{Serialize, Serializer};

use super::corpus::{Corpus, Cut};
use super::engines::Engine;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Load,
    Cold,
    Warm,
    Lines,
    Pieces4k,
    Pieces100,
    Decode,
    Stream,
}

impl Kind {
    const ENCODING: [Self; 5] = [
        Self::Cold,
        Self::Warm,
        Self::Lines,
        Self::Pieces4k,
        Self::Pieces100,
    ];

    /// As limits name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Lines => "lines",
            Self::Pieces4k => "4k",
            Self::Pieces100 => "100b",
            Self::Decode => "decode",
            Self::Stream => "stream",
        }
    }

    /// How the text is given to it.
    pub(super) fn cut(self) -> Cut {
        match self {
            Self::Lines => Cut::Lines,
            Self::Pieces4k => Cut::Pieces(4096),
            Self::Pieces100 => Cut::Pieces(100),
            Self::Load | Self::Cold | Self::Warm | Self::Decode | Self::Stream => Cut::Whole,
        }
    }

    /// Whether several threads are measured.
    pub(super) fn encodes(self) -> bool {
        Self::ENCODING.contains(&self)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One measurement.
#[derive(Clone, Copy)]
pub(super) struct Test<'a> {
    pub(super) kind: Kind,
    pub(super) engine: &'a Engine,
    /// None for loading.
    pub(super) corpus: Option<&'a Corpus>,
    pub(super) threads: usize,
}

impl Test<'_> {
    /// What tells it from all others of a vocabulary.
    pub(super) fn name(&self) -> String {
        let threads = (self.threads > 1).then(|| format!(" x {}", self.threads));
        let corpus = self.corpus.map(|corpus| format!(" {}", corpus.name));
        let [corpus, threads] = [corpus, threads].map(Option::unwrap_or_default);
        format!("{} {}{corpus}{threads}", self.kind.name(), self.engine.name)
    }
}

/// All of them.
pub(super) fn tests<'a>(
    engines: &'a [Engine],
    corpora: &'a [Corpus],
    threads: &[usize],
) -> Vec<Test<'a>> {
    let of = |kind, engine, corpus, threads| Test {
        kind,
        engine,
        corpus,
        threads,
    };
    let loads = engines.iter().map(|engine| of(Kind::Load, engine, None, 1));
    let mut tests: Vec<Test<'a>> = loads.collect();
    for corpus in corpora {
        for engine in engines {
            for threads in threads {
                let encoding = Kind::ENCODING.map(|kind| of(kind, engine, Some(corpus), *threads));
                tests.extend(encoding);
            }
        }
        // Both engines decode by the same code.
        for kind in [Kind::Decode, Kind::Stream] {
            let first = engines.iter().take(1);
            tests.extend(first.map(|engine| of(kind, engine, Some(corpus), 1)));
        }
    }
    tests
}
