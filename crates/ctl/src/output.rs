//! What virtctl prints. A reader that went away (`virtctl … | head`) is no error.

use std::io::Write;

/// A line for the user, on standard output.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A line about what goes wrong or on, on standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
