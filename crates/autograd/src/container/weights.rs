//! A model's values by name: taken out to be saved, put back when loaded.

use crate::{Error, Result, Visit, params, params_mut, states, states_mut};
use maplet_tensor::Tensor;
use std::collections::BTreeMap;

/// All parameters, then all states, by name. The tensors share the model's memory until either is written.
///
/// ```
/// use maplet_autograd::{Param, container};
/// use maplet_tensor::Tensor;
///
/// let mut layers = vec![Param::new(Tensor::from([1.0f32])), Param::new(Tensor::from([2.0f32]))];
/// let before = container::snapshot(&layers);
/// layers[0].set_value(Tensor::from([7.0f32]))?;
/// container::restore(&mut layers, &before)?;
/// assert_eq!(layers[0].value(), &Tensor::from([1.0f32]));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
pub fn snapshot<M: Visit + ?Sized>(model: &M) -> Vec<(String, Tensor)> {
    let params = params(model).into_iter().map(|(name, param)| (name, param.value().clone()));
    let states = states(model).into_iter().map(|(name, state)| (name, state.value().clone()));
    params.chain(states).collect()
}

/// Sets every parameter and state to the tensor of its name: all of them, or on an error none.
///
/// # Errors
/// Names that are missing or unexpected, and tensors of another shape or type: all of them in one message.
pub fn restore<M: Visit + ?Sized>(model: &mut M, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut given: BTreeMap<&str, &Tensor> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let (mut missing, mut different) = (Vec::new(), Vec::new());
    for (name, has) in snapshot(model) {
        match given.remove(name.as_str()) {
            None => missing.push(format!("`{name}`")),
            Some(new) if (new.shape(), new.dtype()) != (has.shape(), has.dtype()) => different.push(format!(
                "`{name}` is {} {}, the model has {} {}",
                new.shape(),
                new.dtype(),
                has.shape(),
                has.dtype()
            )),
            Some(_) => {}
        }
    }
    let unexpected: Vec<String> = given.iter().map(|(name, tensor)| format!("`{name}` {}", tensor.shape())).collect();
    let plural = if missing.len() == 1 { "parameter" } else { "parameters" };
    let mut problems = Vec::new();
    for (names, what) in
        [(missing, format!("{plural} missing")), (unexpected, "unexpected".into()), (different, "different".into())]
    {
        if !names.is_empty() {
            problems.push(format!("{} {what} ({})", names.len(), names.join(", ")));
        }
    }
    if !problems.is_empty() {
        return Err(Error::new("load", problems.join(", "), "build the model that the file was saved from"));
    }

    let given: BTreeMap<&str, &Tensor> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for (name, param) in params_mut(model) {
        param.set_value(given[name.as_str()].clone())?;
    }
    for (name, state) in states_mut(model) {
        state.set_value(given[name.as_str()].clone())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Param;

    fn pair() -> Vec<Param> {
        vec![Param::new(Tensor::from([1.0f32, 2.0])), Param::new(Tensor::from([3.0f32]))]
    }

    #[test]
    fn every_problem_is_listed_and_nothing_is_changed() {
        let mut model = pair();
        let tensors = [
            ("0".to_string(), Tensor::from([9.0f64, 9.0])),
            ("head".to_string(), Tensor::from([[1.0f32]])),
            ("tail".to_string(), Tensor::from([1i64])),
        ];
        let text = "load: 1 parameter missing (`1`), 2 unexpected (`head` [1, 1], `tail` [1]), \
                    1 different (`0` is [2] f64, the model has [2] f32); \
                    help: build the model that the file was saved from";
        assert_eq!(restore(&mut model, &tensors).unwrap_err().to_string(), text);
        assert_eq!(
            restore(&mut model, &tensors[1..]).unwrap_err().to_string().split(',').next(),
            Some("load: 2 parameters missing (`0`")
        );
        assert!(snapshot(&model) == snapshot(&pair()));
    }
}
