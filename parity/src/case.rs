//! [`Case`]: one configuration of one entry, as its reference file tells it.

use crate::Result;
use maplet_models::read_safetensors;
use maplet_tensor::{DType, Rng, Tensor, Window};
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// One configuration of one entry: its numbers, what goes in, and what PyTorch says comes out.
pub struct Case {
    /// The entry: `Conv2d`.
    pub entry: String,
    /// The configuration's name: `dilated`.
    pub name: String,
    config: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    /// All cases of a reference file, and the version of PyTorch that made it.
    ///
    /// # Errors
    /// A file that cannot be read or is not of this form.
    pub fn read(path: &Path) -> Result<(Vec<Case>, String)> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let configs = metadata.get("cases").ok_or("the file does not list its cases")?;
        let configs: BTreeMap<String, Value> = serde_json::from_str(configs)?;
        let mut tensors: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
        for (name, tensor) in read_safetensors(path)? {
            let (case, part) = name.rsplit_once('/').ok_or_else(|| format!("`{name}` belongs to no case"))?;
            tensors.entry(case.into()).or_default().insert(part.into(), tensor);
        }
        let cases = configs.into_iter().map(|(key, config)| {
            let (entry, name) = key.split_once('/').ok_or_else(|| format!("`{key}` is no entry/case"))?;
            let tensors = tensors.remove(&key).unwrap_or_default();
            Ok(Case { entry: entry.into(), name: name.into(), config, tensors })
        });
        Ok((cases.collect::<Result<_>>()?, metadata.get("torch").cloned().unwrap_or_default()))
    }

    /// A number, text, … of the configuration.
    ///
    /// # Errors
    /// It is not there, or of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| format!("the configuration has no `{key}`").into())
    }

    /// As [`get`](Self::get), with the value to take where there is none.
    ///
    /// # Errors
    /// It is of another type.
    pub fn get_or<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// As [`get`](Self::get); `None` where there is none, or Python's `None`.
    ///
    /// # Errors
    /// It is of another type.
    pub fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                Ok(Some(serde_json::from_value(value.clone()).map_err(|error| format!("`{key}`: {error}"))?))
            }
        }
    }

    /// One number for all `D` axes, or a list of `D`.
    ///
    /// # Errors
    /// It is neither.
    pub fn sizes<const D: usize>(&self, key: &str, default: [usize; D]) -> Result<[usize; D]> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Number(_)) => Ok([self.get(key)?; D]),
            Some(_) => {
                let sizes: Vec<usize> = self.get(key)?;
                sizes.try_into().map_err(|sizes| format!("`{key}` is {sizes:?}, not {D} sizes").into())
            }
        }
    }

    /// The window of `kernel_size`, `stride`, `padding`, `dilation` and `groups`, with stride 1 unless it is given.
    ///
    /// # Errors
    /// One of them is of another type.
    pub fn window<const D: usize>(&self) -> Result<Window<D>> {
        let window = Window::new(self.sizes("kernel_size", [1; D])?).stride(self.sizes("stride", [1; D])?);
        let window = window.padding(self.sizes("padding", [0; D])?).dilation(self.sizes("dilation", [1; D])?);
        Ok(window.groups(self.get_or("groups", 1)?))
    }

    /// The tensor `arg.NAME`, its floats converted to `dtype`.
    pub fn arg(&self, name: &str, dtype: DType) -> Option<Tensor> {
        self.tensors.get(&format!("arg.{name}")).map(|tensor| convert(tensor, dtype))
    }

    /// Random weights, to be overwritten.
    pub fn rng(&self) -> Rng {
        Rng::new(1)
    }

    /// The tensor of this name, its floats converted to `dtype`.
    pub(crate) fn tensor(&self, name: &str, dtype: DType) -> Option<Tensor> {
        self.tensors.get(name).map(|tensor| convert(tensor, dtype))
    }

    /// All tensors of this prefix, by the rest of their names, floats converted to `dtype`.
    pub(crate) fn all(&self, prefix: &str, dtype: DType) -> Vec<(String, Tensor)> {
        let own = self.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
        own.map(|(name, tensor)| (name.to_string(), convert(tensor, dtype))).collect()
    }

    /// `in.0`, `in.1`, … in order.
    pub(crate) fn inputs(&self, dtype: DType) -> Vec<Tensor> {
        (0..).map_while(|i| self.tensor(&format!("in.{i}"), dtype)).collect()
    }

    /// What must come out, by name.
    pub(crate) fn expected(&self) -> BTreeMap<&str, &Tensor> {
        let results = ["out.", "din.", "dparam.", "after."];
        let names = self.tensors.iter().filter(|(name, _)| results.iter().any(|prefix| name.starts_with(prefix)));
        names.map(|(name, tensor)| (name.as_str(), tensor)).collect()
    }
}

fn convert(tensor: &Tensor, dtype: DType) -> Tensor {
    if tensor.dtype().is_float() { tensor.to_dtype(dtype) } else { tensor.clone() }
}
