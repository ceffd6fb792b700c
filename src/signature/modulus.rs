//! Raising to a public exponent: Montgomery's multiplication, with nothing to hide and so free to take its time from the values.
//!
//! Numbers are limbs of 64 bits, the lowest first, as many as the modulus has.

use rsa::BigUint;

/// An odd modulus, and what multiplying under it needs.
#[derive(Clone)]
pub(super) struct Modulus {
    limbs: Vec<u64>,
    /// -1 / modulus, modulo 2^64.
    negative_inverse: u64,
    /// The square of 2^(64 * limbs), modulo the modulus: brings a number into Montgomery's form.
    square: Vec<u64>,
}

impl Modulus {
    /// `None` for an even one, zero included: there Montgomery's multiplication does not work, and no RSA key has one.
    pub(super) fn new(modulus: &BigUint) -> Option<Self> {
        let limbs = limbs(&modulus.to_bytes_be(), modulus.bits().div_ceil(64))?;
        let lowest = *limbs.first()?;
        if lowest % 2 == 0 {
            return None;
        }
        // Newton's iteration doubles the number of right bits; an odd number is its own inverse in the lowest three.
        let inverse =
            (0..5).fold(lowest, |inverse, _| inverse.wrapping_mul(2_u64.wrapping_sub(lowest.wrapping_mul(inverse))));
        let square = (BigUint::from(1_u8) << (128 * limbs.len())) % modulus;
        Some(Self {
            square: self::limbs(&square.to_bytes_be(), limbs.len())?,
            negative_inverse: inverse.wrapping_neg(),
            limbs,
        })
    }

    /// The number that `base` stands for, raised to an odd exponent above 1, as the bytes of all limbs; `None` if it is not
    /// below the modulus.
    pub(super) fn raise(&self, base: &[u8], exponent: u64) -> Option<Vec<u8>> {
        let base = limbs(base, self.limbs.len()).filter(|base| is_below(base, &self.limbs))?;
        let mut in_form = vec![0; self.limbs.len()];
        self.multiply(&base, &self.square, &mut in_form);
        let (mut power, mut product) = (in_form.clone(), in_form.clone());
        let mut multiply = |power: &mut Vec<u64>, factor: Option<&[u64]>| {
            self.multiply(power, factor.unwrap_or(power), &mut product);
            std::mem::swap(power, &mut product);
        };
        let highest_bit = exponent.checked_ilog2()?;
        for bit in (0..highest_bit).rev() {
            multiply(&mut power, None);
            if bit == 0 {
                // The lowest bit is set. Multiplying by the plain base leaves Montgomery's form in the same step.
                multiply(&mut power, Some(&base));
            } else if exponent >> bit & 1 == 1 {
                multiply(&mut power, Some(&in_form));
            }
        }
        Some(power.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect())
    }

    /// Sets `sum` to the product divided by 2^(64 * limbs), modulo the modulus. Both factors are below it.
    fn multiply(&self, left: &[u64], right: &[u64], sum: &mut [u64]) {
        sum.fill(0);
        // What does not fit in the limbs: never more than one bit.
        let mut above = 0_u64;
        let lowest_left = left.first().copied().unwrap_or_default();
        for &digit in right {
            let lowest = sum.first().copied().unwrap_or_default();
            // So many times the modulus makes the lowest limb zero, which can then be dropped.
            let times = lowest.wrapping_add(lowest_left.wrapping_mul(digit)).wrapping_mul(self.negative_inverse);
            let (mut carry_product, mut carry_modulus) = (0, 0);
            for ((limb, &left), &modulus) in sum.iter_mut().zip(left).zip(&self.limbs) {
                let product;
                (product, carry_product) = add_product(*limb, left, digit, carry_product);
                (*limb, carry_modulus) = add_product(product, modulus, times, carry_modulus);
            }
            let top = u128::from(above) + u128::from(carry_product) + u128::from(carry_modulus);
            sum.copy_within(1.., 0);
            if let Some(last) = sum.last_mut() {
                *last = top as u64;
            }
            above = (top >> 64) as u64;
        }
        if above > 0 || !is_below(sum, &self.limbs) {
            let mut borrow = false;
            for (limb, &modulus) in sum.iter_mut().zip(&self.limbs) {
                let (without, first) = limb.overflowing_sub(modulus);
                let (without, second) = without.overflowing_sub(u64::from(borrow));
                (*limb, borrow) = (without, first || second);
            }
        }
    }
}

