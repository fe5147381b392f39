//! Sums and products. A sum keeps the family of its first operand unless that one is zero; results that do not fit are
//! cut to the largest amount.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign};

use super::Quantity;

impl Quantity {
    /// The sum, or `None` when it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let format = if self.is_zero() { other.format } else { self.format };
        Some(Self { nanos: self.nanos.checked_add(other.nanos)?, format })
    }

    /// The difference, or `None` when it does not fit.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(-other)
    }

    /// The product, or `None` when it does not fit.
    pub fn checked_mul(self, by: i64) -> Option<Self> {
        Some(Self { nanos: self.nanos.checked_mul(i128::from(by))?, format: self.format })
    }

    /// `self * numerator / denominator`, rounded up to a nano-unit (away from zero); a zero denominator counts as 1.
    pub fn scaled(self, numerator: u32, denominator: u32) -> Self {
        let denominator = i128::from(denominator.max(1));
        let (whole, rest) = (self.nanos / denominator, self.nanos % denominator);
        let numerator = i128::from(numerator);
        let nanos = whole.saturating_mul(numerator).saturating_add(super::div_away(rest * numerator, denominator));
        Self { nanos, format: self.format }
    }
}

impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nanos: self.nanos.saturating_neg(), format: self.format }
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul<i64> for Quantity {
    type Output = Self;
    fn mul(self, by: i64) -> Self {
        Self { nanos: self.nanos.saturating_mul(i128::from(by)), format: self.format }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl<'a> Sum<&'a Quantity> for Quantity {
    fn sum<I: Iterator<Item = &'a Quantity>>(iter: I) -> Self {
        iter.copied().sum()
    }
}
