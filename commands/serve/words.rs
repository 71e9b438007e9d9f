//! What a runner says on its standard error, of which the last is kept. Knows nothing of why it says it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

use crate::ui::Printer;

/// Bytes that are kept.
const KEPT: usize = 8 << 10;

/// Bytes of a line that are printed at once.
const LINE: usize = 4 << 10;

/// The last that a process says on its standard error. All of it is read, however much it is.
pub(super) struct LastWords {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl LastWords {
    /// Reads until the process ends, prints lines as they come, and keeps the last of them.
    pub(super) fn listen(stderr: ChildStderr, name: String, printer: Printer) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let reading = tokio::spawn(async move {
            let mut stderr = BufReader::new(stderr);
            let mut line = Vec::new();
            let mut piece = [0; LINE];
            while let Ok(read @ 1..) = stderr.read(&mut piece).await {
                add(
                    &mut keep.lock().unwrap_or_else(PoisonError::into_inner),
                    &piece[..read],
                );
                line.extend_from_slice(&piece[..read]);
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    tell(&name, &line[..end], printer);
                    line.drain(..=end);
                }
                if line.len() >= LINE {
                    tell(&name, &line, printer);
                    line.clear();
                }
            }
            if !line.is_empty() {
                tell(&name, &line, printer);
            }
        });
        Self { kept, reading }
    }

    /// What was kept, in one line, once the process has ended.
    pub(super) async fn all(self) -> String {
        // Where reading panicked, what was read before is there.
        drop(self.reading.await);
        one_line(&self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds to what is kept; whole lines at its beginning go.
fn add(kept: &mut Vec<u8>, piece: &[u8]) {
    kept.extend_from_slice(piece);
    if kept.len() > KEPT {
        let over = kept.len() - KEPT;
        let line_end = kept[over..].iter().position(|byte| *byte == b'\n');
        kept.drain(..over + line_end.map_or(0, |end| end + 1));
    }
}

/// Lines side by side, without what a terminal would obey and without our own name before each.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.map(|line| line.strip_prefix("mlxr: ").unwrap_or(line));
    let lines: Vec<&str> = lines.collect();
    lines.join("; ").replace(char::is_control, " ")
}

fn tell(name: &str, line: &[u8], printer: Printer) {
    let line = one_line(line);
    if !line.is_empty() {
        printer.talk(format_args!("{name}: {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, add, one_line};

    #[test]
    fn whole_lines_at_the_end_are_kept() {
        let mut kept = Vec::new();
        for line in 0..5000 {
            add(&mut kept, format!("line {line}\n").as_bytes());
        }
        assert!(kept.len() <= KEPT && kept.len() > KEPT - 20);
        assert!(kept.starts_with(b"line ") && kept.ends_with(b"line 4999\n"));
        // One line that has no end does not grow.
        add(&mut kept, &vec![b'x'; 3 * KEPT]);
        assert_eq!(kept, vec![b'x'; KEPT]);
    }

    #[test]
    fn a_terminal_is_not_steered() {
        assert_eq!(
            one_line(b"mlxr: error: a\x1b[2J\n\n  b\xff\n"),
            "error: a [2J; b\u{FFFD}"
        );
    }
}
