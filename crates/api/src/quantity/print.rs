//! Quantity to canonical text: no fractional digits, the largest suffix that loses nothing.

use std::fmt;

use super::{NANO, Quantity, QuantityFormat};

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

pub(super) fn canonical(q: &Quantity, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if q.is_zero() {
        return f.pad("0");
    }
    // Small and fractional binary amounts would lose precision or confuse: Kubernetes writes them in decimal.
    let binary = q.format == QuantityFormat::BinarySi && q.is_whole() && q.nanos.abs() >= 1024 * NANO;
    let text = if binary {
        let (amount, power) = strip(q.nanos / NANO, 1024, BINARY.len() - 1);
        format!("{amount}{}", BINARY[power])
    } else {
        let (amount, power) = strip(q.nanos, 1000, DECIMAL.len() - 1);
        match q.format {
            QuantityFormat::DecimalExponent if power == 3 => amount.to_string(),
            QuantityFormat::DecimalExponent => format!("{amount}e{}", power as i64 * 3 - 9),
            QuantityFormat::DecimalSi | QuantityFormat::BinarySi => format!("{amount}{}", DECIMAL[power]),
        }
    };
    f.pad(&text)
}

/// Takes out the factor as often as it divides, at most `most` times.
fn strip(mut amount: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut power = 0;
    while power < most && amount % factor == 0 {
        amount /= factor;
        power += 1;
    }
    (amount, power)
}
