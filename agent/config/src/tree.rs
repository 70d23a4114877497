//! YAML text as a tree whose every value knows its line: the form in which all problems can be found at once.
//! (Reading into structs directly would end at the first.)

use crate::limits;
use crate::problem::Problem;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DefaultMessageFormatter, DuplicateKeyPolicy, Location, MergeKeyPolicy, MessageFormatter, Spanned};
use std::fmt;

/// Line and column of a value, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub line: u32,
    pub column: u32,
}

impl At {
    fn new(location: Location) -> Option<Self> {
        let line = u32::try_from(location.line()).ok()?;
        let column = u32::try_from(location.column()).ok()?;
        (line > 0).then_some(Self { line, column })
    }
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub at: At,
    pub value: Value,
}

/// What YAML's core schema makes of a value.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Bool(bool),
    /// A whole number from 0.
    Number(u64),
    /// A number that no field takes: negative, or with a fraction. As text.
    OtherNumber(String),
    Text(String),
    List(Vec<Node>),
    /// Entries in the order of the text; the same name may stand there twice.
    Map(Vec<(Key, Node)>),
}

/// A field's name and its place.
#[derive(Debug)]
pub(crate) struct Key {
    pub at: At,
    pub name: String,
}

/// Reads `text`, bounded by the limits; what isn't YAML is one problem.
pub(crate) fn parse(text: &str) -> Result<Node, Problem> {
    let whole = |message: String| Problem { line: None, column: None, field: String::new(), message };
    if text.len() > limits::TEXT_BYTES {
        return Err(whole(format!(
            "the configuration has {} bytes, at most {} are read: is it the right file?",
            text.len(),
            limits::TEXT_BYTES
        )));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(limits::TEXT_BYTES),
            max_depth: limits::DEPTH,
            flow_nesting_limit: limits::DEPTH,
            max_nodes: limits::NODES,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::ALIASED_NODES,
            max_replay_stack_depth: limits::DEPTH,
        },
        // Duplicates and merges are told by us, with their field.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Bare>>(text, options).map(node).map_err(|error| {
        let at = error.location().and_then(At::new);
        let error = error.without_snippet();
        let message = if let serde_saphyr::Error::Budget { .. } = error {
            "this is larger, deeper or in more parts than a configuration can be: write one document, with less in it"
                .to_owned()
        } else {
            let why = DefaultMessageFormatter.format_message(error);
            let why = why.replace(char::is_control, " ");
            format!("this can't be read as YAML: {why}; correct the text there, or just before")
        };
        Problem { line: at.map(|at| at.line), column: at.map(|at| at.column), field: String::new(), message }
    })
}

/// A value whose place is told by the `Spanned` around it.
enum Bare {
    Null,
    Bool(bool),
    Number(u64),
    OtherNumber(String),
    Text(String),
    List(Vec<Spanned<Bare>>),
    Map(Vec<(Spanned<String>, Spanned<Bare>)>),
}

fn node(spanned: Spanned<Bare>) -> Node {
    let value = match spanned.value {
        Bare::Null => Value::Null,
        Bare::Bool(value) => Value::Bool(value),
        Bare::Number(value) => Value::Number(value),
        Bare::OtherNumber(value) => Value::OtherNumber(value),
        Bare::Text(value) => Value::Text(value),
        Bare::List(items) => Value::List(items.into_iter().map(node).collect()),
        Bare::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(name, value)| (Key { at: place(name.referenced), name: name.value }, node(value)))
                .collect(),
        ),
    };
    Node { at: place(spanned.referenced), value }
}

fn place(location: Location) -> At {
    // Unknown places don't occur in text that was read as one document; the first line is where to look then.
    At::new(location).unwrap_or(At { line: 1, column: 1 })
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Bare;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Bare, D::Error> {
        Bare::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Bare, E> {
        Ok(Bare::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Bare, E> {
        Ok(Bare::Number(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Bare, E> {
        Ok(u64::try_from(value).map_or_else(|_| Bare::OtherNumber(value.to_string()), Bare::Number))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Bare, E> {
        Ok(Bare::OtherNumber(value.to_string()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Bare, E> {
        Ok(Bare::OtherNumber(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Bare, E> {
        Ok(Bare::OtherNumber(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Bare, E> {
        Ok(Bare::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Bare, E> {
        Ok(Bare::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Bare, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Bare::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Bare, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Bare::Map(map))
    }
}
