//! What is installed beside the binary, by the programs that it is for: completions in real shells, typed on a
//! terminal, and man pages through the formatter. What is not on this machine is told and left out.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Sealed, Terminal, spawn};

/// The folder of the source tree.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A program of the system, if it is there.
fn program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/bin", "/bin", "/usr/local/bin", "/opt/homebrew/bin"];
    let mut files = places.iter().map(|place| Path::new(place).join(name));
    let found = files.find(|file| file.exists());
    if found.is_none() {
        // Past the capture that hides what passing tests print.
        drop(writeln!(std::io::stderr(), "skipped: there is no {name}"));
    }
    found
}

/// A home with two models in the hub's cache.
fn home() -> Sealed {
    let home = Sealed::new();
    for model in ["models--acme--small", "models--acme--large"] {
        let hub = home.path(".cache/huggingface/hub").join(model);
        fs::create_dir_all(hub.join("snapshots/abc")).unwrap();
    }
    home
}

/// A shell that finds the binary, and ends by itself where nobody types any more.
fn shell(home: &Sealed, program: &Path, arguments: &[&str]) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_mlxr")).parent().unwrap();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home.path(""))
        .env("PATH", format!("{}:/usr/bin:/bin", binary.display()))
        .env("TERM", "dumb")
        .env("TMOUT", "60")
        .current_dir(home.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Types into a shell what a user would, with Tab where they wonder.
fn completes(mut terminal: Terminal) {
    // That a command ran is seen by what is not in its own text.
    terminal.type_in("echo rea''dy\n");
    terminal.expect("ready");
    terminal.type_in("mlxr toke\t");
    terminal.expect("mlxr tokenize");
    terminal.type_in("\u{15}mlxr run -m acme/s\t");
    terminal.expect("acme/small");
    terminal.type_in("\u{15}mlxr run -m acme/\t\t");
    terminal.expect("acme/large");
    terminal.type_in("\u{15}mlxr \t\t");
    terminal.expect("quantize");
    terminal.type_in("\u{15}mlxr run --devi\t");
    terminal.expect("--device");
    terminal.type_in("\u{15}exit\n");
    terminal.end();
}

#[test]
fn bash_completes_commands_options_and_models() {
    let Some(bash) = program("bash") else { return };
    let home = home();
    let script = kept("completions/mlxr.bash");
    let start = home.path("start");
    fs::write(&start, format!("source '{}'\n", script.display())).unwrap();
    let mut command = shell(&home, &bash, &["--noprofile", "--rcfile"]);
    command.arg(&start).arg("-i");
    completes(Terminal::start(command, &[0, 1, 2]));
}

#[test]
fn zsh_completes_commands_options_and_models() {
    let Some(zsh) = program("zsh") else { return };
    let home = home();
    // As an installation has it: a folder of zsh's path.
    let start = format!(
        "fpath=('{}' $fpath)\nautoload -U compinit\ncompinit -u -D\n",
        kept("completions").display()
    );
    fs::write(home.path(".zshrc"), start).unwrap();
    completes(Terminal::start(shell(&home, &zsh, &["-i"]), &[0, 1, 2]));
}

#[test]
fn fish_completes_commands_options_and_models() {
    let Some(fish) = program("fish") else { return };
    let home = home();
    let script = kept("completions/mlxr.fish");
    let completed = |line: &str| {
        let asked = format!("source '{}'; complete -C '{line}'", script.display());
        let child = spawn(&mut shell(&home, &fish, &["--no-config", "-c", &asked]));
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert!(completed("mlxr toke").starts_with("tokenize\t"));
    assert_eq!(completed("mlxr run -m acme/"), "acme/large\nacme/small\n");
    assert!(completed("mlxr run --devi").starts_with("--device\t"));
}

#[test]
fn man_pages_are_set_without_a_warning() {
    let Some(groff) = program("groff") else {
        return;
    };
    for entry in fs::read_dir(kept("man")).unwrap() {
        let page = entry.unwrap().path();
        let mut command = Command::new(&groff);
        command
            .args(["-man", "-Tutf8", "-P-cbou", "-ww"])
            .arg(&page);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = spawn(&mut command).wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && said.is_empty(),
            "{}: {said}",
            page.display()
        );
        for section in ["EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES"] {
            assert!(text.contains(section), "{} lacks {section}", page.display());
        }
    }
}
