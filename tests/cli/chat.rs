//! A chat with the built-in model on a terminal.

use crate::support::{Sealed, Terminal, mlxr};

const PROMPT: &str = ">>> ";

fn start(home: &Sealed, arguments: &[&str]) -> Terminal {
    let mut command = home.command(&[&["run"], arguments].concat());
    command.env("TERM", "xterm");
    let mut terminal = Terminal::start(command, &[0, 1, 2]);
    terminal.expect("/help lists the commands");
    terminal.expect(PROMPT);
    terminal
}

#[test]
fn turns_commands_and_history() {
    let home = Sealed::new();
    let mut terminal = start(&home, &["-t", "0", "-n", "12"]);
    terminal.type_in("Tell me a story about a whale\r");
    terminal.expect("length: stopped at 12 tokens");
    terminal.expect(PROMPT);
    terminal.type_in("/help\r");
    terminal.expect("/clear forgets the conversation");
    terminal.expect(PROMPT);
    terminal.type_in("/nothing\r");
    terminal.expect("no command `/nothing`");
    terminal.expect(PROMPT);
    terminal.type_in("\x04");
    assert_eq!(terminal.end().0.code(), Some(0));

    let history = std::fs::read_to_string(home.path(".local/share/mlxr/history")).unwrap();
    assert!(
        history.contains("Tell me a story about a whale\n/help\n"),
        "{history:?}"
    );

    // The next chat brings the last line back.
    let mut terminal = start(&home, &[]);
    terminal.type_in("\x1b[A");
    terminal.expect("/nothing");
    terminal.type_in("\x15/exit\r");
    assert_eq!(terminal.end().0.code(), Some(0));
}

#[test]
fn ctrl_c_ends_the_line_or_the_answer_and_not_the_chat() {
    let story = "Tell me a story about a whale";
    let whole = mlxr(&["run", "-q", "-t", "0", story]).check(0, "");
    let (beginning, end) = (&whole[..10], &whole[whole.trim_end().len() - 10..]);
    let home = Sealed::new();
    let mut terminal = start(&home, &["-t", "0"]);
    terminal.type_in("half a line\x03");
    terminal.expect(PROMPT);
    terminal.type_in(&format!("{story}\r"));
    terminal.expect(beginning);
    terminal.interrupt();
    let rest = terminal.expect(PROMPT);
    assert!(!rest.contains(end.trim_end()), "it went on: {rest:?}");
    terminal.type_in("\x15/exit\r");
    assert_eq!(terminal.end().0.code(), Some(0));
}
