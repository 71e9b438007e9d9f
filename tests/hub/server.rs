//! A hub on loopback: one repository, the endpoints that downloads use, and faults on demand.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The commit that every revision of the repository means.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The repository.
pub(crate) const REPOSITORY: &str = "org/tiny";

/// Name and content of each file of a repository.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes of the body.
    Drop(usize),
    /// The range is ignored: status 200 and the whole file.
    IgnoreRange,
    /// Every range is refused with status 416.
    RefuseRange,
    /// A whole answer whose body is so long, filled up with zeros or cut.
    Length(usize),
    /// This status, with this in `X-Error-Message`, or as JSON where that is empty.
    Status(u16, &'static str),
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// GET or HEAD.
    pub(crate) method: String,
    /// Path without the host.
    pub(crate) path: String,
    /// Value of `Range`.
    pub(crate) range: Option<String>,
    /// Value of `Authorization`.
    pub(crate) authorization: Option<String>,
}

struct State {
    files: Files,
    address: String,
    /// Large files are elsewhere, small ones behind a redirect within the hub, as the public hub does it.
    redirects: bool,
    /// Faults still to come: part of the path, fault; each serves one request that carries a body.
    faults: Mutex<Vec<(String, Fault)>>,
    log: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

/// A running hub; it ends when dropped.
pub(crate) struct Server {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// The etag under which the server knows a content.
pub(crate) fn etag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

impl Server {
    /// A hub that answers as the public one does.
    pub(crate) fn new(files: Files) -> Self {
        Self::start(files, true)
    }

    /// A hub without redirects, as plain mirrors are.
    pub(crate) fn plain(files: Files) -> Self {
        Self::start(files, false)
    }

    fn start(files: Files, redirects: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            files,
            address: listener.local_addr().unwrap().to_string(),
            redirects,
            faults: Mutex::default(),
            log: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("hub".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    if shared.stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let shared = Arc::clone(&shared);
                    let answer = move || shared.answer(&stream.unwrap());
                    thread::Builder::new()
                        .name("hub answer".to_owned())
                        .spawn(answer)
                        .unwrap();
                }
            });
        Self {
            state,
            thread: Some(thread.unwrap()),
        }
    }

    /// The address to give as endpoint.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.state.address)
    }

    /// The next request for a body whose path contains `part` meets this fault.
    pub(crate) fn fault(&self, part: &str, fault: Fault) {
        self.state
            .faults
            .lock()
            .unwrap()
            .push((part.to_owned(), fault));
    }

    /// What was asked since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(&self.state.address).is_ok();
        if let Some(thread) = self.thread.take()
            && woken
        {
            thread.join().unwrap();
        }
    }
}

impl State {
    fn answer(&self, stream: &TcpStream) {
        let Some(request) = read(stream) else { return };
        self.log.lock().unwrap().push(request.clone());
        // A client that stops reading is part of the tests.
        let _result = self.respond(stream, &request);
    }

