//! Kubernetes quantities (`resource.Quantity`): exact fixed-point numbers with a suffix.
//!
//! A quantity is kept as a whole number of nano-units and the family its suffix came from, so that it prints as
//! Kubernetes would print it: `1536Mi` for `1.5Gi`, `100m` for `0.1`, `1e3` for `1000e0`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

mod arithmetic;
mod parse;
mod print;
mod serial;
pub use serial::QUANTITY_PATTERN;
#[cfg(test)]
mod tests;

/// Nano-units per unit.
const NANO: i128 = 1_000_000_000;
/// The largest amount a binary quantity can hold, in units; larger ones are cut down to it, as Kubernetes does.
const MAX_BINARY_UNITS: i128 = i64::MAX as i128;

/// The family of suffixes a quantity is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QuantityFormat {
    /// `n u m "" k M G T P E`, powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`, powers of 1024.
    BinarySi,
    /// `e3`, `E-6`: a decimal exponent.
    DecimalExponent,
}

/// An exact amount, as Kubernetes writes resources: `64M`, `1.5Gi`, `100m`, `12e6`.
///
/// Amounts smaller than a nano-unit are rounded up (away from zero) to one. Equality, order and hash are by amount:
/// `1Ki == 1024`. It reads strings and numbers, and writes the canonical string.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: QuantityFormat,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("empty quantity: write a number with an optional suffix, for example 64Mi, 500m or 1.5Gi")]
    Empty,
    #[error("`{text}` is not a quantity: write a number with an optional suffix, for example 64Mi, 500m or 1.5Gi")]
    Syntax { text: String },
    #[error(
        "`{text}` has the unknown suffix `{suffix}`: use Ki Mi Gi Ti Pi Ei, n u m k M G T P E, or an exponent such as e3"
    )]
    Suffix { text: String, suffix: String },
    #[error("`{text}` is too large for a quantity")]
    TooLarge { text: String },
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: QuantityFormat::DecimalSi };

    /// Reads a quantity as Kubernetes does.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// A whole number of units in the given family.
    pub const fn new(units: i64, format: QuantityFormat) -> Self {
        Self { nanos: units as i128 * NANO, format }
    }

    /// A number of units (CPUs, devices), written in decimal.
    pub const fn from_units(units: i64) -> Self {
        Self::new(units, QuantityFormat::DecimalSi)
    }

    /// A number of thousandths (of a CPU), written in decimal: `from_millis(1500)` is `1500m`.
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis as i128 * 1_000_000, format: QuantityFormat::DecimalSi }
    }

    /// A number of bytes, written in powers of 1024: `from_bytes(1 << 30)` is `1Gi`.
    pub const fn from_bytes(bytes: u64) -> Self {
        let bytes = bytes as i128;
        let capped = if bytes > MAX_BINARY_UNITS { MAX_BINARY_UNITS } else { bytes };
        Self { nanos: capped * NANO, format: QuantityFormat::BinarySi }
    }

    /// The amount in whole units (bytes, CPUs), rounded up (away from zero).
    pub fn value(&self) -> i128 {
        div_away(self.nanos, NANO)
    }

    /// [`Self::value`], cut down to what an `i64` holds.
    pub fn value_i64(&self) -> i64 {
        i64::try_from(self.value()).unwrap_or(if self.nanos < 0 { i64::MIN } else { i64::MAX })
    }

    /// The amount as a number of bytes: [`Self::value`], with negative amounts as 0 and cut down to what a `u64` holds.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.value().max(0)).unwrap_or(u64::MAX)
    }

    /// The amount in thousandths, rounded up (away from zero).
    pub fn milli_value(&self) -> i128 {
        div_away(self.nanos, 1_000_000)
    }

    /// The exact amount in billionths.
    pub fn nano_value(&self) -> i128 {
        self.nanos
    }

    /// The family of suffixes it is written in.
    pub fn format(&self) -> QuantityFormat {
        self.format
    }

    /// The same amount, written in another family of suffixes.
    pub fn with_format(self, format: QuantityFormat) -> Self {
        Self { format, ..self }
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }
}

/// Division that rounds away from zero.
fn div_away(n: i128, by: i128) -> i128 {
    let quotient = n / by;
    if n % by == 0 { quotient } else { quotient + n.signum() }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::canonical(self, f)
    }
}
