//! Go's durations, such as `1m30s`, as they stand in the `timeout` parameter.

use std::time::Duration;

/// What is wrong with a duration, in Go's words.
type Problem = String;

/// Reads a duration; `None` is a negative one.
pub(super) fn parse_duration(text: &str) -> Result<Option<Duration>, Problem> {
    let invalid = || format!("invalid duration {text:?}");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if digits.is_empty() {
        return Err(invalid());
    }
    let (mut rest, mut seconds) = (digits, 0.0);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let number: f64 = match number {
            "" | "." => return Err(invalid()),
            number => number.parse().map_err(|_| invalid())?,
        };
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = match unit {
            "" => return Err(format!("missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        };
        seconds += number * scale;
        rest = after;
    }
    // Go counts nanoseconds in 63 bits.
    if seconds >= 9_223_372_036.0 {
        return Err(invalid());
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    Ok((!negative).then_some(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let millis = |n| Ok(Some(Duration::from_millis(n)));
        for (text, expected) in [
            ("0", millis(0)),
            ("5s", millis(5000)),
            ("1.5s", millis(1500)),
            ("1m30s", millis(90_000)),
            ("+2ms", millis(2)),
            ("-5s", Ok(None)),
            ("5", Err("missing unit in duration \"5\"".to_owned())),
            ("5d", Err("unknown unit \"d\" in duration \"5d\"".to_owned())),
            ("", Err("invalid duration \"\"".to_owned())),
            ("s", Err("invalid duration \"s\"".to_owned())),
            (".s", Err("invalid duration \".s\"".to_owned())),
            ("1..2s", Err("invalid duration \"1..2s\"".to_owned())),
            ("9999999999999h", Err("invalid duration \"9999999999999h\"".to_owned())),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }
}
