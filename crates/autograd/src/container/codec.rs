//! The only place that knows how structured values become bytes: bincode 2, little-endian, variable-length integers.
//!
//! The bytes do not describe themselves: a struct that gains a field cannot read old bytes. What must outlive its
//! program (a model's architecture) is JSON instead.

use serde::{Deserialize, Serialize};

/// The most bytes that [`encode`] gives and [`decode`] takes.
pub const MAX_BYTES: usize = 16 << 20;

/// The value's bytes.
///
/// # Errors
/// A type that bincode cannot write (a sequence of unknown length), or more than [`MAX_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(|error| error.to_string())?;
    check_len(bytes.len())?;
    Ok(bytes)
}

/// The value of these bytes, all of them; takes at most about 256 times their memory, whatever they say.
///
/// # Errors
/// Bytes that are no such value, or more than [`MAX_BYTES`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    use bincode::{config::standard, serde::borrow_decode_from_slice};
    check_len(bytes.len())?;
    // A number of 16 bytes can be written as one, so that honest bytes never claim more than 16 times their length. The
    // limit is a constant of the type, hence the steps.
    let (value, used) = match bytes.len() {
        0x0..=0x1000 => borrow_decode_from_slice(bytes, standard().with_limit::<0x1_0000>()),
        0x1001..=0x4_0000 => borrow_decode_from_slice(bytes, standard().with_limit::<0x40_0000>()),
        _ => borrow_decode_from_slice(bytes, standard().with_limit::<{ 16 * MAX_BYTES }>()),
    }
    .map_err(|error| error.to_string())?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(format!("{left} bytes are left over")),
    }
}

fn check_len(len: usize) -> Result<(), String> {
    if len <= MAX_BYTES { Ok(()) } else { Err(format!("{len} bytes are more than the limit of {MAX_BYTES}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_took() {
        let value = (7u64, "seven".to_string(), vec![Some(0.5f64), None]);
        assert_eq!(decode(&encode(&value).unwrap()), Ok(value));
    }

    #[test]
    fn a_declared_length_takes_no_memory() {
        // 253 announces a u64: a string of 2^60 bytes in a file of nine.
        let bytes = [&[253u8][..], &(1u64 << 60).to_le_bytes()].concat();
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<&str>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
    }

    #[test]
    fn refuses_leftovers_and_too_much() {
        assert_eq!(decode::<u8>(&[1, 2, 3]), Err("2 bytes are left over".into()));
        let text = "16777217 bytes are more than the limit of 16777216";
        assert_eq!(decode::<u8>(&vec![0; MAX_BYTES + 1]), Err(text.into()));
    }
}
