//! The tables of ARCHITECTURE.md: who may name whom; knows nothing of files.

use crate::source::is_in;

/// Who may name whom.
#[derive(Debug)]
pub(crate) struct Map {
    /// A place in the tree, and the modules of its own crate that it may name beside itself.
    rooms: Vec<(String, Vec<String>)>,
    /// A name, and the places that alone may use it.
    homes: Vec<(String, Vec<String>)>,
}

impl Map {
    /// Reads the two tables, which are known by their headings.
    pub(crate) fn read(page: &str) -> Self {
        Self {
            rooms: table(page, "room", "may name"),
            homes: table(page, "name", "only in"),
        }
    }

    /// The most exact row for `path`: the place, and what may be named there.
    pub(crate) fn room(&self, path: &str) -> Option<&(String, Vec<String>)> {
        let rows = self.rooms.iter().filter(|(place, _)| is_in(path, place));
        rows.max_by_key(|(place, _)| place.len())
    }

    /// Every place that has a row.
    pub(crate) fn places(&self) -> impl Iterator<Item = &str> {
        self.rooms.iter().map(|(place, _)| place.as_str())
    }

    /// Every name that has a home, and its home.
    pub(crate) fn homes(&self) -> &[(String, Vec<String>)] {
        &self.homes
    }
}

/// The rows of the table with columns `key` and `value`, one for each code word of the first.
fn table(page: &str, key: &str, value: &str) -> Vec<(String, Vec<String>)> {
    let mut lines = page.lines().map(cells);
    let column = |cells: &[&str], title: &str| cells.iter().position(|cell| *cell == title);
    let columns = lines.find_map(|cells| Some((column(&cells, key)?, column(&cells, value)?)));
    let Some((key, value)) = columns else {
        return Vec::new();
    };
    let rows = lines
        .skip(1)
        .take_while(|cells| cells.len() > key.max(value));
    rows.flat_map(|cells| {
        let allowed = code_words(cells[value]);
        code_words(cells[key])
            .into_iter()
            .map(move |place| (place, allowed.clone()))
    })
    .collect()
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line
        .strip_prefix('|')
        .and_then(|line| line.trim_end().strip_suffix('|'));
    inner
        .map(|inner| inner.split('|').map(str::trim).collect())
        .unwrap_or_default()
}

fn code_words(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Map;

    #[test]
    fn both_tables_are_read_and_the_longest_place_wins() {
        let page = "text\n\n| room | what | may name |\n|---|---|---|\n| `src/a`, `src/b` | x | `c`, `d::e` |\n\
            | `src/a/f` | y | nothing |\n\n| name | only in |\n|---|---|\n| `g::h` | `src/a` |\n\nend";
        let map = Map::read(page);
        let room = |path| {
            map.room(path)
                .map(|(place, names)| (place.as_str(), names.join(" ")))
        };
        assert_eq!(room("src/b/x.rs"), Some(("src/b", "c d::e".to_owned())));
        assert_eq!(room("src/a/f.rs"), Some(("src/a/f", String::new())));
        assert_eq!(room("src/z.rs"), None);
        assert_eq!(map.homes(), [("g::h".to_owned(), vec!["src/a".to_owned()])]);
    }
}
