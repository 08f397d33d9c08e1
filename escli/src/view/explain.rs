//! Keys of cluster.yaml as text.

use shared::spec::Key;

use super::paint::Paint;

/// Returns two lines for each key: what it takes, and what it means.
pub fn text(keys: &[Key], paint: Paint) -> String {
    let line = |key: &Key| {
        let default = key.default.as_ref().map_or_else(String::new, |default| match default.as_str() {
            Some(text) => format!(", default {text}"),
            None => format!(", default {default}"),
        });
        format!("{}: {}{default}\n    {}\n", key.path, paint.dim(&key.takes), key.about)
    };
    keys.iter().map(line).collect()
}
