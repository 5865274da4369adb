//! Attention and position encodings.

use super::table::Case;

pub(crate) fn cases() -> Vec<Case> {
    vec![]
}
