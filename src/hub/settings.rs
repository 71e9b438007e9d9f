//! Where the cache and the hub are, by the rules of Hugging Face's own tools; reads no environment.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The public hub.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Values that switch on what a variable is about, in any case: those of Hugging Face's own tools.
const TRUE: [&str; 4] = ["1", "on", "yes", "true"];

/// How models are found and fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The folder that holds `models--org--name`.
    pub cache: PathBuf,
    /// Sent to the hub, and to nobody it redirects to; never shown.
    pub token: Option<String>,
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// Whether the network must not be used.
    pub offline: bool,
}

impl HubSettings {
    /// The settings that the usual variables ask for, each looked up by `variable`; an empty value
    /// counts as none.
    ///
    /// `HF_HUB_CACHE`, else `hub` in `HF_HOME`, is the cache. `HF_HOME` is by default
    /// `huggingface` in `XDG_CACHE_HOME`, which is by default `.cache` in `HOME` (in the working
    /// folder where not even that is set). `HF_TOKEN`, else the file `token` in `HF_HOME`, is the
    /// token. `HF_ENDPOINT` is the hub's address, and `HF_HUB_OFFLINE` forbids the network.
    ///
    /// # Errors
    /// [`Error::Io`] where the token's file exists and cannot be read.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let home = folder("HF_HOME").unwrap_or_else(|| {
            folder("XDG_CACHE_HOME")
                .unwrap_or_else(|| folder("HOME").unwrap_or_default().join(".cache"))
                .join("huggingface")
        });
        let token = match variable("HF_TOKEN") {
            Some(token) => Some(token),
            None => match fs::read_to_string(home.join("token")) {
                Ok(token) => Some(token),
                Err(error) if is_absence(&error) => None,
                Err(error) => return Err(Error::io("read", home.join("token"))(error)),
            },
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Self {
            cache: folder("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            token: token
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty()),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
        })
    }
}

/// Whether a variable such as `HF_HUB_OFFLINE` switches on what it is about: 1, `on`, `yes` or `true`.
pub fn is_true(value: &str) -> bool {
    TRUE.contains(&value.to_lowercase().as_str())
}

/// Whether an error says that a file is not there, the case of `HF_HOME=/dev/null` included.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubSettings")
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("endpoint", &self.endpoint)
            .field("offline", &self.offline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    #[test]
    fn the_cache_follows_the_nearest_variable() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[], ".cache/huggingface/hub"),
            (
                &[("HOME", "/h"), ("HF_HOME", "")],
                "/h/.cache/huggingface/hub",
            ),
            (
                &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
                "/x/huggingface/hub",
            ),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")], "/f/hub"),
            (&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")], "/c"),
        ];
        for (variables, cache) in cases {
            assert_eq!(settings(variables).cache, PathBuf::from(cache));
        }
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", path)]).token, None);
        assert_eq!(settings(&[("HF_HOME", "/dev/null")]).token, None);
        fs::write(home.path().join("token"), "from-file\n").unwrap();
        assert_eq!(
            settings(&[("HF_HOME", path)]).token.as_deref(),
            Some("from-file")
        );
        let both = settings(&[("HF_HOME", path), ("HF_TOKEN", "from-variable")]);
        assert_eq!(both.token.as_deref(), Some("from-variable"));
        assert!(!format!("{both:?}").contains("from-variable"));
    }

    #[test]
    fn endpoint_and_offline_have_defaults() {
        let plain = settings(&[]);
        assert_eq!(
            (plain.endpoint.as_str(), plain.offline),
            (DEFAULT_ENDPOINT, false)
        );
        let set = settings(&[
            ("HF_ENDPOINT", "http://mirror:8080/"),
            ("HF_HUB_OFFLINE", "True"),
        ]);
        assert_eq!(
            (set.endpoint.as_str(), set.offline),
            ("http://mirror:8080", true)
        );
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
    }
}
