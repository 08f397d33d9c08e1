//! The JSON Schema of cluster.yaml, generated from the types, and the check of a document against it.
//!
//! It only covers names of keys and types of values; `validate` checks whether the values are valid together.

use serde_json::Value as Json;

use super::parse::Problem;
use super::tree::{Entry, Place, Tree, Value};
use super::{ClusterFile, HostKeys};

/// Least similarity (Jaro-Winkler, 0 to 1) at which a known key is suggested for an unknown one.
const MIN_SIMILARITY: f64 = 0.75;

/// Returns the JSON Schema of cluster.yaml.
pub fn schema() -> Json {
    schemars::schema_for!(ClusterFile).to_value()
}

/// Returns a problem for every unknown key, missing key and value of a wrong type, and the tree without them. A
/// misspelt key whose meaning is certain stands under its right name in that tree.
pub(super) fn check(tree: &Tree) -> (Tree, Vec<Problem>) {
    let root = schema();
    let mut check = Check { root: &root, found: Vec::new() };
    let sound = check.value(&root, tree, "");
    (sound, check.found)
}

struct Check<'a> {
    root: &'a Json,
    found: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn add(&mut self, at: Place, message: String) {
        self.found.push(Problem { line: at.line, column: at.column, message });
    }

    fn value(&mut self, schema: &'a Json, tree: &Tree, path: &str) -> Tree {
        if matches!(tree.value, Value::Scalar(Json::Null)) && nullable(schema) {
            return tree.clone();
        }
        let schema = resolve(self.root, schema);
        let value = match &tree.value {
            Value::Section(entries) if schema["properties"].is_object() => {
                self.section(schema, entries, tree.place, path)
            }
            Value::List(items) if schema["items"].is_object() => {
                let item = |(index, item): (usize, &Tree)| {
                    self.value(&schema["items"], item, &join(path, &index.to_string()))
                };
                Value::List(items.iter().enumerate().map(item).collect())
            }
            value => match scalar(schema, value, path) {
                Ok(scalar) => Value::Scalar(scalar),
                Err(fault) => {
                    self.add(tree.place, format!("{} is {fault}", name(path)));
                    Value::Unknown
                }
            },
        };
        Tree { place: tree.place, value }
    }

    fn section(&mut self, schema: &'a Json, entries: &[Entry], place: Place, path: &str) -> Value {
        let none = serde_json::Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        let mut sound: Vec<Entry> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut key = entry.key.as_str();
            if entries[..index].iter().any(|before| before.key == key) {
                self.add(entry.place, format!("key \"{key}\" appears twice in one section"));
                continue;
            }
            if !known.contains_key(key) {
                let meant = self.meant(key, &known.keys().map(String::as_str).collect::<Vec<_>>());
                let message = format!("unknown key \"{key}\" {}; {}", whereabouts(path), meant.1);
                self.add(entry.place, message);
                let Some(nearest) =
                    meant.0.filter(|nearest| entries.iter().all(|entry| entry.key != *nearest))
                else {
                    continue;
                };
                key = nearest;
            }
            if sound.iter().any(|entry| entry.key == key) {
                continue;
            }
            let value = self.value(&schema["properties"][key], &entry.value, &join(path, key));
            sound.push(Entry { key: key.to_owned(), place: entry.place, value });
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !sound.iter().any(|entry| entry.key == key) {
                self.add(place, format!("missing key \"{key}\" {}", whereabouts(path)));
                let value = Tree { place, value: Value::Unknown };
                sound.push(Entry { key: key.to_owned(), place, value });
            }
        }
        Value::Section(sound)
    }

    /// Returns which of the `known` keys `key` is probably a misspelling of, if any, and a message for the operator.
    fn meant<'k>(&self, key: &str, known: &[&'k str]) -> (Option<&'k str>, String) {
        if let Some(home) = home(self.root, self.root, key, "") {
            return (None, format!("it belongs {}", whereabouts(&home)));
        }
        let similar = known.iter().map(|known| (strsim::jaro_winkler(key, known), *known));
        let nearest = similar
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY);
        match nearest {
            Some((_, nearest)) => (Some(nearest), format!("did you mean \"{nearest}\"?")),
            None => (None, format!("known keys: {}", known.join(", "))),
        }
    }
}

