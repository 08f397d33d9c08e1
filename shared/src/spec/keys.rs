//! The list of all keys of a cluster.yaml, taken from its JSON Schema.

use serde::Serialize;
use serde_json::Value;

use super::schema;

/// One key of a cluster.yaml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Path from the top of the file, with dots, e.g. `cluster.raft.heartbeat_interval`. An item of a list is
    /// `cluster.nodes[]`.
    pub path: String,
    /// The type of its value, e.g. `integer`, or the words it allows, e.g. `sudo | none`.
    pub takes: String,
    /// The value that counts when the key is absent; `None` if the key is required, or has no default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What the key is for, in one or two sentences.
    pub about: String,
}

/// Returns all keys in alphabetical order; each section comes before its own keys.
pub fn keys() -> Vec<Key> {
    let root = schema();
    let mut found = Vec::new();
    below(&root, &root, "", &mut found);
    found
}

fn below(root: &Value, shape: &Value, path: &str, found: &mut Vec<Key>) {
    for (name, property) in shape["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let shape = resolved(root, property);
        let about = property["description"].as_str().or_else(|| shape["description"].as_str());
        // A section with keys of its own shows their defaults at those keys.
        let default = property.get("default").filter(|default| !default.is_object()).cloned();
        found.push(Key {
            path: path.clone(),
            takes: takes(shape),
            default,
            about: about.unwrap_or_default().to_owned(),
        });
        below(root, shape, &path, found);
        below(root, resolved(root, &shape["items"]), &format!("{path}[]"), found);
    }
}

/// Follows a reference in the schema to what it names. Of an optional value, returns the type that it has when present.
fn resolved<'a>(root: &'a Value, shape: &'a Value) -> &'a Value {
    let named =
        |shape: &'a Value| shape["$ref"].as_str().and_then(|name| root.pointer(name.trim_start_matches('#')));
    let any = shape["anyOf"].as_array().and_then(|shapes| shapes.iter().find_map(named));
    named(shape).or(any).unwrap_or(shape)
}

fn takes(shape: &Value) -> String {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let choices =
        shape["oneOf"].as_array().map(|choices| choices.iter().filter_map(|choice| word(&choice["const"])));
    if let Some(choices) = choices.map(Iterator::collect::<Vec<_>>).filter(|choices| !choices.is_empty()) {
        return choices.join(" | ");
    }
    if let Some(choices) = shape["enum"].as_array() {
        return choices.iter().filter_map(word).collect::<Vec<_>>().join(" | ");
    }
    let kinds = match &shape["type"] {
        Value::Array(kinds) => kinds.iter().find_map(|kind| word(kind).filter(|kind| kind != "null")),
        kind => word(kind),
    };
    match kinds.as_deref() {
        Some("object") => "keys of its own".to_owned(),
        Some("array") => "a list".to_owned(),
        Some(kind) => kind.to_owned(),
        None => "a value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_there_with_what_it_takes_and_its_default() {
        let keys = keys();
        let of = |path: &str| keys.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(of("cluster.raft.heartbeat_interval").default, Some(50.into()));
        assert_eq!(of("cluster.nodes[].client_port").takes, "integer");
        assert_eq!(of("deploy.privilege").default, Some("sudo".into()));
        assert!(of("deploy.privilege").takes.contains("none"), "{:?}", of("deploy.privilege"));
        assert_eq!(of("deploy.ssh.jump").takes, "string");
        assert!(keys.iter().all(|key| !key.about.is_empty()), "a key is not described");
    }
}
