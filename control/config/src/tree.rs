//! YAML as a tree that knows the line of every node, for mistakes that only show when objects are compared.

use core::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A node with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Line in the document, from 1.
    line: u64,
    column: u64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Scalar(Option<String>),
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => text.as_deref(),
            _ => None,
        }
    }

    /// Whether this is a mapping.
    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.value, Value::Mapping(_))
    }

    /// The value of a key of a mapping.
    pub(crate) fn child(&self, key: &str) -> Option<&Node> {
        Some(&self.entry(key)?.1)
    }

    /// The line of a path such as `spec.peers[2].name`, or of its nearest ancestor that is there.
    pub(crate) fn line(&self, path: &str) -> u64 {
        let mut line = self.line;
        let mut node = self;
        for step in steps(path) {
            let next = match step {
                Step::Key(key) => node.entry(key).map(|(key, value)| (key.line, value)),
                Step::Index(index) => match &node.value {
                    Value::Sequence(items) => items.get(index).map(|item| (item.line, item)),
                    _ => None,
                },
            };
            match next {
                Some((at, value)) => (line, node) = (at, value),
                None => break,
            }
        }
        line
    }

    /// The path of the innermost node that starts here: a key counts as its value.
    pub(crate) fn path(&self, line: u64, column: u64) -> Option<String> {
        let mut found = None;
        self.search(line, column, &mut String::new(), &mut found);
        found
    }

    fn search(&self, line: u64, column: u64, path: &mut String, found: &mut Option<String>) {
        if (self.line, self.column) == (line, column) && !path.is_empty() {
            *found = Some(path.clone());
        }
        let length = path.len();
        match &self.value {
            Value::Scalar(_) => {}
            Value::Sequence(items) => {
                for (n, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{n}]"));
                    item.search(line, column, path, found);
                    path.truncate(length);
                }
            }
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key.text().unwrap_or("?"));
                    if (key.line, key.column) == (line, column) {
                        *found = Some(path.clone());
                    }
                    value.search(line, column, path, found);
                    path.truncate(length);
                }
            }
        }
    }

    fn entry(&self, wanted: &str) -> Option<&(Node, Node)> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(key, _)| key.text() == Some(wanted)),
            _ => None,
        }
    }
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split('.').flat_map(|part| {
        let (key, indices) = part.split_once('[').unwrap_or((part, ""));
        let indices = indices
            .split('[')
            .filter_map(|index| Some(Step::Index(index.strip_suffix(']')?.parse().ok()?)));
        (!key.is_empty())
            .then_some(Step::Key(key))
            .into_iter()
            .chain(indices)
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Scalar(None))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Scalar(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(Some(value.to_string())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(Some(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(Some(value.to_string())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Scalar(Some(value.to_string())))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Scalar(Some(value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(Some(value.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(Some(value.to_owned())))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::Scalar(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key()? {
            entries.push((key, access.next_value()?));
        }
        Ok(Value::Mapping(entries))
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        access.variant::<IgnoredAny>()?;
        Ok(Value::Scalar(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "spec:\n  peers:\n    - name: a\n      asn: 1\n    - {name: b,\n       asn: 2}\n";

    #[test]
    fn every_path_has_its_line_and_a_missing_one_that_of_its_ancestor() {
        let tree: Node = serde_saphyr::from_str(TEXT).unwrap();
        for (path, line) in [
            ("spec", 1),
            ("spec.peers", 2),
            ("spec.peers[0].asn", 4),
            ("spec.peers[1]", 5),
            ("spec.peers[1].asn", 6),
            ("spec.peers[1].holdTime", 5),
            ("spec.peers[7]", 2),
            ("nothing", 1),
        ] {
            assert_eq!(tree.line(path), line, "{path}");
        }
    }

    #[test]
    fn a_place_has_its_path() {
        let tree: Node = serde_saphyr::from_str(TEXT).unwrap();
        assert_eq!(tree.path(4, 7).as_deref(), Some("spec.peers[0].asn"));
        assert_eq!(tree.path(6, 13).as_deref(), Some("spec.peers[1].asn"));
        assert_eq!(tree.path(9, 9), None);
    }
}
