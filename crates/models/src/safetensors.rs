//! Weights in the safetensors format, the common form of PyTorch and its relatives.

use crate::{Error, Result};
use maplet_autograd::container::{self, read_elements, write_atomically, write_elements};
use maplet_autograd::{Visit, states};
use maplet_tensor::{DType, Shape, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

/// Writes a model's parameters and running statistics under their names, for PyTorch among others.
///
/// In PyTorch: `module.load_state_dict(safetensors.torch.load_file("model.safetensors"))`. The file appears whole or
/// not at all.
///
/// # Errors
/// A place that cannot be written.
///
/// # Example
/// ```
/// use maplet_models::{load_safetensors, mlp, save_safetensors};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// let (model, mut other) = (mlp(&[2, 3, 1], 1)?, mlp(&[2, 3, 1], 2)?);
/// save_safetensors(&model, &path)?;
/// load_safetensors(&mut other, &path)?;
/// # use maplet_autograd::container::snapshot;
/// assert_eq!(snapshot(&model), snapshot(&other));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save_safetensors<M: Visit + ?Sized>(model: &M, path: impl AsRef<Path>) -> Result<()> {
    write_safetensors(&container::snapshot(model), path)
}

/// Reads a model's parameters and running statistics: all of them, or on an error none.
///
/// The counters `num_batches_tracked` of PyTorch's batch normalisation are passed over, unless the model keeps them.
///
/// # Errors
/// A file that cannot be read or is malformed; names that are missing or unexpected and tensors of another shape or
/// type, all listed in one message.
pub fn load_safetensors<M: Visit + ?Sized>(model: &mut M, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let mut tensors = read_safetensors(path)?;
    let own: BTreeSet<String> = states(model).into_iter().map(|(name, _)| name).collect();
    let is_counter = |name: &str| name.rsplit('.').next() == Some("num_batches_tracked");
    tensors.retain(|(name, _)| own.contains(name) || !is_counter(name));
    container::restore(model, &tensors).map_err(|error| Error::from(error).at(path))
}

/// Writes named tensors. They are sorted by element type and name, as the format wants.
///
/// # Errors
/// A place that cannot be written.
pub fn write_safetensors(tensors: &[(String, Tensor)], path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), Elements { tensor, shape: tensor.shape() }));
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]); // what PyTorch's readers look for
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| Error::new("save", error.to_string(), "").at(path))?;
    Ok(write_atomically(path, |file| file.write_all(&bytes)).map_err(maplet_autograd::Error::from)?)
}

/// Reads all tensors, by name.
///
/// # Errors
/// A file that cannot be read or is malformed, or an element type that Maplet does not have.
///
/// # Reference
/// <https://huggingface.co/docs/safetensors>, "Format".
pub fn read_safetensors(path: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>> {
    let path = path.as_ref();
    read(path).map_err(|error| error.at(path))
}

fn read(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::new("load", error.to_string(), "check that the file is there and may be read"))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        Error::new("load", format!("not a safetensors file, or a damaged one: {error}"), "copy the file again")
    })?;
    let mut views = file.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0)); // they come in the order of a hash map
    let unknown: Vec<String> = views
        .iter()
        .filter(|(_, view)| dtype_of(view.dtype()).is_none())
        .map(|(name, view)| format!("`{name}` {}", view.dtype()))
        .collect();
    if !unknown.is_empty() {
        let what = format!("{} tensors have an element type without support ({})", unknown.len(), unknown.join(", "));
        return Err(Error::new("load", what, "save them as float32"));
    }
    let tensor = |view: &dyn View| -> Result<Tensor> {
        let (dtype, shape) = (dtype_of(view.dtype()).expect("checked above"), Shape::new(view.shape())?);
        read_elements(&mut view.data().as_ref(), dtype, shape)
            .map_err(|error| Error::new("load", error.to_string(), ""))
    };
    views.into_iter().map(|(name, view)| Ok((name, tensor(&view)?))).collect()
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F64 => Some(DType::F64),
        Dtype::I64 => Some(DType::I64),
        Dtype::U8 => Some(DType::U8),
        _ => None,
    }
}

/// A tensor as the safetensors library wants to see one.
struct Elements<'a> {
    tensor: &'a Tensor,
    shape: Shape,
}

impl View for Elements<'_> {
    fn dtype(&self) -> Dtype {
        match self.tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
            other => unreachable!("{other} has no form in safetensors files"),
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        write_elements(&mut bytes, self.tensor).expect("writing to memory");
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.len() * self.tensor.dtype().bytes()
    }
}
