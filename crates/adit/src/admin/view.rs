//! Replies as people read them. Pure.

use std::fmt::Write as _;

use serde_json::Value;

/// How a reply is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum View {
    /// A list under a key, a line each.
    List {
        key: &'static str,
        columns: &'static [Column],
    },
    /// A list somewhere inside, which has no pages.
    Inner {
        at: &'static str,
        columns: &'static [Column],
    },
    /// One thing, a line for each of its fields.
    Item,
    /// There is nothing to show.
    Nothing,
}

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Column {
    title: &'static str,
    /// Where in an entry its value is.
    at: &'static str,
    /// What it is a part of, if it is.
    of: Option<&'static str>,
}

/// A column of values.
pub(super) const fn at(title: &'static str, at: &'static str) -> Column {
    Column { title, at, of: None }
}

/// A column of values out of others: `3/20`.
pub(super) const fn of(title: &'static str, at: &'static str, of: &'static str) -> Column {
    Column {
        title,
        at,
        of: Some(of),
    }
}

impl Column {
    fn cell(&self, entry: &Value) -> String {
        let part = |at| shown(entry.pointer(at).unwrap_or(&Value::Null));
        match self.of {
            None => part(self.at),
            Some(of) => format!("{}/{}", part(self.at), part(of)),
        }
    }
}

impl View {
    /// A reply as a text that ends in a line break, or nothing.
    pub(super) fn text(&self, reply: &Value) -> String {
        let empty = Vec::new();
        let entries = |list: Option<&'_ Value>| list.and_then(Value::as_array).unwrap_or(&empty).clone();
        match self {
            View::List { key, columns } => table(columns, &entries(reply.get(key))),
            View::Inner { at, columns } => table(columns, &entries(reply.pointer(at))),
            View::Item => item(reply),
            View::Nothing => String::new(),
        }
    }
}

/// A value as one cell: what is not there is a dash.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Bool(truth) => (if *truth { "yes" } else { "no" }).to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(_) => plain(&value.to_string()),
    }
}

/// A text that a tenant may have chosen, without what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn table(columns: &[Column], entries: &[Value]) -> String {
    let mut rows = vec![columns.iter().map(|c| c.title.to_owned()).collect::<Vec<_>>()];
    rows.extend(
        entries
            .iter()
            .map(|entry| columns.iter().map(|c| c.cell(entry)).collect()),
    );
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn item(reply: &Value) -> String {
    let fields = reply.as_object().into_iter().flatten();
    let rows: Vec<_> = fields.map(|(name, value)| (name, shown(value))).collect();
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<width$}  {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_entry() {
        const COLUMNS: &[Column] = &[
            at("ID", "/id"),
            at("STATE", "/state"),
            of("USED", "/a/used", "/a/quota"),
        ];
        let view = View::List {
            key: "things",
            columns: COLUMNS,
        };
        let reply = json!({"total_count": 3, "things": [
            {"id": "one", "state": ["active"], "a": {"used": 1, "quota": 20}},
            {"id": "ä\u{1b}[31m", "state": ["x", "y"], "a": {"used": 12, "quota": 3}},
            {"id": "", "state": true},
        ]});
        let expected = "\
ID      STATE   USED
one     active  1/20
ä\u{fffd}[31m  x, y    12/3
-       yes     -/-
";
        assert_eq!(view.text(&reply), expected);
        assert_eq!(view.text(&json!({"things": []})), "ID  STATE  USED\n");
        assert_eq!(view.text(&Value::Null), "ID  STATE  USED\n");
    }

    #[test]
    fn an_item_has_a_line_for_each_field() {
        let reply = json!({"id": "one", "ports": [{"client_port": 1}], "ip": null});
        assert_eq!(
            View::Item.text(&reply),
            "id     one\nip     -\nports  {\"client_port\":1}\n"
        );
        assert_eq!(View::Nothing.text(&reply), "");
    }
}
