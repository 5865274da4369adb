//! Tensors in serde's formats: element type, shape, and the elements' little-endian bytes, so that every bit survives.

use crate::dtype::dispatch;
use crate::{DType, Shape, Tensor};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

#[derive(Serialize, Deserialize)]
#[serde(rename = "Tensor")]
struct Stored {
    dtype: DType,
    shape: Shape,
    elements: Bytes,
}

/// Bytes that formats may write at once (serde writes a plain `Vec<u8>` number by number).
struct Bytes(Vec<u8>);

impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let elements = dispatch!(self.dtype(), T => {
            self.slice_of::<T>().iter().flat_map(|x| x.to_le_bytes()).collect()
        });
        Stored { dtype: self.dtype(), shape: self.shape(), elements: Bytes(elements) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { dtype, shape, elements: Bytes(bytes) } = Stored::deserialize(deserializer)?;
        let expected = shape.elements() * dtype.bytes(); // a shape's bytes fit in usize
        if bytes.len() != expected {
            let text = format!("{dtype} {shape} needs {expected} bytes, the file holds {}", bytes.len());
            return Err(D::Error::custom(format!("tensor: {text}; help: the file is damaged")));
        }
        Ok(dispatch!(dtype, T => Tensor::build(shape, |out: &mut [T]| {
            let (chunks, _) = bytes.as_chunks::<{ size_of::<T>() }>();
            out.iter_mut().zip(chunks).for_each(|(out, &chunk)| *out = T::from_le_bytes(chunk));
        })))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a tensor's elements")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            /// Formats without bytes, such as JSON. A promised length is not believed: memory grows with what is there.
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = sequence.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trips(x: &Tensor) -> [Tensor; 2] {
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(x, config).unwrap();
        let (binary, read) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!(read, bytes.len());
        [binary, serde_json::from_str(&serde_json::to_string(x).unwrap()).unwrap()]
    }

    #[test]
    fn every_type_and_shape_comes_back() {
        for x in [
            Tensor::from([[1.5f32, -0.0, 1e-40], [f32::INFINITY, 3.0, f32::MIN]]),
            Tensor::from([0.1f64]),
            Tensor::from([i64::MIN, -1, i64::MAX]),
            Tensor::from([0u8, 255]),
            Tensor::scalar(7i64),
            Tensor::zeros([2, 0, 3], DType::F32),
            Tensor::from([[1i64, 2], [3, 4]]).slice(0, 1, 2).unwrap(),
        ] {
            for y in round_trips(&x) {
                assert_eq!(y, x);
            }
        }
        let quiet = f32::from_bits(0x7fc1_2345);
        for y in round_trips(&Tensor::scalar(quiet)) {
            assert_eq!(y.item::<f32>().unwrap().to_bits(), quiet.to_bits());
        }
    }

    #[test]
    fn lengths_are_checked() {
        let read = |text: &str| serde_json::from_str::<Tensor>(text).unwrap_err().to_string();
        let text = read(r#"{"dtype":"F32","shape":[2,1],"elements":[0,0,128]}"#);
        assert_eq!(text, "tensor: f32 [2, 1] needs 8 bytes, the file holds 3; help: the file is damaged");
        let text = read(r#"{"dtype":"U8","shape":[4611686018427387904],"elements":[]}"#);
        assert!(text.contains("has more elements than memory can address"), "{text}");
        let text = read(r#"{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"elements":[1]}"#);
        assert!(text.contains("has 9 axes; help: a tensor has at most 8"), "{text}");
        let text = read(r#"{"dtype":"U8","shape":[1],"elements":7}"#);
        assert!(text.contains("expected the bytes of a tensor's elements"), "{text}");
    }
}
