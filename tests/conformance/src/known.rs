//! The reviewed list of differences that are meant, each with its reason.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name of a sequence; `*` at its end stands for anything.
    pub sequence: String,
    /// Only these steps (from 1); none = any.
    #[serde(default)]
    pub steps: Vec<usize>,
    /// Only differences at or below these pointers (`*` stands for one part). An entry says where it applies: one about words must
    /// not excuse another status code.
    pub at: Vec<String>,
    /// Why it differs.
    pub reason: String,
    /// Steps it explained something in.
    #[serde(skip)]
    used: RefCell<BTreeSet<usize>>,
}

/// The list.
#[derive(Debug, Default)]
pub struct Known(Vec<Entry>);

impl Known {
    /// Reads the list.
    pub fn read(path: &Path) -> Result<Known> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Known::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Parses the list.
    pub fn parse(text: &str) -> Result<Known> {
        let entries: Vec<Entry> = serde_saphyr::from_str(text).context("parse YAML")?;
        Ok(Known(entries))
    }

    /// Whether a difference is meant; the entry that says so counts as used.
    pub fn covers(&self, sequence: &str, step: usize, at: &str) -> bool {
        let mut covered = false;
        for entry in &self.0 {
            let named = match entry.sequence.strip_suffix('*') {
                Some(start) => sequence.starts_with(start),
                None => sequence == entry.sequence,
            };
            let here = entry.steps.is_empty() || entry.steps.contains(&step);
            if named && here && entry.at.iter().any(|pattern| below(at, pattern)) {
                entry.used.borrow_mut().insert(step);
                covered = true;
            }
        }
        covered
    }

    /// Entries that explained nothing, at all or in one of their steps: they are no longer true. Those about generated cases are left
    /// out, because a seed need not meet them.
    pub fn unused(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(|entry| {
            let used = entry.used.borrow();
            !entry.sequence.starts_with("generated/")
                && (used.is_empty() || !entry.steps.iter().all(|s| used.contains(s)))
        })
    }
}

fn below(at: &str, pattern: &str) -> bool {
    let mut parts = at.split('/');
    pattern.split('/').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_its_step_and_place_and_nothing_else() {
        let known = Known::parse(
            "- {sequence: a/x, steps: [2], at: [/body/message], reason: words}\n- {sequence: b/*, at: [/body/*/x], reason: why}\n\
             - {sequence: c, at: [/body], reason: stale}\n- {sequence: b/*, steps: [1, 2], at: [/body], reason: half stale}\n",
        )
        .unwrap();
        assert!(known.covers("a/x", 2, "/body/message"));
        assert!(!known.covers("a/x", 1, "/body/message") && !known.covers("a/x", 2, "/body/reason"));
        assert!(!known.covers("a/xy", 2, "/body/message") && !known.covers("a/x", 2, "/body"));
        assert!(known.covers("b/anything", 1, "/body/items/x/deep"));
        assert_eq!(known.unused().map(|e| e.sequence.as_str()).collect::<Vec<_>>(), ["c", "b/*"]);
    }

    #[test]
    fn an_entry_that_does_not_say_where_is_refused() {
        let refused = Known::parse("- {sequence: a/x, reason: everything may differ}").unwrap_err();
        assert!(format!("{refused:#}").contains("at"), "{refused:#}");
    }

    #[test]
    fn the_list_is_readable_and_has_reasons() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("differences.yaml");
        let known = Known::read(&path).unwrap();
        assert!(known.0.iter().all(|e| e.reason.len() > 10));
    }
}
