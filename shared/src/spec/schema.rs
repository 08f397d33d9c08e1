//! The JSON Schema of cluster.yaml, made of the types, and everything in a document that departs from it.
//!
//! Only keys and kinds of values: whether the values make sense together is `validate`'s.

use serde_json::Value as Json;

use super::ClusterFile;
use super::parse::Problem;
use super::tree::{Place, Tree, Value};

/// Similarity (Jaro-Winkler, 0 to 1) from which a known key is offered for an unknown one.
const SIMILAR: f64 = 0.75;

/// The file's JSON Schema.
pub fn schema() -> Json {
    schemars::schema_for!(ClusterFile).to_value()
}

/// Every unknown key, missing key and value of a wrong kind.
pub(super) fn problems(tree: &Tree) -> Vec<Problem> {
    let root = schema();
    let mut check = Check { root: &root, found: Vec::new() };
    check.value(&root, tree, "");
    check.found
}

struct Check<'a> {
    root: &'a Json,
    found: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn add(&mut self, at: Place, message: String) {
        self.found.push(Problem { line: at.line, column: at.column, message });
    }

    fn value(&mut self, schema: &'a Json, tree: &Tree, path: &str) {
        if matches!(tree.value, Value::Scalar(Json::Null)) && nullable(schema) {
            return;
        }
        let schema = resolve(self.root, schema);
        match &tree.value {
            Value::Section(_) if schema["properties"].is_object() => self.section(schema, tree, path),
            Value::List(items) if schema["items"].is_object() => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&schema["items"], item, &join(path, &index.to_string()));
                }
            }
            value if accepts(schema, value) => {}
            value => {
                let message = format!("{} is {value}; expected {}", name(path), expected(schema));
                self.add(tree.place, message);
            }
        }
    }

    fn section(&mut self, schema: &'a Json, tree: &Tree, path: &str) {
        let (Value::Section(entries), Some(known)) = (&tree.value, schema["properties"].as_object()) else {
            return;
        };
        for entry in entries {
            match known.get(&entry.key) {
                Some(inner) => self.value(inner, &entry.value, &join(path, &entry.key)),
                None => {
                    let known: Vec<_> = known.keys().map(String::as_str).collect();
                    let advice = self.advice(&entry.key, &known);
                    let message = format!("unknown key \"{}\" {}; {advice}", entry.key, whereabouts(path));
                    self.add(entry.place, message);
                }
            }
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|entry| entry.key == key) {
                self.add(tree.place, format!("missing key \"{key}\" {}", whereabouts(path)));
            }
        }
    }

    /// What an operator may have meant by `key` where only `known` are known.
    fn advice(&self, key: &str, known: &[&str]) -> String {
        if let Some(home) = home(self.root, self.root, key, "") {
            return format!("it belongs {}", whereabouts(&home));
        }
        let similar = known.iter().map(|known| (strsim::jaro_winkler(key, known), known));
        let nearest =
            similar.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity >= SIMILAR);
        match nearest {
            Some((_, nearest)) => format!("did you mean \"{nearest}\"?"),
            None => format!("known there: {}", known.join(", ")),
        }
    }
}

/// The section that knows `key`, whichever it is.
fn home(root: &Json, schema: &Json, key: &str, path: &str) -> Option<String> {
    let schema = resolve(root, schema);
    if let Some(known) = schema["properties"].as_object() {
        if known.contains_key(key) {
            return Some(path.to_owned());
        }
        return known.iter().find_map(|(name, inner)| home(root, inner, key, &join(path, name)));
    }
    schema.get("items").and_then(|items| home(root, items, key, &join(path, "0")))
}

/// Follows references and steps over "or null".
fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    if let Some(target) = schema["$ref"].as_str().and_then(|name| root.pointer(name.trim_start_matches('#')))
    {
        return resolve(root, target);
    }
    let inner = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
    inner.map_or(schema, |inner| resolve(root, inner))
}

fn nullable(schema: &Json) -> bool {
    let listed =
        |list: &Json, null: fn(&Json) -> bool| list.as_array().is_some_and(|list| list.iter().any(null));
    listed(&schema["type"], |kind| kind == "null") || listed(&schema["anyOf"], |one| one["type"] == "null")
}

/// The kind of value wanted, `null` aside.
fn kind(schema: &Json) -> &str {
    let kinds = &schema["type"];
    let first = || kinds.as_array()?.iter().filter_map(Json::as_str).find(|kind| *kind != "null");
    kinds.as_str().or_else(first).unwrap_or_default()
}

/// The words allowed, where only some are.
fn choices(schema: &Json) -> Option<Vec<&str>> {
    let words = schema["enum"].as_array().map(|words| words.iter().filter_map(Json::as_str).collect());
    let described =
        || Some(schema["oneOf"].as_array()?.iter().filter_map(|one| one["const"].as_str()).collect());
    words.or_else(described)
}

fn accepts(schema: &Json, value: &Value) -> bool {
    let Value::Scalar(scalar) = value else { return false };
    if let Some(words) = choices(schema) {
        return scalar.as_str().is_some_and(|word| words.contains(&word));
    }
    match kind(schema) {
        "string" => !scalar.is_null(),
        "boolean" => scalar.is_boolean(),
        // Templates like to quote; the reader takes quoted numbers too.
        "integer" => scalar
            .as_u64()
            .or_else(|| scalar.as_str()?.parse().ok())
            .is_some_and(|number| number <= schema["maximum"].as_u64().unwrap_or(u64::MAX)),
        _ => false,
    }
}

fn expected(schema: &Json) -> String {
    if let Some(words) = choices(schema) {
        return words.join(" or ");
    }
    match (kind(schema), schema["maximum"].as_u64()) {
        ("string", _) => "text".to_owned(),
        ("boolean", _) => "true or false".to_owned(),
        ("integer", Some(most)) => format!("a whole number up to {most}"),
        ("integer", None) => "a whole number".to_owned(),
        ("array", _) => "a list".to_owned(),
        _ => match schema["required"].as_array() {
            Some(keys) => {
                let keys: Vec<_> = keys.iter().filter_map(Json::as_str).collect();
                format!("a section with {}", keys.join(", "))
            }
            None => "a section; leave the key out for the defaults".to_owned(),
        },
    }
}

fn join(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

/// What to call the value at `path`.
fn name(path: &str) -> &str {
    let last = path.rsplit('.').next().unwrap_or(path);
    match last {
        "" => "the file",
        _ if last.bytes().all(|byte| byte.is_ascii_digit()) => "a node",
        _ => last,
    }
}

/// How to speak of the section at `path`.
fn whereabouts(path: &str) -> String {
    match path.strip_prefix("cluster.nodes.").map(|rest| rest.split_once('.')) {
        Some(None) => "in a node".to_owned(),
        Some(Some((_, inner))) => format!("in {inner} of a node"),
        None if path.is_empty() => "at the top of the file".to_owned(),
        None => format!("in {path}"),
    }
}
