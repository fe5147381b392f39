//! Text to quantity.

use super::{MAX_BINARY_UNITS, NANO, Quantity, QuantityError, QuantityFormat};

/// Longest piece of a wrong text that an error repeats.
const SHOWN: usize = 60;

/// What a suffix stands for.
enum Scale {
    /// A power of ten.
    Ten(i64, QuantityFormat),
    /// A power of 1024.
    Kibi(u32),
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Empty);
    }
    let syntax = || QuantityError::Syntax { text: shown(text) };
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = split_digits(rest);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(after) => split_digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(syntax());
    }
    let scale = match read_suffix(suffix) {
        Some(scale) => scale,
        None if suffix.bytes().all(|b| b"eEinumkKMGTP+-0123456789".contains(&b)) => {
            return Err(QuantityError::Suffix { text: shown(text), suffix: shown(suffix) });
        }
        None => return Err(syntax()),
    };

    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    let mut point = whole.len() as i64;
    let (exponent, mut format) = match scale {
        Scale::Ten(exponent, format) => (exponent, format),
        Scale::Kibi(power) => {
            for _ in 0..power {
                point += multiply(&mut digits, 1024);
            }
            (0, QuantityFormat::BinarySi)
        }
    };
    let mut nanos = match read_nanos(&digits, point.saturating_add(exponent).saturating_add(9)) {
        Some(nanos) => nanos,
        None if format == QuantityFormat::BinarySi => i128::MAX,
        None => return Err(QuantityError::TooLarge { text: shown(text) }),
    };
    if format == QuantityFormat::BinarySi {
        nanos = nanos.min(MAX_BINARY_UNITS * NANO);
        if nanos > 0 && nanos < NANO {
            format = QuantityFormat::DecimalSi;
        }
    }
    Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
}

fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn read_suffix(suffix: &str) -> Option<Scale> {
    use QuantityFormat::{DecimalExponent, DecimalSi};
    Some(match suffix {
        "" => Scale::Ten(0, DecimalSi),
        "n" => Scale::Ten(-9, DecimalSi),
        "u" => Scale::Ten(-6, DecimalSi),
        "m" => Scale::Ten(-3, DecimalSi),
        "k" => Scale::Ten(3, DecimalSi),
        "M" => Scale::Ten(6, DecimalSi),
        "G" => Scale::Ten(9, DecimalSi),
        "T" => Scale::Ten(12, DecimalSi),
        "P" => Scale::Ten(15, DecimalSi),
        "E" => Scale::Ten(18, DecimalSi),
        "Ki" => Scale::Kibi(1),
        "Mi" => Scale::Kibi(2),
        "Gi" => Scale::Kibi(3),
        "Ti" => Scale::Kibi(4),
        "Pi" => Scale::Kibi(5),
        "Ei" => Scale::Kibi(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            // An exponent beyond i32 is as good as infinite: the number is 0, rounds up to 1n, or is too large.
            let magnitude = unsigned.parse::<i32>().unwrap_or(i32::MAX);
            Scale::Ten(i64::from(if exponent.starts_with('-') { -magnitude } else { magnitude }), DecimalExponent)
        }
    })
}

/// Multiplies a decimal number, most significant digit first, in place; returns how many digits it grew by.
fn multiply(digits: &mut Vec<u8>, by: u32) -> i64 {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        let product = u32::from(*digit) * by + carry;
        *digit = (product % 10) as u8;
        carry = product / 10;
    }
    let mut front = Vec::new();
    while carry > 0 {
        front.push((carry % 10) as u8);
        carry /= 10;
    }
    let grown = front.len();
    digits.splice(0..0, front.into_iter().rev());
    grown as i64
}

/// The number whose digits have the decimal point after `point` of them, rounded up; `None` when it does not fit.
fn read_nanos(digits: &[u8], point: i64) -> Option<i128> {
    let first = match digits.iter().position(|d| *d != 0) {
        Some(first) => first,
        None => return Some(0),
    };
    let last = digits.iter().rposition(|d| *d != 0).unwrap_or(first);
    if point <= first as i64 {
        return Some(1);
    }
    let mut nanos: i128 = 0;
    for digit in &digits[first..(last + 1).min(usize::try_from(point).unwrap_or(usize::MAX))] {
        nanos = nanos.checked_mul(10)?.checked_add(i128::from(*digit))?;
    }
    if (last as i64) < point {
        let zeros = u32::try_from(point - 1 - last as i64).ok()?;
        nanos = nanos.checked_mul(10_i128.checked_pow(zeros)?)?;
    } else {
        nanos = nanos.checked_add(1)?;
    }
    Some(nanos)
}
