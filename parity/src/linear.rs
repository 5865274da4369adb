//! Linear.

use crate::Entry;
use maplet_nn_layers::Linear;

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry::layer("Linear", |case| {
        let layer = Linear::new(case.get("in_features")?, case.get("out_features")?, &mut case.rng())?;
        Ok(if case.get_or("bias", true)? { layer } else { layer.without_bias() })
    })]
}
