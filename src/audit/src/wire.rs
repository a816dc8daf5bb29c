//! Protobuf's wire format, written straight into a buffer: a record is made on every decrypt, and
//! building a message of owned strings first costs more than hashing it.

/// Appends a varint.
pub(crate) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes [`varint`] takes.
pub(crate) fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// A field of wire type 0; zero is the default and is not written.
pub(crate) fn number(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        varint(out, u64::from(tag) << 3);
        varint(out, value);
    }
}

/// An `sfixed64` field; zero is the default and is not written.
pub(crate) fn fixed(out: &mut Vec<u8>, tag: u32, value: i64) {
    if value != 0 {
        varint(out, u64::from(tag) << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A field of wire type 2; an empty one is the default and is not written.
pub(crate) fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        varint(out, u64::from(tag) << 3 | 2);
        varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// The head of a message field of known length, which the caller writes next. Written even if empty:
/// an element of a list counts.
pub(crate) fn message(out: &mut Vec<u8>, tag: u32, len: usize) {
    varint(out, u64::from(tag) << 3 | 2);
    varint(out, len as u64);
}

/// Reads a varint; `None` if it is cut off or longer than ten bytes.
pub(crate) fn read_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in 0..10 {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_lead_back_and_have_their_length() {
        for value in [0, 1, 127, 128, 300, 1 << 20, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            let mut input = out.as_slice();
            assert_eq!(read_varint(&mut input), Some(value));
            assert!(input.is_empty());
            let mut cut = out.split_last().map_or(&[][..], |(_, rest)| rest);
            assert_eq!(read_varint(&mut cut), None);
        }
        assert_eq!(read_varint(&mut [0x80_u8; 11].as_slice()), None);
    }
}