    fn respond(&self, stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let path = request.path.as_str();
        let listing = format!("/api/models/{REPOSITORY}/revision/");
        if let Some(revision) = path.strip_prefix(&listing) {
            if let Some(Fault::Status(code, said)) = self.take_fault(path) {
                return refuse(stream, code, said);
            }
            if !["main", "v1", "refs%2Fpr%2F1", COMMIT].contains(&revision) {
                return refuse(stream, 404, "Invalid rev id: nope");
            }
            let names = self
                .files
                .keys()
                .map(|name| format!(r#"{{"rfilename":"{name}"}}"#));
            let names = names.collect::<Vec<_>>().join(",");
            let body = format!(r#"{{"id":"{REPOSITORY}","sha":"{COMMIT}","siblings":[{names}]}}"#);
            return send(stream, "200 OK", &[], body.as_bytes(), body.len());
        }
        let resolve = format!("/{REPOSITORY}/resolve/{COMMIT}/");
        if let Some(content) = path
            .strip_prefix(&resolve)
            .and_then(|name| self.files.get(name))
        {
            let linked = [
                format!("X-Repo-Commit: {COMMIT}"),
                "ETag: \"of-the-redirect\"".to_owned(),
                format!("X-Linked-Etag: \"{}\"", etag(content)),
                format!("X-Linked-Size: {}", content.len()),
            ];
            let large = path.ends_with(".safetensors");
            return match (self.redirects, large) {
                (false, _) => self.serve(stream, request, content),
                (true, true) => {
                    let (_, port) = self.address.split_once(':').unwrap();
                    // Another name of this host: credentials must not follow.
                    let place = format!(
                        "Location: http://localhost:{port}/storage/{}",
                        etag(content)
                    );
                    send(
                        stream,
                        "302 Found",
                        &[&[place], &linked[..]].concat(),
                        b"",
                        0,
                    )
                }
                (true, false) => {
                    let place = path.replace("resolve", "cache");
                    let place = format!("Location: /api/resolve-cache{place}");
                    send(stream, "307 Temporary Redirect", &[place], b"", 0)
                }
            };
        }
        let stored = self.files.iter().find(|(name, content)| {
            path == format!("/storage/{}", etag(content))
                || path == format!("/api/resolve-cache/{REPOSITORY}/cache/{COMMIT}/{name}")
        });
        match stored {
            Some((_, content)) => self.serve(stream, request, content),
            None => refuse(stream, 404, "Entry not found"),
        }
    }

    /// Gives a file's bytes, or what the next fault makes of them.
    fn serve(&self, stream: &TcpStream, request: &Request, content: &[u8]) -> std::io::Result<()> {
        let about = [
            format!("X-Repo-Commit: {COMMIT}"),
            format!("ETag: \"{}\"", etag(content)),
            "Accept-Ranges: bytes".to_owned(),
        ];
        if request.method == "HEAD" {
            return send(stream, "200 OK", &about, b"", content.len());
        }
        let start = request.range.as_ref().map(|range| {
            range
                .strip_prefix("bytes=")
                .unwrap()
                .strip_suffix('-')
                .unwrap()
                .parse::<usize>()
                .unwrap()
        });
        // Storage knows contents, not names: faults may be given by either.
        let name = self
            .files
            .iter()
            .find(|(_, known)| *known == content)
            .unwrap()
            .0;
        let fault = self.take_fault(&format!("{} {name}", request.path));
        match (fault, start) {
            (Some(Fault::Status(code, said)), _) => refuse(stream, code, said),
            (Some(Fault::RefuseRange), Some(_)) => refuse(stream, 416, "no such range"),
            (Some(Fault::Length(length)), _) => {
                let mut body = content.to_vec();
                body.resize(length, 0);
                send(stream, "200 OK", &about, &body, length)
            }
            (fault, Some(start)) if !matches!(fault, Some(Fault::IgnoreRange)) => {
                let (last, all) = (content.len() - 1, content.len());
                let range = format!("Content-Range: bytes {start}-{last}/{all}");
                let rest = &content[start..];
                let sent = sent(fault, rest);
                send(
                    stream,
                    "206 Partial Content",
                    &[&[range], &about[..]].concat(),
                    sent,
                    rest.len(),
                )
            }
            (fault, _) => send(
                stream,
                "200 OK",
                &about,
                sent(fault, content),
                content.len(),
            ),
        }
    }

    fn take_fault(&self, path: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let place = faults
            .iter()
            .position(|(part, _)| path.contains(part.as_str()))?;
        Some(faults.remove(place).1)
    }
}

fn sent(fault: Option<Fault>, body: &[u8]) -> &[u8] {
    match fault {
        Some(Fault::Drop(length)) => &body[..length.min(body.len())],
        _ => body,
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut range, mut authorization) = (None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(Request {
        method,
        path,
        range,
        authorization,
    })
}

fn refuse(stream: &TcpStream, code: u16, said: &str) -> std::io::Result<()> {
    let body = r#"{"error":"said in the body."}"#;
    let headers = if said.is_empty() {
        vec![]
    } else {
        vec![format!("X-Error-Message: {said}")]
    };
    send(
        stream,
        &format!("{code} No"),
        &headers,
        body.as_bytes(),
        body.len(),
    )
}

/// One answer; where the body is shorter than the length announced, the connection just ends.
fn send(
    mut stream: &TcpStream,
    status: &str,
    headers: &[String],
    body: &[u8],
    length: usize,
) -> std::io::Result<()> {
    let mut head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()?;
    stream.shutdown(Shutdown::Both)
}
