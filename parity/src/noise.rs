//! Dropout and its relatives, where nothing is random.

use crate::Entry;
use maplet_nn_layers::{AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout};

pub(crate) fn entries() -> Vec<Entry> {
    let entries = vec![
        Entry::layer("Dropout", |case| Ok(Dropout::new(case.get("p")?)?)),
        Entry::layer("Dropout1d", |case| Ok(Dropout1d::new(case.get("p")?)?)),
        Entry::layer("Dropout2d", |case| Ok(Dropout2d::new(case.get("p")?)?)),
        Entry::layer("Dropout3d", |case| Ok(Dropout3d::new(case.get("p")?)?)),
        Entry::layer("AlphaDropout", |case| Ok(AlphaDropout::new(case.get("p")?)?)),
        Entry::layer("FeatureAlphaDropout", |case| Ok(FeatureAlphaDropout::new(case.get("p")?)?)),
    ];
    let note = "Random numbers differ: compared in evaluation and with probabilities 0 and 1; tests check the moments.";
    entries.into_iter().map(|entry| entry.note(note)).collect()
}
