//! An encoder's tables in a file, so that the next process need not build them.
//!
//! The file is of this program and this machine: tables as they are in memory, behind a checksum. It is named by where
//! `tokenizer.json` is and when it was last changed; what does not fit in any way is built anew.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytemuck::{Pod, cast_slice, try_cast_slice};
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
use super::vocabulary::{Found, Spelled, Vocabulary};
use crate::files::make_room;
use crate::kernels::table::{MappedTables, Table};
use crate::tokenizer::pieces::Pieces as Spelling;

/// What a file begins with. Another number for whatever changes in the tables or in what they mean.
const MAGIC: [u8; 16] = *b"mlxr-tokenizer-5";
/// What tables begin at a multiple of in the file, as numbers of some do in memory.
const ALIGNMENT: usize = 64;
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
    let head: Table<u8> = reader.table()?;
    let tokens: Table<u8> = reader.table()?;
    let bytes: Table<u32> = reader.table()?;
    let seams: Table<u64> = reader.table()?;
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
        spelled: Spelled {
            bytes: token_bytes,
            starts,
        },
        found: Found {
            slots,
            words: reader.table()?,
        },
    };
    let pieces = Pieces::new(vocabulary, merges, trie, (&*bytes).try_into().ok()?);
    let seams = Seams::from_table(seams.to_vec());
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
        tokens: tokens.iter().copied().map(Token::of_bits).collect(),
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
        vocabulary: Vocabulary { spelled, found },
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
        .and_then(|()| writer.table(&spelled.bytes))
        .and_then(|()| writer.table(&spelled.starts))
        .and_then(|()| writer.table(&found.slots))
        .and_then(|()| writer.table(&merges.tokens))
        .and_then(|()| writer.table(&merges.pairs.buckets))
        .and_then(|()| writer.table(&merges.pairs.filter))
        .and_then(|()| writer.table(&found.words));
    if written.is_none() || fs::rename(&partial, place).is_err() {
        fs::remove_file(&partial).ok()?;
        return None;
    }
    make_room(folder, MOST_FILES)
}

/// Each table is its length in bytes and its checksum, and its bytes, both filled up with zeros.
struct Writer(File);

impl Writer {
    fn create(path: &Path) -> Option<Self> {
        let mut writer = Self(File::create(path).ok()?);
        writer.bytes(&MAGIC)?;
        Some(writer)
    }

    fn table<T: Pod>(&mut self, table: &[T]) -> Option<()> {
        let bytes: &[u8] = cast_slice(table);
        self.bytes(cast_slice(&[bytes.len() as u64, xxh3_64(bytes)]))?;
        self.bytes(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let zeros = [0; ALIGNMENT];
        let missing = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.0.write_all(bytes).ok()?;
        self.0.write_all(&zeros[..missing]).ok()
    }
}

/// Tables where they lie in the file: none is copied.
struct Reader {
    file: MappedTables,
    /// Where the next one is.
    at: usize,
}

impl Reader {
    fn open(path: &Path) -> Option<Self> {
        let file = MappedTables::new(&File::open(path).ok()?).ok()?;
        let mut reader = Self { file, at: 0 };
        let magic = reader.next(MAGIC.len())?;
        (reader.file.bytes()[magic] == MAGIC).then_some(reader)
    }

    /// Where the next bytes are, so many.
    fn next(&mut self, length: usize) -> Option<Range<usize>> {
        let range = self.at..self.at.checked_add(length)?;
        self.at = range.end.checked_next_multiple_of(ALIGNMENT)?;
        let zeros = self.file.bytes().get(range.end..self.at)?;
        zeros.iter().all(|byte| *byte == 0).then_some(range)
    }

    fn table<T: Pod>(&mut self) -> Option<Table<T>> {
        let head = self.next(2 * size_of::<u64>())?;
        let &[length, checksum]: &[u64] = try_cast_slice(&self.file.bytes()[head]).ok()? else {
            return None;
        };
        let range = self.next(usize::try_from(length).ok()?)?;
        let is_whole = xxh3_64(&self.file.bytes()[range.clone()]) == checksum;
        is_whole.then(|| self.file.table(range)).flatten()
    }

    fn end(&self) -> Option<()> {
        (self.at == self.file.bytes().len()).then_some(())
    }
}
