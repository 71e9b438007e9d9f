//! The hub's HTTP interface: what a repository holds, and the bytes of its files; writes no file.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderMap, LOCATION, RANGE,
};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use crate::error::{Error, Result};

use super::HubSettings;
use super::name::{Repository, is_commit, is_plain};

/// How often something is tried at once before a dropped connection is an error.
pub(super) const ATTEMPTS: usize = 3;

/// A connection that says nothing for so long counts as dropped.
const SILENCE: Duration = Duration::from_secs(30);

/// Redirects within the hub that lead from a file's name to what describes it.
const MOST_REDIRECTS: usize = 5;

/// A repository at one revision, on one hub.
pub(super) struct Client<'a> {
    agent: Agent,
    settings: &'a HubSettings,
    repository: &'a Repository,
}

/// What a repository holds at one revision.
pub(super) struct Listing {
    /// The commit that the revision means now.
    pub(super) commit: String,
    /// Paths of its files.
    pub(super) files: Vec<String>,
}

/// What identifies a file's content.
pub(super) struct Metadata {
    /// Name of the content: the same content has the same etag. Safe in a path.
    pub(super) etag: String,
    /// Length in bytes.
    pub(super) size: u64,
}

impl<'a> Client<'a> {
    /// A client that goes through the proxy that the usual variables name (the HTTP library reads
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` by itself), unless the hub is on this machine.
    pub(super) fn new(settings: &'a HubSettings, repository: &'a Repository) -> Self {
        let mut config = Agent::config_builder()
            .user_agent(concat!("mlxr/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            // The system's certificates: those of a company's proxy are among them.
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::PlatformVerifier)
                    .build(),
            )
            .timeout_connect(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        if is_on_this_machine(&settings.endpoint) {
            config = config.proxy(None);
        }
        Self {
            agent: config.build().new_agent(),
            settings,
            repository,
        }
    }

    /// What the repository holds at the revision asked for.
    pub(super) fn list(&self) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let Repository { id, revision } = self.repository;
        let url = format!(
            "{}/api/models/{id}/revision/{}",
            self.settings.endpoint,
            revision.replace('/', "%2F")
        );
        let mut response = self.send(|| self.agent.get(&url))?;
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        let answer: Answer = response.body_mut().read_json().map_err(|error| {
            self.hub_error(format!(
                "the list of files is not what it should be: {error}"
            ))
        })?;
        if !is_commit(&answer.sha) {
            return Err(self.hub_error(format!("`{}` is not a commit", answer.sha)));
        }
        let files = answer
            .siblings
            .into_iter()
            .map(|sibling| sibling.rfilename)
            .collect();
        Ok(Listing {
            commit: answer.sha,
            files,
        })
    }

    /// What identifies a file's content, found without its bytes.
    ///
    /// A redirect within the hub is followed; one that leads away, to where large files are kept,
    /// carries the answer itself.
    pub(super) fn metadata(&self, commit: &str, file: &str) -> Result<Metadata> {
        let mut url = self.file_url(commit, file);
        for _ in 0..MOST_REDIRECTS {
            let response = self.send(|| {
                self.agent
                    .head(&url)
                    .config()
                    .max_redirects(0)
                    .max_redirects_will_error(false)
                    .build()
            })?;
            let status = response.status();
            if !status.is_success() && !status.is_redirection() {
                return Err(self.refusal(response));
            }
            let within = text(response.headers(), LOCATION.as_str())
                .filter(|place| place.starts_with('/') && !place.starts_with("//"));
            match within {
                Some(place) if status.is_redirection() => url = self.on_same_host(&url, place)?,
                _ => return self.described(response.headers(), file),
            }
        }
        Err(self.hub_error(format!("{file}: the hub redirects without end")))
    }

    /// The bytes of a file from `start` on: status 206, or 200 and the whole file, or 416 where
    /// the hub has no such bytes.
    pub(super) fn open(&self, commit: &str, file: &str, start: u64) -> Result<Response<Body>> {
        let url = self.file_url(commit, file);
        let response = self.send(|| {
            let request = self.agent.get(&url);
            if start == 0 {
                request
            } else {
                request.header(RANGE, format!("bytes={start}-"))
            }
        })?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                Ok(response)
            }
            _ => Err(self.refusal(response)),
        }
    }

    /// An error about this repository.
    pub(super) fn hub_error(&self, problem: String) -> Error {
        Error::Hub {
            repo: self.repository.to_string(),
            problem,
        }
    }

    fn file_url(&self, commit: &str, file: &str) -> String {
        format!(
            "{}/{}/resolve/{commit}/{file}",
            self.settings.endpoint, self.repository.id
        )
    }

    fn on_same_host(&self, url: &str, place: &str) -> Result<String> {
        let uri = url
            .parse::<Uri>()
            .map_err(|error| self.hub_error(error.to_string()))?;
        let scheme = uri.scheme_str().unwrap_or("https");
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        Ok(format!("{scheme}://{authority}{place}"))
    }

    fn described(&self, headers: &HeaderMap, file: &str) -> Result<Metadata> {
        let either = |linked: &str, own: &str| text(headers, linked).or_else(|| text(headers, own));
        let etag = either("x-linked-etag", ETAG.as_str())
            .map(|etag| etag.trim_start_matches("W/").trim_matches('"'))
            .filter(|etag| is_plain(etag));
        let size =
            either("x-linked-size", CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
        match (etag, size) {
            (Some(etag), Some(size)) => Ok(Metadata {
                etag: etag.to_owned(),
                size,
            }),
            _ => Err(self.hub_error(format!("the hub does not say the etag and size of {file}"))),
        }
    }

    /// Sends a request, and again where the connection fails.
    fn send(&self, request: impl Fn() -> RequestBuilder<WithoutBody>) -> Result<Response<Body>> {
        let mut attempt = 1;
        loop {
            // Lengths and ranges are those of the file only where nothing compresses it.
            let mut request = request().header(ACCEPT_ENCODING, "identity");
            if let Some(token) = &self.settings.token {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            match request.call() {
                Ok(response) => return Ok(response),
                Err(ureq::Error::Io(_) | ureq::Error::Timeout(_)) if attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => {
                    return Err(self.hub_error(format!(
                        "could not reach {}: {error}",
                        self.settings.endpoint
                    )));
                }
            }
        }
    }

    /// The error that an answer other than the wanted one is, in the hub's own words.
    fn refusal(&self, mut response: Response<Body>) -> Error {
        #[derive(Deserialize)]
        struct Answer {
            error: String,
        }
        let status = response.status();
        let said = match text(response.headers(), "x-error-message") {
            Some(said) => Some(said.to_owned()),
            None => response
                .body_mut()
                .read_json::<Answer>()
                .ok()
                .map(|answer| answer.error),
        };
        let said =
            said.unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").to_owned());
        let problem = format!(
            "the hub answered {}: {}",
            status.as_u16(),
            said.trim_end_matches('.')
        );
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Error::HubRefused {
                    repo: self.repository.to_string(),
                    problem,
                }
            }
            _ => self.hub_error(problem),
        }
    }
}

fn is_on_this_machine(endpoint: &str) -> bool {
    endpoint.parse::<Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| {
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    })
}

/// A header's value, where it is there and is text.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
