//! A tensor's elements as little-endian bytes.

use maplet_tensor::{DType, Element, Shape, Tensor};
use std::io::{self, Read, Write};

/// Bytes that are converted at a time.
const PIECE: usize = 1 << 16;
/// What the element types are called in the file; the names never change.
pub(super) const TYPES: [(DType, &str); 4] =
    [(DType::F32, "f32"), (DType::F64, "f64"), (DType::I64, "i64"), (DType::U8, "u8")];
const OF_ITS_TYPE: &str = "the elements of the tensor's own type";

/// Writes the elements, row-major, little-endian.
///
/// # Errors
/// The writer's.
pub fn write_elements(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    fn pieces<T: Copy, const N: usize>(out: &mut impl Write, slice: &[T], bytes: fn(T) -> [u8; N]) -> io::Result<()> {
        let mut buffer = vec![0; PIECE.min(slice.len() * N)];
        for piece in slice.chunks(PIECE / N) {
            let filled = &mut buffer[..piece.len() * N];
            piece.iter().zip(filled.chunks_exact_mut(N)).for_each(|(&x, out)| out.copy_from_slice(&bytes(x)));
            out.write_all(filled)?;
        }
        Ok(())
    }
    match tensor.dtype() {
        DType::F32 => pieces(out, tensor.as_slice().expect(OF_ITS_TYPE), f32::to_le_bytes),
        DType::F64 => pieces(out, tensor.as_slice().expect(OF_ITS_TYPE), f64::to_le_bytes),
        DType::I64 => pieces(out, tensor.as_slice().expect(OF_ITS_TYPE), i64::to_le_bytes),
        DType::U8 => out.write_all(tensor.as_slice().expect(OF_ITS_TYPE)),
        other => Err(io::Error::other(format!("{other} has no form in files"))),
    }
}

/// Reads a tensor whose elements [`write_elements`] wrote. Check the shape against the input's length first: memory for
/// all of it is taken at once.
///
/// # Errors
/// The reader's; `UnexpectedEof` if it ends too early.
pub fn read_elements(input: &mut impl Read, dtype: DType, shape: Shape) -> io::Result<Tensor> {
    fn pieces<T: Element, const N: usize>(
        input: &mut impl Read,
        tensor: &mut Tensor,
        value: fn([u8; N]) -> T,
    ) -> io::Result<()> {
        let mut buffer = vec![0; PIECE.min(tensor.len() * N)];
        for piece in tensor.as_mut_slice::<T>().expect(OF_ITS_TYPE).chunks_mut(PIECE / N) {
            let bytes = &mut buffer[..piece.len() * N];
            input.read_exact(bytes)?;
            for (x, bytes) in piece.iter_mut().zip(bytes.chunks_exact(N)) {
                *x = value(std::array::from_fn(|i| bytes[i]));
            }
        }
        Ok(())
    }
    let mut tensor = Tensor::zeros(shape, dtype);
    match dtype {
        DType::F32 => pieces(input, &mut tensor, f32::from_le_bytes)?,
        DType::F64 => pieces(input, &mut tensor, f64::from_le_bytes)?,
        DType::I64 => pieces(input, &mut tensor, i64::from_le_bytes)?,
        DType::U8 => input.read_exact(tensor.as_mut_slice().expect(OF_ITS_TYPE))?,
        other => return Err(io::Error::other(format!("{other} has no form in files"))),
    }
    Ok(tensor)
}
