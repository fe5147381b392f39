//! String and number formats a structural schema may ask for. Unknown formats are ignored, as Kubernetes ignores them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::OnceLock;

use base64::Engine as _;
use regex::Regex;
use serde_json::Number;

use super::quantity;

/// Formats with a check. Kubernetes spells some with and some without dashes; both mean the same.
const KNOWN: &[&str] = &[
    "byte",
    "cidr",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "int32",
    "int64",
    "ipv4",
    "ipv6",
    "k8slongname",
    "k8sshortname",
    "mac",
    quantity::FORMAT,
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

pub(crate) fn known(format: &str) -> bool {
    KNOWN.contains(&plain(format).as_str())
}

fn plain(format: &str) -> String {
    format.replace('-', "").to_ascii_lowercase()
}

/// Whether the text has the format.
pub(crate) fn holds(format: &str, text: &str) -> bool {
    match plain(format).as_str() {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "cidr" => cidr(text),
        "date" => jiff::civil::Date::from_str(text).is_ok() && text.len() == 10,
        "datetime" => date_time(text),
        "duration" => duration(text),
        "email" => email(text),
        "hexcolor" => matches(&HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", text),
        "hostname" => hostname(text),
        "ipv4" => Ipv4Addr::from_str(text).is_ok(),
        "ipv6" => Ipv6Addr::from_str(text).is_ok(),
        "k8sshortname" => text.len() <= 63 && dns_label(text),
        "k8slongname" => text.len() <= 253 && !text.is_empty() && text.split('.').all(dns_label),
        "mac" => mac(text),
        "uri" => uri(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        _ => true,
    }
}

/// What Go's decoder says about a text that its typed field cannot hold; `None` when it can.
pub(crate) fn go_error(format: &str, text: &str) -> Option<String> {
    match format {
        "byte" if !holds(format, text) => {
            let good = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
            let at = text.bytes().position(|c| !good(&c)).unwrap_or(text.len() / 4 * 4);
            Some(format!("illegal base64 data at input byte {at}"))
        }
        "date-time" if !text.is_empty() && !holds(format, text) => {
            Some(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""))
        }
        _ => None,
    }
}

/// Whether the number fits its format. Kubernetes does not check the range of custom resources; we do, because a number that
/// no typed client can decode makes every list that contains it unreadable.
pub(crate) fn number_holds(format: &str, number: &Number) -> bool {
    let Some(value) = number.as_i128().or_else(|| number.as_f64().map(|f| f as i128)) else { return true };
    match plain(format).as_str() {
        "int32" => i32::try_from(value).is_ok(),
        "int64" => i64::try_from(value).is_ok(),
        "uint8" => u8::try_from(value).is_ok(),
        "uint16" => u16::try_from(value).is_ok(),
        "uint32" => u32::try_from(value).is_ok(),
        "uint64" => u64::try_from(value).is_ok(),
        _ => true,
    }
}

static HEX_COLOR: OnceLock<Option<Regex>> = OnceLock::new();

fn matches(cell: &OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    cell.get_or_init(|| Regex::new(pattern).ok()).as_ref().is_some_and(|r| r.is_match(text))
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    (Ipv4Addr::from_str(address).is_ok() && bits <= 32) || (Ipv6Addr::from_str(address).is_ok() && bits <= 128)
}

fn date_time(text: &str) -> bool {
    // RFC 3339 wants a date, a T and an offset; jiff alone would accept more.
    text.len() >= 20
        && text.as_bytes().get(10).is_some_and(|c| matches!(c, b'T' | b't' | b' '))
        && jiff::Timestamp::from_str(text).is_ok()
}

/// Go's `time.ParseDuration`, or a number with a unit word.
fn duration(text: &str) -> bool {
    let text = text.trim();
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut rest = rest;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if digits == 0 || rest[..digits].parse::<f64>().is_err() {
            return false;
        }
        let tail = rest[digits..].trim_start();
        let unit = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let units = [
            "ns", "us", "µs", "μs", "ms", "s", "m", "h", "d", "w", "nano", "nanos", "micro", "micros", "milli",
            "millis", "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes", "hr", "hour", "hours",
            "day", "days", "week", "weeks",
        ];
        if !units.contains(&&tail[..unit]) {
            return false;
        }
        rest = tail[unit..].trim_start();
        parts += 1;
    }
    parts > 0
}

fn email(text: &str) -> bool {
    let text = text.rsplit_once('<').and_then(|(_, tail)| tail.strip_suffix('>')).unwrap_or(text);
    match text.rsplit_once('@') {
        Some((user, host)) => {
            !user.is_empty()
                && !host.is_empty()
                && !user.contains(char::is_whitespace)
                && !host.contains(char::is_whitespace)
        }
        None => false,
    }
}

fn hostname(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn mac(text: &str) -> bool {
    for (separator, width, counts) in [(':', 2, [6, 8, 20]), ('-', 2, [6, 8, 20]), ('.', 4, [3, 4, 10])] {
        let groups: Vec<&str> = text.split(separator).collect();
        if counts.contains(&groups.len())
            && groups.iter().all(|g| g.len() == width && g.bytes().all(|c| c.is_ascii_hexdigit()))
        {
            return true;
        }
    }
    false
}

fn uri(text: &str) -> bool {
    if text.starts_with('/') {
        return !text.contains(char::is_whitespace);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'))
        && !rest.is_empty()
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let dashes: Vec<usize> = text.char_indices().filter(|(_, c)| *c == '-').map(|(i, _)| i).collect();
    plain.len() == 32
        && plain.bytes().all(|c| c.is_ascii_hexdigit())
        && (dashes.is_empty() || dashes == [8, 13, 18, 23])
        && version.is_none_or(|v| plain.chars().nth(12) == Some(v))
}
