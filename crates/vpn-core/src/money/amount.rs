//! Amounts of a token: a number of datoshi, written as a decimal number of tokens.

use std::fmt;
use std::str::FromStr;

/// An amount in datoshi, of which a token has 10^18.
///
/// ```
/// use vpn_core::money::Amount;
///
/// let amount: Amount = "1.5".parse()?;
/// assert_eq!(amount, Amount(1_500_000_000_000_000_000));
/// assert_eq!(amount.to_string(), "1.5");
/// # Ok::<(), vpn_core::money::AmountError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u128);

/// Why a text is no amount.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum AmountError {
    /// Something else than digits with at most one point between them.
    #[error("expected a number of tokens such as 10 or 1.5, not {0:?}")]
    Number(String),
    /// A fraction of a datoshi.
    #[error("{0} has {1} digits behind the point: expected at most 18")]
    Fraction(String, usize),
    /// More than 128 bits of datoshi.
    #[error("{0} is too large: expected at most {max}", max = Amount(u128::MAX))]
    TooLarge(String),
}

impl Amount {
    /// The digits behind the point.
    const DECIMALS: usize = 18;
    /// One token.
    pub const TOKEN: Amount = Amount(10_u128.pow(Amount::DECIMALS as u32));
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Amount, AmountError> {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !fraction.is_none_or(is_number) {
            return Err(AmountError::Number(text.to_owned()));
        }
        let fraction = fraction.unwrap_or("0");
        let digits = fraction.trim_end_matches('0');
        if digits.len() > Amount::DECIMALS {
            return Err(AmountError::Fraction(text.to_owned(), digits.len()));
        }
        let too_large = || AmountError::TooLarge(text.to_owned());
        let tokens: u128 = whole.parse().map_err(|_| too_large())?;
        // Eighteen digits are always a number.
        let part: u128 = format!("{digits:0<18}").parse().map_err(|_| too_large())?;
        let datoshi = tokens.checked_mul(Amount::TOKEN.0).and_then(|datoshi| datoshi.checked_add(part));
        datoshi.map(Amount).ok_or_else(too_large)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tokens, part) = (self.0 / Amount::TOKEN.0, self.0 % Amount::TOKEN.0);
        let fraction = format!("{part:018}");
        match fraction.trim_end_matches('0') {
            "" => f.pad(&tokens.to_string()),
            digits => f.pad(&format!("{tokens}.{digits}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_as_people_write_them() {
        let good = [
            ("0", 0, "0"),
            ("1", Amount::TOKEN.0, "1"),
            ("007.50", 7_500_000_000_000_000_000, "7.5"),
            ("0.000000000000000001", 1, "0.000000000000000001"),
            ("1.0000000000000000000000", Amount::TOKEN.0, "1"),
            ("340282366920938463463.374607431768211455", u128::MAX, "340282366920938463463.374607431768211455"),
        ];
        for (text, datoshi, written) in good {
            assert_eq!(text.parse(), Ok(Amount(datoshi)), "{text}");
            assert_eq!(Amount(datoshi).to_string(), written);
        }
        assert_eq!(format!("{:>5}|{:<5}|", Amount(0), Amount::TOKEN), "    0|1    |");
    }

    #[test]
    fn what_is_no_amount_is_refused_with_the_reason() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "1 CELL", "٣", "0x1"] {
            assert_eq!(text.parse::<Amount>(), Err(AmountError::Number(text.to_owned())));
        }
        let small = "0.0000000000000000001";
        assert_eq!(small.parse::<Amount>(), Err(AmountError::Fraction(small.to_owned(), 19)));
        let nines = "9".repeat(200);
        for text in ["340282366920938463463.374607431768211456", "340282366920938463464", nines.as_str()] {
            assert_eq!(text.parse::<Amount>(), Err(AmountError::TooLarge(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn every_amount_comes_back(datoshi: u128) {
            prop_assert_eq!(Amount(datoshi).to_string().parse(), Ok(Amount(datoshi)));
        }

        #[test]
        fn any_text_is_an_amount_or_refused(text: String) {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert_eq!(amount.to_string().parse(), Ok(amount));
            }
        }
    }
}
