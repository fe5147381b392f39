//! docs/metrics.md: how to scrape, written by hand, and the list of metrics, generated.

use std::path::Path;

use anyhow::Result;
use fv_metrics::catalogue;

use crate::page::Page;

const PAGE: Page = Page { file: "docs/metrics.md", task: "metrics" };

/// Writes the list into the page.
pub(crate) fn write(root: &Path) -> Result<()> {
    PAGE.write(root, &list())
}

/// Fails when the page's list is not what [`write`] would write.
pub(crate) fn check(root: &Path) -> Result<()> {
    PAGE.check(root, &list())
}

fn list() -> String {
    let mut text = "| metric | type | labels | served by | meaning |\n|---|---|---|---|---|\n".to_owned();
    for metric in catalogue::all() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let programs: Vec<&str> = metric.programs.iter().map(|program| program.as_str()).collect();
        text += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            metric.name,
            metric.kind.as_str(),
            labels.join(" "),
            programs.join(" "),
            metric.help.replace('|', "\\|").replace('<', "&lt;"),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_list_of_metrics_is_what_the_catalogue_says() {
        super::check(&crate::root().unwrap()).unwrap();
    }
}
