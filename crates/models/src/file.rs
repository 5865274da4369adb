//! [`ModelFile`]: a network and all that is needed to use it, in one file.

use crate::{Error, Result};
use maplet_autograd::container::{self, Container};
use maplet_data::Normalizer;
use maplet_nn_layers::{Sequential, SequentialConfig, Step, cast};
use maplet_tensor::DType;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A trained network with what it was trained for: it can be saved, sent and used without the program that made it.
///
/// The file is a [`Container`] of kind `model`: a description in JSON (architecture, normalisation, class names) and
/// the tensors. Parameters and running statistics come back bit for bit. Only models whose steps are all described by
/// data can be saved so; the weights of others go into a [safetensors file](crate::save_safetensors).
///
/// # Example
/// ```
/// use maplet_data::Normalizer;
/// use maplet_models::{ModelFile, mlp};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("iris.maplet");
/// ModelFile::new(mlp(&[4, 8, 3], 1)?)
///     .class_names(["setosa", "versicolor", "virginica"])?
///     .normalizer(Normalizer { mean: vec![5.8, 3.1, 3.8, 1.2], std: vec![0.8, 0.4, 1.8, 0.8] })
///     .save(&path)?;
/// assert_eq!(ModelFile::load(&path)?.class_names[2], "virginica");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub struct ModelFile {
    /// The network.
    pub model: Sequential,
    /// What is applied to inputs before the network sees them.
    pub normalizer: Option<Normalizer>,
    /// The names of the classes in the order of the outputs, or nothing.
    pub class_names: Vec<String>,
}

/// What the JSON part holds. Fields may be added, with a default, but never change their meaning.
#[derive(Serialize, Deserialize)]
struct Description {
    architecture: SequentialConfig,
    #[serde(default)]
    normalizer: Option<Normalizer>,
    #[serde(default)]
    class_names: Vec<String>,
}

const KIND: &str = "model";
const DESCRIPTION: &str = "description.json";

impl ModelFile {
    /// A network that takes its inputs as they are and has no names for its outputs.
    pub fn new(model: Sequential) -> Self {
        Self { model, normalizer: None, class_names: Vec::new() }
    }

    /// Sets what is applied to inputs before the network sees them.
    pub fn normalizer(mut self, normalizer: impl Into<Normalizer>) -> Self {
        self.normalizer = Some(normalizer.into());
        self
    }

    /// Names the classes, in the order of the outputs.
    ///
    /// # Errors
    /// Another number of names than the network has outputs.
    pub fn class_names(mut self, names: impl IntoIterator<Item = impl ToString>) -> Result<Self> {
        self.class_names = names.into_iter().map(|name| name.to_string()).collect();
        self.check("class_names")?;
        Ok(self)
    }

    /// Writes the file, whole or not at all (see [`Container::save`]).
    ///
    /// # Errors
    /// A model with steps of the user's own code, or a place that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let container = self.to_container().map_err(|error| error.at(path))?;
        Ok(container.save(path)?)
    }

    /// Reads a file and rebuilds the network from it.
    ///
    /// No memory is taken for weights that the file does not hold, whatever its description claims.
    ///
    /// # Errors
    /// A file that is damaged or no model file, a description that makes no sense, or tensors that do not fit it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let container = Container::load(path)?;
        Self::from_container(container).map_err(|error| error.at(path))
    }

    /// The parts of the file.
    ///
    /// # Errors
    /// A model with steps of the user's own code, or class names that do not fit its outputs.
    pub fn to_container(&self) -> Result<Container> {
        self.check("save")?;
        let architecture = self.model.config();
        let code = architecture.steps.iter().enumerate().find_map(|(i, step)| match step {
            Step::Custom(custom) => Some(format!("layer {i} ({}) is code, not data", custom.name)),
            _ => None,
        });
        if let Some(what) = code {
            return Err(Error::new("save", what, "save the weights alone, with save_safetensors"));
        }
        let description =
            Description { architecture, normalizer: self.normalizer.clone(), class_names: self.class_names.clone() };
        let json = serde_json::to_vec_pretty(&description)
            .map_err(|error| Error::new("save", format!("the description: {error}"), "use finite numbers"))?;
        let mut container = Container::new(KIND);
        container.meta.insert(DESCRIPTION.into(), json);
        container.tensors = container::snapshot(&self.model);
        Ok(container)
    }

    /// The network from the parts of its file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_container(container: Container) -> Result<Self> {
        let container = container.expect_kind(KIND)?;
        let description: Description = serde_json::from_slice(container.blob(DESCRIPTION)?)
            .map_err(|error| Error::new("load", format!("the description: {error}"), "save the file again"))?;
        let Description { architecture, normalizer, class_names } = description;

        // The shapes are inferred without weights. Only if the file holds as many as it claims is the model built.
        let needed = architecture.rows()?.iter().fold(0u64, |sum, row| sum.saturating_add(row.parameters));
        let held: u64 = container.tensors.iter().map(|(_, tensor)| tensor.len() as u64).sum();
        if needed > held {
            let what = format!("the architecture has {needed} parameters, the file holds {held} numbers");
            return Err(Error::new("load", what, "save the file again"));
        }
        let mut model = Sequential::from_config(&architecture, 0)?;
        if container.tensors.iter().any(|(_, tensor)| tensor.dtype() == DType::F64) {
            cast(&mut model, DType::F64)?;
        }
        container::restore(&mut model, &container.tensors)?;
        let file = Self { model, normalizer, class_names };
        file.check("load")?;
        Ok(file)
    }

    fn check(&self, op: &'static str) -> Result<()> {
        let (names, output) = (self.class_names.len(), self.model.output_shape());
        if names == 0 || output.last() == Some(&names) {
            return Ok(());
        }
        let what = format!("{names} class names for an output of {output}");
        Err(Error::new(op, what, "give one name for each output"))
    }
}
