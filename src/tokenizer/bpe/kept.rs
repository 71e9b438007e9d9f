//! An encoder's tables in a file, so that the next process need not build them.
//!
//! The file is of this program and this machine: tables as they are in memory, behind a checksum. It is named by where
//! `tokenizer.json` is and when it was last changed; what does not fit in any way is built anew.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytemuck::{Pod, cast_slice, cast_slice_mut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Encoder;
use super::build::{Built, Token, added};
use super::definition::AddedToken;
use super::merges::Merges;
use super::pairs::Pairs;
use super::piece::Pieces;
use super::scan::Seams;
use super::scratch::Scratches;
use super::structure::{Cut, Normal};
use super::trie::Trie;
use super::vocabulary::Vocabulary;
use crate::files::make_room;
use crate::tokenizer::pieces::Pieces as Spelling;

/// What a file begins with. Another number for whatever changes in the tables or in what they mean.
const MAGIC: [u8; 16] = *b"mlxr-tokenizer-4";
/// Files that a folder holds at most.
const MOST_FILES: usize = 16;
/// A `tokenizer.json` that is smaller is read as fast as tables are.
const SMALL: u64 = 1 << 20;

/// All but tables.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    spelling: Spelling,
    normal: Normal,
    cut: Cut,
    added: Vec<AddedToken>,
    before: Vec<u32>,
    behind: Vec<u32>,
}

/// The file with the tables of a `tokenizer.json`; `None` where there need be none.
pub(in super::super) fn place(folder: &Path, json: &Path) -> Option<PathBuf> {
    let whole = fs::canonicalize(json).ok()?;
    let metadata = fs::metadata(&whole)
        .ok()
        .filter(|metadata| metadata.len() >= SMALL)?;
    let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let mut hasher = Xxh3::new();
    hasher.update(whole.as_os_str().as_encoded_bytes());
    hasher.update(&metadata.len().to_le_bytes());
    hasher.update(&changed.as_nanos().to_le_bytes());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        for number in [
            metadata.ino(),
            metadata.ctime() as u64,
            metadata.ctime_nsec() as u64,
        ] {
            hasher.update(&number.to_le_bytes());
        }
    }
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
    Some(folder.join(format!("{:032x}.tables", hasher.digest128())))
}

/// Reads tables; `None` where there are none that are whole.
pub(in super::super) fn read(place: &Path) -> Option<Built> {
    let mut reader = Reader::open(place)?;
    let head: Vec<u8> = reader.table()?;
    let tokens: Vec<u8> = reader.table()?;
    let bytes: Vec<u32> = reader.table()?;
    let seams: Vec<u64> = reader.table()?;
    let trie = Trie {
        cells: reader.table()?,
    };
    let splits = reader.table()?;
    let (token_bytes, starts, slots) = (reader.table()?, reader.table()?, reader.table()?);
    // What the first text asks for most is read last, so that it is still near.
    let merges = Merges {
        splits,
        tokens: reader.table()?,
        pairs: Pairs {
            buckets: reader.table()?,
            filter: reader.table()?,
        },
    };
    let vocabulary = Vocabulary {
        bytes: token_bytes,
        starts,
        slots,
        words: reader.table()?,
    };
    let pieces = Pieces::new(vocabulary, merges, trie, bytes.as_slice().try_into().ok()?);
    let seams = Seams::from_table(seams);
    reader.end()?;
    let head: Head = serde_json::from_slice(&head).ok()?;
    let (raw, normalized) = added(&head.added, head.normal).ok()?;
    Some(Built {
        encoder: Encoder {
            pieces,
            seams,
            cut: head.cut,
            normal: head.normal,
            raw,
            normalized,
            scratches: Scratches::default(),
        },
        pieces: head.spelling,
        tokens: tokens.into_iter().map(Token::of_bits).collect(),
        added: head.added,
        before: head.before,
        behind: head.behind,
    })
}

