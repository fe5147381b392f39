//! The table that is printed at the end.

use std::fmt::Write as _;

/// One line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: String,
    /// What the same machine, in the same run, does without us.
    pub(crate) floor: String,
    /// Ours against the floor: a ratio or a difference.
    pub(crate) against: String,
    pub(crate) aim: String,
}

/// Lines under headings.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sections: Vec<(String, Vec<Row>)>,
}

impl Table {
    pub(crate) fn section(&mut self, title: &str) {
        self.sections.push((title.to_string(), Vec::new()));
    }

    pub(crate) fn row(&mut self, row: Row) {
        if self.sections.is_empty() {
            self.section("");
        }
        if let Some((_, rows)) = self.sections.last_mut() {
            rows.push(row);
        }
    }

    /// A figure without a floor.
    pub(crate) fn fact(&mut self, what: impl Into<String>, ours: impl Into<String>, aim: impl Into<String>) {
        self.row(Row { what: what.into(), ours: ours.into(), aim: aim.into(), ..Row::default() });
    }

    pub(crate) fn render(&self) -> String {
        let head = ["", "ours", "floor", "against it", "aim"];
        let mut widths = head.map(str::len);
        for row in self.sections.iter().flat_map(|(_, rows)| rows) {
            for (width, cell) in widths.iter_mut().zip(row.cells()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        let mut line = |cells: [&str; 5]| {
            let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(text, "{}", padded.join("  ").trim_end());
        };
        line(head);
        for (title, rows) in &self.sections {
            line(["", "", "", "", ""]);
            line([title, "", "", "", ""]);
            for row in rows {
                line(row.cells().map(|cell| if cell.is_empty() { "–" } else { cell }));
            }
        }
        text
    }
}

impl Row {
    fn cells(&self) -> [&str; 5] {
        [&self.what, &self.ours, &self.floor, &self.against, &self.aim]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_gaps_are_marked() {
        let mut table = Table::default();
        table.section("Sizes");
        table.fact("virtctl", "4 MiB", "");
        table.row(Row {
            what: "a".into(),
            ours: "1".into(),
            floor: "2".into(),
            against: "0.5 ×".into(),
            aim: "≤ 1".into(),
        });
        assert_eq!(
            table.render(),
            "         ours   floor  against it  aim\n\n\
             Sizes\n\
             virtctl  4 MiB  –      –           –\n\
             a        1      2      0.5 ×       ≤ 1\n"
        );
    }
}