/// `sum + left * right + carry`, which two limbs can hold: the lower, then the higher.
const fn add_product(sum: u64, left: u64, right: u64, carry: u64) -> (u64, u64) {
    let wide = sum as u128 + left as u128 * right as u128 + carry as u128;
    (wide as u64, (wide >> 64) as u64)
}

fn is_below(number: &[u64], limit: &[u64]) -> bool {
    number.iter().rev().lt(limit.iter().rev())
}

/// The limbs of a number whose highest byte comes first; `None` if it needs more than so many.
fn limbs(bytes: &[u8], count: usize) -> Option<Vec<u64>> {
    let mut limbs: Vec<u64> =
        bytes.rchunks(8).map(|chunk| chunk.iter().fold(0, |limb, &byte| limb << 8 | u64::from(byte))).collect();
    if limbs.iter().skip(count).any(|&limb| limb > 0) {
        return None;
    }
    limbs.resize(count, 0);
    Some(limbs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Limbs that carries run through, more often than chance has it.
    fn limb() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 63), any::<u64>()]
    }

    fn number(limbs: &[u64]) -> BigUint {
        limbs.iter().rev().fold(BigUint::from(0_u8), |number, &limb| (number << 64) + limb)
    }

    fn odd_modulus() -> impl Strategy<Value = BigUint> {
        vec(limb(), 1..=9)
            .prop_map(|limbs| number(&limbs) | BigUint::from(1_u8))
            .prop_filter("above 1", |modulus| *modulus > BigUint::from(1_u8))
    }

    proptest! {
        #[test]
        fn raising_is_what_an_independent_implementation_makes_of_it(
            modulus in odd_modulus(),
            base in vec(limb(), 0..=9),
            exponent in prop_oneof![Just(3), Just(65_537), any::<u64>().prop_map(|exponent| exponent | 3)],
        ) {
            let base = number(&base) % &modulus;
            let expected = base.modpow(&BigUint::from(exponent), &modulus);
            let raised = Modulus::new(&modulus).unwrap().raise(&base.to_bytes_be(), exponent).unwrap();
            prop_assert_eq!(BigUint::from_bytes_be(&raised), expected);
            prop_assert_eq!(raised.len(), modulus.bits().div_ceil(64) * 8);
        }

        #[test]
        fn what_is_not_below_the_modulus_is_refused(modulus in odd_modulus(), above in vec(limb(), 0..=2)) {
            let base = &modulus + number(&above);
            prop_assert_eq!(Modulus::new(&modulus).unwrap().raise(&base.to_bytes_be(), 65_537), None);
        }
    }

    #[test]
    fn the_largest_numbers_of_each_size_carry_through() {
        for limbs in 1..=64 {
            let modulus = (BigUint::from(1_u8) << (64 * limbs)) - BigUint::from(1_u8);
            let base = &modulus - BigUint::from(1_u8);
            let raised = Modulus::new(&modulus).unwrap().raise(&base.to_bytes_be(), 65_537).unwrap();
            assert_eq!(BigUint::from_bytes_be(&raised), base, "(-1)^65537 = -1 with {limbs} limbs");
        }
    }

    #[test]
    fn an_even_modulus_is_none() {
        for even in [0_u8, 2, 254] {
            assert!(Modulus::new(&BigUint::from(even)).is_none(), "{even}");
        }
    }
}
