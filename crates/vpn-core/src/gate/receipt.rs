//! SIGN_RESPONSE: the receipt that the server issued, with the client's signature behind.

use crate::wire::{Receipt, WireError, error_code};

/// The client's signature under a receipt, still to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The bytes that are signed.
    pub info: &'a [u8; 96],
    /// The signature with its header.
    pub signature: &'a [u8],
}

/// Checks that a SIGN_RESPONSE is the receipt that was issued, bytes of the server's signature included, with exactly
/// one more signature.
///
/// Errors: the code of the refusal.
pub fn check_signed<'a>(issued: &[u8], response: &'a [u8]) -> Result<Signed<'a>, u32> {
    let received = Receipt::parse(response).map_err(|error| match error {
        WireError::ReceiptVersion(_) => error_code::RECEIPT_WRONG_VERSION,
        _ => error_code::RECEIPT_NO_SIGN,
    })?;
    let expected = Receipt::parse(issued).map_err(|_| error_code::RECEIPT_CANT_FIND)?;
    // The type byte is not signed, but it becomes part of the payment.
    if received.signed != expected.signed || response.first() != issued.first() {
        return Err(error_code::RECEIPT_CANT_FIND);
    }
    let [server, client] = received.signatures[..] else { return Err(error_code::RECEIPT_NO_SIGN) };
    let end = issued.len();
    let is_ours = expected.signatures == [server] && response.get(105..end) == issued.get(105..end);
    if !is_ours {
        return Err(error_code::RECEIPT_CANT_FIND);
    }
    Ok(Signed { info: received.signed, signature: client })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ReceiptInfo;

    fn with_signatures(info: &ReceiptInfo, signatures: &[u8]) -> Vec<u8> {
        let mut message = Receipt::unsigned(info);
        for fill in signatures {
            message.extend_from_slice(&[2, 1, 0, 0, 1, 0, 3, 0, 0, 0, 2, 0, 0, 0]);
            message.extend_from_slice(&[*fill; 5]);
        }
        let len = message.len() as u64;
        message[97..105].copy_from_slice(&len.to_le_bytes());
        message
    }

    #[test]
    fn only_the_issued_receipt_with_one_more_signature_passes() {
        let info = ReceiptInfo { srv_uid: 1, version: 2, units: 20, ..ReceiptInfo::default() };
        let issued = with_signatures(&info, &[1]);
        let good = with_signatures(&info, &[1, 2]);
        let signed = check_signed(&issued, &good).expect("signed");
        assert_eq!((signed.info.as_slice(), signed.signature[14]), (&good[1..97], 2));

        let code = |response: &[u8]| check_signed(&issued, response).expect_err("refused");
        assert_eq!(code(&issued), error_code::RECEIPT_NO_SIGN);
        assert_eq!(code(&good[..95]), error_code::RECEIPT_NO_SIGN);
        assert_eq!(code(&with_signatures(&info, &[1, 2, 3])), error_code::RECEIPT_NO_SIGN);
        assert_eq!(code(&with_signatures(&info, &[9, 2])), error_code::RECEIPT_CANT_FIND);
        let other = ReceiptInfo { units: 1, ..info.clone() };
        assert_eq!(code(&with_signatures(&other, &[1, 2])), error_code::RECEIPT_CANT_FIND);
        let mut old = good.clone();
        old[21] = 1;
        assert_eq!(code(&old), error_code::RECEIPT_WRONG_VERSION);
        let mut item = good;
        item[0] = 0x10;
        assert_eq!(code(&item), error_code::RECEIPT_CANT_FIND);
    }
}
