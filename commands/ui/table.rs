//! Tables: drawn on a terminal, Markdown elsewhere. Knows nothing of what is in them.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table as Drawn};

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// Columns with a heading each, and rows with as many cells.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<(String, Align, Vec<String>)>,
}

impl Table {
    /// Names, and what there is to say of each, under these heads.
    pub(crate) fn of_pairs(heads: [&str; 2], rows: &[(&str, String)]) -> Self {
        let mut table = Self::default();
        let names = rows.iter().map(|(name, _)| (*name).to_owned());
        table.column(heads[0], Align::Left, names);
        table.column(
            heads[1],
            Align::Right,
            rows.iter().map(|(_, said)| said.clone()),
        );
        table
    }

    /// Adds a column.
    pub(crate) fn column(
        &mut self,
        heading: &str,
        align: Align,
        cells: impl IntoIterator<Item = String>,
    ) {
        let cells = cells.into_iter().collect();
        self.columns.push((heading.to_owned(), align, cells));
    }

    /// As it is read where it goes: with lines around it on a terminal, else as Markdown.
    pub(crate) fn shown(&self, on_terminal: bool) -> String {
        if on_terminal {
            self.drawn()
        } else {
            self.markdown()
        }
    }

    /// With lines around it.
    fn drawn(&self) -> String {
        let mut drawn = Drawn::new();
        drawn.load_style(UTF8_FULL_CONDENSED);
        drawn.set_header(self.columns.iter().map(|(heading, ..)| heading));
        for row in 0..self.rows() {
            drawn.add_row(self.columns.iter().map(|(_, _, cells)| &cells[row]));
        }
        for (column, (_, align, _)) in drawn.column_iter_mut().zip(&self.columns) {
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        format!("{drawn}\n")
    }

    /// As Markdown whose columns are also straight to the eye.
    fn markdown(&self) -> String {
        let mut lines = vec![String::from("|"); self.rows() + 2];
        for (heading, align, cells) in &self.columns {
            let texts = || std::iter::once(heading).chain(cells);
            let width = texts().map(|text| text.chars().count()).max().unwrap_or(0);
            let padded = |text: &String| match align {
                Align::Left => format!(" {text:<width$} |"),
                Align::Right => format!(" {text:>width$} |"),
            };
            let rule = match align {
                Align::Left => format!(" {} |", "-".repeat(width)),
                Align::Right => format!(" {}: |", "-".repeat(width.saturating_sub(1))),
            };
            let mut texts = texts().map(padded);
            lines[0] += &texts.next().unwrap_or_default();
            lines[1] += &rule;
            for (line, text) in lines[2..].iter_mut().zip(texts) {
                *line += &text;
            }
        }
        lines.join("\n") + "\n"
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, _, cells)| cells.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    #[test]
    fn both_forms_hold_every_cell_and_are_straight() {
        let mut table = Table::default();
        let words = ["a", "bcd"].map(str::to_owned);
        table.column("test", Align::Left, words);
        table.column("±", Align::Right, ["1.5", "10.5"].map(str::to_owned));
        assert_eq!(
            table.markdown(),
            "| test |    ± |\n| ---- | ---: |\n| a    |  1.5 |\n| bcd  | 10.5 |\n"
        );
        let drawn = table.drawn();
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{drawn}");
        assert!(drawn.contains("│ bcd  ┆ 10.5 │"), "{drawn}");
    }
}
