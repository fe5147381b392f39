//! What must differ between two servers in what a program prints about them becomes symbols.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;

use jiff::Timestamp;
use regex::{Captures, Regex};

use fv_conformance::normalise::is_recent;

static UUID: LazyLock<Regex> = LazyLock::new(|| pattern("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"));
static REVISION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"((?:resourceVersion"?: ?"|Resource Version: +|resourceVersion=))([1-9][0-9]*)"#));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z"));
/// As `describe` and `diff` write them.
static SPELLED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} [+-][0-9]{4}|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]+ [+-][0-9]{4}",
    )
});
/// A cell of a table that is an age, and the room after it.
static AGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(^|\s{2,})([0-9]+s|[0-9]+m([0-9]+s)?)(\s{2,}|$)"));
static SINCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\(x([0-9]+) over [0-9a-z]+\)"));
/// Of the client's certificate, of which each server has issued another.
static FINGERPRINT: LazyLock<Regex> = LazyLock::new(|| pattern("SHA256=[0-9a-f]{64}"));
/// Directories and files of programs.
static TEMPORARY: LazyLock<Regex> = LazyLock::new(|| pattern(r"(LIVE|MERGED|kubectl-edit)-[0-9]+"));

#[allow(clippy::expect_used, reason = "the patterns are constants")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// The symbols of one server in one session: the n-th uid or revision it named is called n.
#[derive(Debug)]
pub(crate) struct Text {
    fixed: Vec<(String, &'static str)>,
    uids: HashMap<String, usize>,
    revisions: HashMap<String, usize>,
}

impl Text {
    /// For a session in this directory against the server at this address.
    pub(crate) fn new(dir: &Path, address: SocketAddr) -> Text {
        let fixed = vec![(dir.to_string_lossy().into_owned(), "<dir>"), (address.to_string(), "<server>")];
        Text { fixed, uids: HashMap::new(), revisions: HashMap::new() }
    }

    /// The lines of a text, with symbols.
    pub(crate) fn lines(&mut self, text: &str) -> Vec<String> {
        text.lines().map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: &str) -> String {
        let mut line = line.to_owned();
        for (from, to) in &self.fixed {
            line = line.replace(from, to);
        }
        let uids = &mut self.uids;
        let line = UUID.replace_all(&line, |found: &Captures<'_>| format!("<uid {}>", number(uids, &found[0])));
        let revisions = &mut self.revisions;
        let line = REVISION.replace_all(&line, |found: &Captures<'_>| {
            format!("{}<revision {}>", &found[1], number(revisions, &found[2]))
        });
        let line = TIME.replace_all(&line, |found: &Captures<'_>| {
            let recent = found[0].parse::<Timestamp>().is_ok_and(is_recent);
            if recent { "<time>".to_owned() } else { found[0].to_owned() }
        });
        let line = SPELLED.replace_all(&line, "<time>");
        let line = AGE.replace_all(&line, |found: &Captures<'_>| {
            let room = if found[4].is_empty() { "" } else { "   " };
            format!("{}<age>{room}", &found[1])
        });
        let line = SINCE.replace_all(&line, "(x$1 over <age>)");
        let line = FINGERPRINT.replace_all(&line, "SHA256=<fingerprint>");
        TEMPORARY.replace_all(&line, "$1-<n>").into_owned()
    }
}

fn number(known: &mut HashMap<String, usize>, word: &str) -> usize {
    let next = known.len() + 1;
    *known.entry(word.to_owned()).or_insert(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text {
        Text::new(Path::new("/tmp/x"), SocketAddr::from(([127, 0, 0, 1], 443)))
    }

    #[test]
    fn uids_and_revisions_that_stay_the_same_keep_their_symbol() {
        let mut text = text();
        let uid = "11111111-1111-4222-8333-123456789abc";
        let lines =
            text.lines(&format!("  uid: {uid}\n  resourceVersion: \"7\"\n\"resourceVersion\":\"8\"\n uid: {uid}"));
        assert_eq!(
            lines,
            [
                "  uid: <uid 1>",
                "  resourceVersion: \"<revision 1>\"",
                "\"resourceVersion\":\"<revision 2>\"",
                " uid: <uid 1>"
            ]
        );
        assert_eq!(text.lines("resourceVersion: \"7\"")[0], "resourceVersion: \"<revision 1>\"");
    }

    #[test]
    fn times_of_now_ages_and_places_are_symbols_and_the_rest_stays() {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let lines = text().lines(&format!(
            "at: {now}\nold: 2020-01-01T00:00:00Z\na      1     12s\na   12m5s   b   3s\nwithin 5s\nhttps://127.0.0.1:443/x /tmp/x/LIVE-12/y"
        ));
        assert_eq!(
            lines,
            [
                "at: <time>",
                "old: 2020-01-01T00:00:00Z",
                "a      1     <age>",
                "a   <age>   b   <age>",
                "within 5s",
                "https://<server>/x <dir>/LIVE-<n>/y"
            ]
        );
    }
}
