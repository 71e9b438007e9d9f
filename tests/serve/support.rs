//! A server with nothing of this machine's environment, and clients of it; knows nothing of what it should say.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sysinfo::{ProcessStatus, ProcessesToUpdate, System};
use tempfile::TempDir;

/// How long anything may take: far more than it does, so that a test that hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
    said: Mutex<Receiver<String>>,
    _home: TempDir,
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Server {
    /// With the built-in model on the CPU, and these arguments.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mlxr"))
            .args(["serve", "--port", "0", "--device", "cpu", "-v"])
            .args(arguments)
            .env_clear()
            .env("HOME", home.path())
            .env("HF_HUB_OFFLINE", "1")
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::Builder::new()
            .spawn(move || {
                for line in lines.map_while(Result::ok) {
                    // The test may be over.
                    drop(sender.send(line));
                }
            })
            .unwrap();
        let mut server = Self {
            child,
            address: String::new(),
            said: Mutex::new(said),
            _home: home,
        };
        let line = server.says("listening on http://");
        server.address = line.rsplit('/').next().unwrap().to_owned();
        server
    }

    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn says(&self, text: &str) -> String {
        loop {
            let line = self.said.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Asks, and reads the answer to its end.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let mut stream = self.begin(method, path, headers, body);
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        Response::parse(&String::from_utf8(response).unwrap())
    }

    /// Asks, and leaves the answer to be read.
    pub(crate) fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> TcpStream {
        self.begin_bytes(method, path, headers, body.as_bytes())
    }

    /// As [`Self::begin`], with a body that need not be text.
    pub(crate) fn begin_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = &self.address;
        let length = body.len();
        let headers = headers
            .iter()
            .flat_map(|(name, value)| [name, ": ", value, "\r\n"]);
        let headers: String = headers.collect();
        let host = if headers.contains("host: ") {
            String::new()
        } else {
            format!("host: {address}\r\n")
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // One that is refused is not read to its end.
        drop(stream.write_all(body));
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path, &[], &body.to_string())
    }

    /// The processes that it has started and that live.
    pub(crate) fn runners(&self) -> Vec<Pid> {
        children(self.child.id())
    }

    /// How many descriptors it has open, where the system tells, and the bytes of memory that it has.
    pub(crate) fn holds(&self) -> (usize, u64) {
        let id = self.child.id();
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        // Pages of the program's file come and go with what else the machine does.
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        if let Some(own) = own {
            return (open, own.parse::<u64>().unwrap() << 10);
        }
        let process = sysinfo::Pid::from_u32(id);
        let mut system = System::new();
        system.refresh_processes(ProcessesToUpdate::Some(&[process]), true);
        (open, system.process(process).unwrap().memory())
    }

    /// Ends it in good order; gives back its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code()
    }

    fn signal(&self, signal: Signal) {
        // It may have ended.
        let process = Pid::from_raw(self.child.id().try_into().unwrap());
        let _: nix::Result<()> = kill(process, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        drop(self.child.wait());
    }
}

/// The processes whose parent is `parent`, threads left out.
fn children(parent: u32) -> Vec<Pid> {
    let mut system = System::new();
    system.refresh_processes(ProcessesToUpdate::All, true);
    let all = system.processes().values();
    let children = all.filter(|process| {
        process.parent().is_some_and(|of| of.as_u32() == parent)
            && process.thread_kind().is_none()
            && process.status() != ProcessStatus::Zombie
    });
    let ids = children.map(|child| Pid::from_raw(child.pid().as_u32().try_into().unwrap()));
    ids.collect()
}

impl Response {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        let headers: Vec<_> = lines.map(header).collect();
        let is_chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
        Self {
            status: status.parse().unwrap(),
            body: if is_chunked {
                unchunk(body)
            } else {
                body.to_owned()
            },
            headers,
        }
    }

    /// The body of a response that is good.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The body of a response that refuses.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The events of a stream: name and content.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        assert_eq!(self.status, 200, "{self:?}");
        let events = self
            .body
            .split_terminator("\n\n")
            .filter(|event| !event.starts_with(':'));
        let event = |event: &str| {
            let (mut name, mut data) = (String::new(), String::new());
            for line in event.lines() {
                match line.split_once(": ").unwrap() {
                    ("event", value) => name = value.to_owned(),
                    ("data", value) => data = value.to_owned(),
                    other => panic!("{other:?}"),
                }
            }
            (name, data)
        };
        events.map(event).collect()
    }

    /// The lines of a stream, each a JSON value.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Takes the marks of chunks out of a body.
fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole += &rest[..size];
        body = &rest[size + 2..];
    }
    whole
}

/// A folder of that name with the files of the built-in model, in one that is removed afterwards.
pub(crate) fn copy_of_stories(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(name);
    fs::create_dir(&model).unwrap();
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/stories");
    for file in fs::read_dir(stories).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    (folder, model)
}

/// A short conversation with these fields.
pub(crate) fn chat(fields: &Value) -> Value {
    let mut asked = json!({
        "model": "stories",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 1,
    });
    for (name, value) in fields.as_object().unwrap() {
        asked[name] = value.clone();
    }
    asked
}
