//! PURE: tables of text: two spaces between columns, nothing around them.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::paint::Paint;

/// What is shown where nothing is known.
pub const NOTHING: &str = "-";

/// Returns a table without a final newline.
pub fn text(header: Vec<&str>, rows: impl IntoIterator<Item = Vec<Cell>>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if paint.is_on() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let columns = table.column_count();
    for (index, column) in table.column_iter_mut().enumerate() {
        // Two spaces between columns, none at the edges.
        column.set_padding((0, if index + 1 == columns { 0 } else { 2 }));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// A number, aligned to the right, or that nothing is known.
pub fn number(value: Option<impl ToString>) -> Cell {
    let text = value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string());
    Cell::new(text).set_alignment(CellAlignment::Right)
}
