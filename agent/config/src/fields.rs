//! Reading a tree field by field: each value knows its dotted path and its place, each problem is noted, none ends the
//! reading.

use crate::problem::Problem;
use crate::tree::{At, Key, Node, Value};

/// Collects problems while the rest is still being read.
#[derive(Default)]
pub(crate) struct Report {
    pub problems: Vec<Problem>,
}

impl Report {
    /// Notes a problem with a field's value.
    pub fn at(&mut self, field: &Field<'_>, message: String) {
        self.place(field.at, field.path.clone(), message);
    }

    /// Notes a problem with a place.
    pub fn place(&mut self, at: At, field: String, message: String) {
        self.problems.push(Problem { line: Some(at.line), column: Some(at.column), field, message });
    }
}

/// One value with its path and place.
pub(crate) struct Field<'a> {
    pub path: String,
    pub at: At,
    value: &'a Value,
}

impl<'a> Field<'a> {
    /// The whole text.
    pub fn root(node: &'a Node) -> Self {
        Self { path: String::new(), at: node.at, value: &node.value }
    }

    /// The value as it was written.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// The value in words, for messages: "the list", "\"text\"".
    pub fn describe(&self) -> String {
        match self.value {
            Value::Null => "nothing".into(),
            Value::Bool(value) => format!("{value}"),
            Value::Number(value) => format!("the number {value}"),
            Value::OtherNumber(value) => format!("the number {value}"),
            Value::Text(text) => format!("\"{}\"", shorten(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a group of fields".into(),
        }
    }

    /// A text, made into a `T`. A bare number is no text: what was meant by `1.10` is not known any more.
    pub fn text<T>(&self, report: &mut Report, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match self.value {
            Value::Text(text) => parse(text),
            Value::Bool(_) | Value::Number(_) | Value::OtherNumber(_) => {
                Err(format!("{} is no text here: put quotes around it", self.describe()))
            }
            Value::Null => Err("has no value: write one, or remove the line".into()),
            Value::List(_) | Value::Map(_) => {
                Err(format!("is {} where one value is wanted: write a text", self.describe()))
            }
        };
        parsed.map_err(|message| report.at(self, message)).ok()
    }

    /// A quantity, made into a `T`: a text, or a plain number, which is handed on as text.
    pub fn quantity<T>(&self, report: &mut Report, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match self.value {
            Value::Number(number) => parse(&number.to_string()).map_err(|message| report.at(self, message)).ok(),
            Value::OtherNumber(number) => parse(number).map_err(|message| report.at(self, message)).ok(),
            _ => self.text(report, parse),
        }
    }

    /// A whole number between two bounds, both included.
    pub fn number(&self, report: &mut Report, (least, most): (u64, u64)) -> Option<u64> {
        match self.value {
            Value::Number(number) if (least..=most).contains(number) => Some(*number),
            _ => {
                report
                    .at(self, format!("{} doesn't fit: write a whole number from {least} to {most}", self.describe()));
                None
            }
        }
    }

    /// Yes or no.
    pub fn flag(&self, report: &mut Report) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(*value),
            _ => {
                report.at(self, format!("{} doesn't fit: write true or false", self.describe()));
                None
            }
        }
    }

    /// The items of a list of at most `most`.
    pub fn list(&self, report: &mut Report, most: usize) -> Option<Vec<Field<'a>>> {
        let Value::List(items) = self.value else {
            report.at(
                self,
                format!("is {} where a list is wanted: write [ … ], or items that begin with \"- \"", self.describe()),
            );
            return None;
        };
        if items.len() > most {
            report.at(self, format!("the list has {} items, at most {most} are allowed: remove some", items.len()));
            return None;
        }
        let item = |(index, node): (usize, &'a Node)| Field {
            path: format!("{}[{index}]", self.path),
            at: node.at,
            value: &node.value,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The fields of a group.
    pub fn fields(&self, report: &mut Report) -> Option<Fields<'a>> {
        let Value::Map(entries) = self.value else {
            let example = "write \"field: value\" lines below it, or { field: value }";
            let message = match self.value {
                Value::Null if self.path.is_empty() => {
                    "the configuration is empty: write at least node, stateDir, identity and volumes".into()
                }
                _ => format!("is {} where a group of fields is wanted: {example}", self.describe()),
            };
            report.at(self, message);
            return None;
        };
        let mut fields = Fields { path: self.path.clone(), at: self.at, entries: Vec::new(), known: Vec::new() };
        for (key, node) in entries {
            if let Some((first, _)) = fields.entries.iter().find(|(seen, _)| seen.name == key.name) {
                report.place(
                    key.at,
                    fields.path_of(&shorten(&key.name)),
                    format!("stands twice, first in line {}: remove one of them", first.at.line),
                );
                continue;
            }
            fields.entries.push((key, node));
        }
        Some(fields)
    }
}

/// The fields of one group; those that nobody took are unknown.
pub(crate) struct Fields<'a> {
    path: String,
    at: At,
    entries: Vec<(&'a Key, &'a Node)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes the field `name`, if it was written.
    pub fn take(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let index = self.entries.iter().position(|(key, _)| key.name == name)?;
        let (_, node) = self.entries.remove(index);
        Some(Field { path: self.path_of(name), at: node.at, value: &node.value })
    }

    /// Takes the field `name`, which must have been written; `example` says how.
    pub fn require(&mut self, name: &'static str, example: &str, report: &mut Report) -> Option<Field<'a>> {
        let field = self.take(name);
        if field.is_none() {
            report.place(self.at, self.path_of(name), format!("is missing: write it, like \"{example}\""));
        }
        field
    }

    /// Notes every field that was not taken as unknown, with the known ones, the nearest first.
    pub fn finish(self, report: &mut Report) {
        for (key, _) in &self.entries {
            let mut known = self.known.clone();
            known.sort_by_key(|known| {
                (strsim::damerau_levenshtein(&key.name.to_lowercase(), &known.to_lowercase()), *known)
            });
            let name = shorten(&key.name);
            let message = if key.name == "<<" {
                "merging another group is not supported: write the fields out".to_owned()
            } else {
                format!("is no field that is known here: correct or remove it; known are {}", known.join(", "))
            };
            report.place(key.at, self.path_of(&name), message);
        }
    }
}

/// Text of others for messages: control characters escaped, at most 80 characters.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}
