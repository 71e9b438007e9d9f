//! Rows of results on stdout, in the form that was asked for. Knows nothing of what is in them.

use mlxr::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::Form;
use crate::ui::printer;
use crate::ui::table::Table;

/// Writes rows: at once where the form allows it, else at the end.
#[derive(Debug)]
pub(crate) struct Output {
    form: Form,
    /// Whether Markdown is drawn as a table with lines.
    drawn: bool,
    /// The table's name in SQL.
    name: &'static str,
    rows: Vec<Value>,
}

impl Output {
    /// In `form`, or in that for people where none is asked for.
    pub(crate) fn new(form: Option<Form>, stdout_terminal: bool, name: &'static str) -> Self {
        Self {
            form: form.unwrap_or(Form::Md),
            drawn: form.is_none() && stdout_terminal,
            name,
            rows: Vec::new(),
        }
    }

    /// Takes a row, whose fields are the same as those of the rows before.
    pub(crate) fn row(&mut self, row: &impl Serialize) -> Result<()> {
        // Rows have string keys and finite numbers only, so this cannot fail.
        let row = serde_json::to_value(row).unwrap_or_default();
        let fields = row.as_object().cloned().unwrap_or_default();
        let first = self.rows.is_empty();
        match self.form {
            Form::Md | Form::Json => {}
            Form::Jsonl => printer::data(&format!("{row}\n"))?,
            Form::Csv => {
                if first {
                    printer::data(&line(fields.keys().map(|key| quoted(key, '"')), ","))?;
                }
                let cells = fields.values().map(|value| quoted(&text(value), '"'));
                printer::data(&line(cells, ","))?;
            }
            Form::Sql => {
                if first {
                    let columns = fields.keys().cloned().collect::<Vec<_>>().join(", ");
                    let name = self.name;
                    printer::data(&format!("CREATE TABLE IF NOT EXISTS {name} ({columns});\n"))?;
                }
                printer::data(&insert(self.name, &fields))?;
            }
        }
        printer::flush()?;
        self.rows.push(row);
        Ok(())
    }

    /// Writes what is written at the end; `table` is how people are shown the rows.
    pub(crate) fn end(self, table: &Table) -> Result<()> {
        match self.form {
            Form::Md => printer::data(&table.shown(self.drawn))?,
            Form::Json => printer::data(&format!("{:#}\n", Value::Array(self.rows)))?,
            Form::Csv | Form::Jsonl | Form::Sql => {}
        }
        printer::flush()
    }
}

fn insert(name: &str, fields: &Map<String, Value>) -> String {
    let columns = fields.keys().cloned().collect::<Vec<_>>().join(", ");
    let values = fields.values().map(|value| match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(truth) => u8::from(*truth).to_string(),
        Value::Number(number) => number.to_string(),
        other => quoted(&text(other), '\''),
    });
    let values = values.collect::<Vec<_>>().join(", ");
    format!("INSERT INTO {name} ({columns}) VALUES ({values});\n")
}

/// A value as the text of a cell; lists are JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// In quotes, quotes inside doubled: the rule of CSV and of SQL.
fn quoted(text: &str, quote: char) -> String {
    let doubled = text.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{doubled}{quote}")
}

fn line(cells: impl Iterator<Item = String>, separator: &str) -> String {
    cells.collect::<Vec<_>>().join(separator) + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{insert, quoted, text};

    #[test]
    fn values_keep_their_kind_in_sql_and_their_text_in_csv() {
        let row = json!({"a": null, "b": 1.5, "c": "it's", "d": [1, 2], "e": true});
        assert_eq!(
            insert("t", row.as_object().unwrap()),
            "INSERT INTO t (a, b, c, d, e) VALUES (NULL, 1.5, 'it''s', '[1,2]', 1);\n"
        );
        let cell = |value| quoted(&text(&value), '"');
        assert_eq!(cell(json!("say \"a\"")), "\"say \"\"a\"\"\"");
        assert_eq!(cell(json!(null)), "\"\"");
    }
}
