//! Medians and how figures are written.

use std::time::Duration;

/// The value below which `share` of the values lie; zero of none.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return 0.0;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index.min(sorted.len() - 1)]
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Seconds of durations.
pub(crate) fn seconds(values: &[Duration]) -> Vec<f64> {
    values.iter().map(Duration::as_secs_f64).collect()
}

/// A time, with the unit that suits it.
pub(crate) fn time(seconds: f64) -> String {
    if seconds.abs() >= 0.1 {
        format!("{seconds:.2} s")
    } else if seconds.abs() >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

/// A number of kB of `/proc` as MiB.
pub(crate) fn mib(kilobytes: f64) -> String {
    format!("{:.1} MiB", kilobytes / 1024.0)
}

/// `ours` against `floor` as a ratio.
pub(crate) fn ratio(ours: f64, floor: f64) -> String {
    if floor == 0.0 { String::new() } else { format!("{:.2} ×", ours / floor) }
}

/// How much longer `ours` is than `floor`.
pub(crate) fn difference(ours: f64, floor: f64) -> String {
    more(ours, floor, time)
}

/// How much more `ours` is than `floor`.
pub(crate) fn more(ours: f64, floor: f64, unit: impl Fn(f64) -> String) -> String {
    let sign = if ours < floor { "−" } else { "+" };
    format!("{sign} {}", unit((ours - floor).abs()))
}

/// A count per second.
pub(crate) fn rate(per_second: f64) -> String {
    format!("{per_second:.0}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(median(&[]).to_bits(), 0f64.to_bits());
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2f64.to_bits());
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.99).to_bits(), 5f64.to_bits());
    }

    #[test]
    fn times_get_their_unit() {
        assert_eq!(
            [time(1.234), time(0.0123), time(0.000_045), difference(1.0, 1.5)],
            ["1.23 s", "12.3 ms", "45 µs", "− 0.50 s"]
        );
        assert_eq!(more(3072.0, 1024.0, mib), "+ 2.0 MiB");
    }
}