/// Returns the path of the section that has the key `key`, if some section has.
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

/// Follows references in the schema, and takes the type out of "this type or null".
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

/// Returns the name of the expected JSON type; `null` is ignored.
fn kind(schema: &Json) -> &str {
    let kinds = &schema["type"];
    let first = || kinds.as_array()?.iter().filter_map(Json::as_str).find(|kind| *kind != "null");
    kinds.as_str().or_else(first).unwrap_or_default()
}

/// Returns the words that the schema allows; `None` if it does not list them.
fn choices(schema: &Json) -> Option<Vec<&str>> {
    let words = schema["enum"].as_array().map(|words| words.iter().filter_map(Json::as_str).collect());
    let described =
        || Some(schema["oneOf"].as_array()?.iter().filter_map(|one| one["const"].as_str()).collect());
    words.or_else(described)
}

/// Converts the value to the type in the schema. The error says what was found and what was expected.
fn scalar(schema: &Json, value: &Value, path: &str) -> Result<Json, String> {
    let wrong = || format!("{value}; expected {}", expected(schema));
    let scalar = match value {
        Value::Scalar(scalar) => scalar,
        // An IPv6 address in brackets, `[fd00::1]`, is a list with one item in YAML.
        Value::List(items) if kind(schema) == "string" => match items.as_slice() {
            [Tree { value: only @ Value::Scalar(_), .. }] => {
                return Err(format!("a list, because of its brackets; expected {only} without them"));
            }
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    if let Some(words) = choices(schema) {
        let known = scalar.as_str().is_some_and(|word| words.contains(&word));
        return if known { Ok(scalar.clone()) } else { Err(wrong()) };
    }
    match kind(schema) {
        "string" if !scalar.is_null() => text(scalar, path),
        "boolean" if scalar.is_boolean() => Ok(scalar.clone()),
        "integer" => {
            let number =
                number(scalar)?.filter(|number| *number <= schema["maximum"].as_u64().unwrap_or(u64::MAX));
            number.map(Json::from).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// Reads a number, quoted or not, since templates often quote them. Refuses leading zeros: some readers take such a
/// number as octal, others as decimal.
fn number(scalar: &Json) -> Result<Option<u64>, String> {
    let Some(text) = scalar.as_str() else { return Ok(scalar.as_u64()) };
    let digits = text.trim_start_matches('0');
    if digits.len() < text.len() && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "{text}, which some parsers read as an octal number; expected it without the zero: {digits}"
        ));
    }
    Ok(text.parse().ok())
}

fn text(scalar: &Json, path: &str) -> Result<Json, String> {
    let text = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
    // This type has its own syntax, which the typed reader would only report as its first error.
    if path.ends_with("host_keys")
        && let Err(fault) = HostKeys::try_from(text.clone())
    {
        return Err(fault);
    }
    Ok(text.into())
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

/// Returns how messages name the value at `path`.
fn name(path: &str) -> &str {
    let last = path.rsplit('.').next().unwrap_or(path);
    match last {
        "" => "the file",
        _ if last.bytes().all(|byte| byte.is_ascii_digit()) => "a node",
        _ => last,
    }
}

/// Returns how messages name the section at `path`.
fn whereabouts(path: &str) -> String {
    match path.strip_prefix("cluster.nodes.").map(|rest| rest.split_once('.')) {
        Some(None) => "in a node".to_owned(),
        Some(Some((_, inner))) => format!("in {inner} of a node"),
        None if path.is_empty() => "at the top of the file".to_owned(),
        None => format!("in {path}"),
    }
}