/// Writes tables. A failure leaves things as they were: nothing depends on it.
pub(in super::super) fn write(built: &Built, place: &Path) {
    // Whoever could not keep tables builds them again.
    let _ = try_write(built, place);
}

fn try_write(built: &Built, place: &Path) -> Option<()> {
    let folder = place.parent()?;
    fs::create_dir_all(folder).ok()?;
    let Pieces {
        vocabulary,
        merges,
        trie,
        bytes,
        ..
    } = &built.encoder.pieces;
    let head = serde_json::to_vec(&Head {
        spelling: built.pieces,
        normal: built.encoder.normal,
        cut: built.encoder.cut,
        added: built.added.clone(),
        before: built.before.clone(),
        behind: built.behind.clone(),
    });
    let tokens: Vec<u8> = built.tokens.iter().map(|token| token.bits()).collect();
    let partial = place.with_extension(format!("{}.partial", std::process::id()));
    let mut writer = Writer::create(&partial)?;
    let written = writer
        .table(&head.ok()?)
        .and_then(|()| writer.table(&tokens))
        .and_then(|()| writer.table(bytes))
        .and_then(|()| writer.table(built.encoder.seams.table()))
        .and_then(|()| writer.table(&trie.cells))
        .and_then(|()| writer.table(&merges.splits))
        .and_then(|()| writer.table(&vocabulary.bytes))
        .and_then(|()| writer.table(&vocabulary.starts))
        .and_then(|()| writer.table(&vocabulary.slots))
        .and_then(|()| writer.table(&merges.tokens))
        .and_then(|()| writer.table(&merges.pairs.buckets))
        .and_then(|()| writer.table(&merges.pairs.filter))
        .and_then(|()| writer.table(&vocabulary.words));
    if written.is_none() || fs::rename(&partial, place).is_err() {
        fs::remove_file(&partial).ok()?;
        return None;
    }
    make_room(folder, MOST_FILES)
}

/// Each table is its length in bytes, its checksum, and its bytes.
struct Writer(File);

impl Writer {
    fn create(path: &Path) -> Option<Self> {
        let mut file = File::create(path).ok()?;
        file.write_all(&MAGIC).ok()?;
        Some(Self(file))
    }

    fn table<T: Pod>(&mut self, table: &[T]) -> Option<()> {
        let bytes: &[u8] = cast_slice(table);
        self.0.write_all(&(bytes.len() as u64).to_le_bytes()).ok()?;
        self.0.write_all(&xxh3_64(bytes).to_le_bytes()).ok()?;
        self.0.write_all(bytes).ok()
    }
}

struct Reader {
    file: File,
    /// Bytes that are left.
    left: u64,
}

impl Reader {
    fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let left = file.metadata().ok()?.len();
        let mut reader = Self { file, left };
        let mut magic = [0; MAGIC.len()];
        reader.bytes(&mut magic)?;
        (magic == MAGIC).then_some(reader)
    }

    fn bytes(&mut self, bytes: &mut [u8]) -> Option<()> {
        self.left = self.left.checked_sub(bytes.len() as u64)?;
        self.file.read_exact(bytes).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = [0; 8];
        self.bytes(&mut number)?;
        Some(u64::from_le_bytes(number))
    }

    fn table<T: Pod>(&mut self) -> Option<Vec<T>> {
        let (length, checksum) = (self.number()?, self.number()?);
        let is_whole = length <= self.left && (length as usize).is_multiple_of(size_of::<T>());
        let mut table: Vec<T> =
            bytemuck::zeroed_vec(is_whole.then_some(length as usize / size_of::<T>())?);
        let bytes: &mut [u8] = cast_slice_mut(&mut table);
        self.bytes(bytes)?;
        (xxh3_64(bytes) == checksum).then_some(table)
    }

    fn end(&self) -> Option<()> {
        (self.left == 0).then_some(())
    }
}
