//! A repository's files into the cache, each continued from the bytes at hand.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ureq::http::StatusCode;
use ureq::http::header::CONTENT_RANGE;

use crate::error::{Error, Result};
use crate::progress::{Progress, Unit};

use super::cache::{Cache, create_parent};
use super::client::{ATTEMPTS, Client, Listing, Metadata};
use super::name::Repository;
use super::snapshot::{self, CONFIG, INDEX, TOKENIZER, WEIGHTS};
use super::{HubSettings, Wanted};

/// Bytes read from the network at a time.
const BUFFER: usize = 128 * 1024;

/// Fetches what the cache lacks of a repository and gives the complete snapshot's folder.
pub(super) fn download(
    repository: &Repository,
    wanted: Wanted,
    cache: &Cache,
    settings: &HubSettings,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let client = Client::new(settings, repository);
    let Listing { commit, files } = client.list()?;
    let has = |file: &str| files.iter().any(|known| known == file);
    let weights = if has(WEIGHTS) { WEIGHTS } else { INDEX };
    let needed: &[&str] = match wanted {
        Wanted::Model => &[CONFIG, TOKENIZER, weights],
        Wanted::Tokenizer => &[TOKENIZER],
    };
    for file in needed.iter().copied() {
        if !has(file) {
            let file = if file == INDEX { WEIGHTS } else { file };
            return Err(Error::ModelNotFound {
                name: repository.to_string(),
                reason: format!("the repository has no {file}"),
            });
        }
    }
    cache.point(&repository.revision, &commit, progress)?;

    let task = Task {
        client,
        cache,
        commit,
        progress,
    };
    // The vocabulary comes after all files that say more of it: where it is there, they are.
    for file in files
        .iter()
        .filter(|file| snapshot::is_wanted_beside_weights(file) && *file != TOKENIZER)
    {
        task.fetch(file)?;
    }
    task.fetch(TOKENIZER)?;
    if wanted == Wanted::Tokenizer {
        return Ok(cache.snapshot(&task.commit));
    }
    task.fetch(weights)?;
    let folder = cache.snapshot(&task.commit);
    if weights == INDEX {
        let index = folder.join(INDEX);
        for shard in snapshot::shards(&index)? {
            if !has(&shard) {
                let problem = format!("`weight_map` names {shard}, which the repository lacks");
                return Err(Error::Weights {
                    path: index,
                    problem,
                });
            }
            task.fetch(&shard)?;
        }
    }
    match snapshot::first_gap(&folder, wanted)? {
        None => Ok(folder),
        Some(gap) => Err(Error::Weights {
            path: folder.join(gap.file),
            problem: "the file is not as long as its header says".to_owned(),
        }),
    }
}

/// One run of downloads from one commit.
struct Task<'a> {
    client: Client<'a>,
    cache: &'a Cache,
    commit: String,
    progress: &'a dyn Progress,
}

impl Task<'_> {
    /// Brings one file into the snapshot, unless it is there and whole.
    fn fetch(&self, file: &str) -> Result<()> {
        let path = self.cache.snapshot(&self.commit).join(file);
        let is_weights = file.ends_with(".safetensors");
        if path.exists() && (!is_weights || snapshot::is_whole(&path)?) {
            return Ok(());
        }
        let metadata = self.client.metadata(&self.commit, file)?;
        let _lock = self.cache.lock(&metadata.etag, file, self.progress)?;
        let blob = self.cache.blob(&metadata.etag);
        if !fs::metadata(&blob).is_ok_and(|found| found.len() == metadata.size) {
            create_parent(&blob)?;
            let partial = self.cache.partial(&metadata.etag);
            self.progress.start(file, Some(metadata.size), Unit::Bytes);
            let received = self.receive(file, &metadata, &partial);
            self.progress.finish(file);
            received?;
            fs::rename(&partial, &blob).map_err(Error::io("write", blob))?;
        }
        self.cache.link(&self.commit, file, &metadata.etag)
    }

    /// Grows the partial file until it has all bytes. Gives up when nothing new arrives any more.
    fn receive(&self, file: &str, metadata: &Metadata, partial: &Path) -> Result<()> {
        let mut output = Output::open(partial)?;
        if output.length > metadata.size {
            output.clear()?;
        }
        let mut furthest = output.length;
        let mut attempts = 0;
        while output.length < metadata.size {
            let ending = self.receive_once(file, metadata, &mut output)?;
            if output.length > furthest {
                furthest = output.length;
                attempts = 0;
            } else {
                attempts += 1;
            }
            if attempts == ATTEMPTS {
                return Err(self.client.hub_error(format!(
                    "{file} ended after {} of {} bytes: {ending}",
                    output.length, metadata.size
                )));
            }
        }
        output.file.sync_all().map_err(Error::io("write", partial))
    }

    /// One request for the bytes that are still missing; says how its answer ended.
    fn receive_once(
        &self,
        file: &str,
        metadata: &Metadata,
        output: &mut Output<'_>,
    ) -> Result<String> {
        let response = self.client.open(&self.commit, file, output.length)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response
                    .headers()
                    .get(CONTENT_RANGE)
                    .and_then(|range| range.to_str().ok());
                let start = format!("bytes {}-", output.length);
                if !range.is_some_and(|range| range.starts_with(&start)) {
                    let problem =
                        format!("{file}: the hub sent another range than the one asked for");
                    return Err(self.client.hub_error(problem));
                }
            }
            StatusCode::OK => output.clear()?,
            _ => {
                output.clear()?;
                return Ok("the hub has fewer bytes than it announced".to_owned());
            }
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            self.progress.advance(file, output.length);
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok("the hub sent no more".to_owned()),
                Ok(count) => count,
                Err(error) => return Ok(error.to_string()),
            };
            if output.length + count as u64 > metadata.size {
                output.clear()?;
                return Err(self.client.hub_error(format!(
                    "{file} has more than the {} bytes that the hub announced",
                    metadata.size
                )));
            }
            output.append(&buffer[..count])?;
        }
    }
}

/// A file that only grows, or starts over.
struct Output<'a> {
    file: File,
    path: &'a Path,
    length: u64,
}

impl<'a> Output<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::io("write", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        Ok(Self { file, path, length })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(Error::io("write", self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        if self.length > 0 {
            self.file
                .set_len(0)
                .map_err(Error::io("write", self.path))?;
            self.length = 0;
        }
        Ok(())
    }
}
