//! The multilayer perceptron.

use crate::{Error, Result};
use maplet_nn_layers::Sequential;

/// Linear layers with ReLU between them: `mlp(&[784, 128, 10], seed)` has 784 inputs, 128 hidden units and 10 outputs.
///
/// The outputs are what the last linear layer gives: logits of classes, or numbers.
///
/// # Shapes
/// - input: `[n, features[0]]`; output: `[n, features.last()]`
///
/// # Errors
/// Fewer than two sizes, or a size of 0.
///
/// # Reference
/// Rumelhart, Hinton & Williams (1986), "Learning representations by back-propagating errors".
///
/// # Example
/// ```
/// let model = maplet_models::mlp(&[784, 128, 10], 42)?;
/// assert_eq!((model.input_shape().sizes(), model.output_shape().sizes()), (&[784][..], &[10][..]));
/// # Ok::<(), maplet_models::Error>(())
/// ```
pub fn mlp(features: &[usize], seed: u64) -> Result<Sequential> {
    let [input, hidden @ .., output] = features else {
        let what = format!("{features:?} has no input and output size");
        return Err(Error::new("mlp", what, "give at least two sizes, as in [784, 128, 10]"));
    };
    let mut builder = Sequential::input([*input]);
    for &size in hidden {
        builder = builder.linear(size).relu();
    }
    Ok(builder.linear(*output).build(seed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        let text = |features: &[usize]| mlp(features, 1).err().unwrap().to_string();
        let help = "help: give at least two sizes, as in [784, 128, 10]";
        assert_eq!(text(&[]), format!("mlp: [] has no input and output size; {help}"));
        assert_eq!(text(&[784]), format!("mlp: [784] has no input and output size; {help}"));
        assert!(text(&[784, 0, 10]).starts_with("layer 0 (Linear 784 → 0): linear: "), "{}", text(&[784, 0, 10]));
    }
}
