//! [`KvCache`]: the keys and values of positions that were seen already.

use crate::{Error, Result};
use maplet_autograd::Var;

/// What one attention layer remembers of earlier positions, so that a new one costs no more than itself.
///
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{KvCache, MultiheadAttention};
/// use maplet_tensor::{DType, Rng};
///
/// let attention = MultiheadAttention::new(8, 2, &mut Rng::new(1))?;
/// let mut cache = KvCache::new();
/// for _ in 0..3 {
///     let token = Var::from(Tensor::ones([1, 1, 8], DType::F32));
///     let y = attention.decode(&token, &mut cache)?; // looks at all tokens so far
///     assert_eq!(y.shape(), [1, 1, 8].into());
/// }
/// assert_eq!(cache.len(), 3);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    /// `[n, t, heads · d]`, each.
    seen: Option<[Var; 2]>,
}

impl KvCache {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many positions were seen.
    pub fn len(&self) -> usize {
        self.seen.as_ref().map_or(0, |[k, _]| k.shape()[1])
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all positions from `len` on: to take tokens back.
    ///
    /// # Errors
    /// Fewer positions were seen.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len() {
            let what = format!("{} positions were seen, {len} cannot stay", self.len());
            return Err(Error::new("truncate", what, "keep fewer"));
        }
        self.seen = match &self.seen {
            Some([k, v]) if len > 0 => Some([k.slice(1, 0, len)?, v.slice(1, 0, len)?]),
            _ => None,
        };
        Ok(())
    }

    /// Sample `i` goes on from what sample `samples[i]` saw: for beam search.
    ///
    /// # Errors
    /// No such sample.
    pub fn reorder(&mut self, samples: &Var) -> Result<()> {
        if let Some([k, v]) = &self.seen {
            self.seen = Some([k.select_rows(samples)?, v.select_rows(samples)?]);
        }
        Ok(())
    }

    /// The keys and values `[n, t, ..]` of all positions, of which these are the latest.
    pub(crate) fn append(&mut self, k: Var, v: Var) -> Result<[Var; 2]> {
        let seen = match &self.seen {
            Some([seen_k, seen_v]) => [Var::concat(&[seen_k, &k], 1)?, Var::concat(&[seen_v, &v], 1)?],
            None => [k, v],
        };
        Ok(self.seen.insert(seen).clone())
    }

    /// The keys and values of a memory that does not grow, made at the first call.
    pub(crate) fn once(&mut self, make: impl FnOnce() -> Result<[Var; 2]>) -> Result<[Var; 2]> {
        match &self.seen {
            Some(seen) => Ok(seen.clone()),
            None => Ok(self.seen.insert(make()?).clone()),
        }
    }
}

/// One cache or several.
pub(super) trait Caches {
    /// All of them.
    fn each(&mut self) -> Vec<&mut KvCache>;

    /// What `step` gives. After an error every cache is as long as before: a stack whose later layer fails has not
    /// advanced the earlier ones.
    fn undo_on_error<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let lens: Vec<usize> = self.each().iter().map(|cache| cache.len()).collect();
        let found = step(self);
        if found.is_err() {
            for (cache, len) in self.each().into_iter().zip(lens) {
                cache.truncate(len)?;
            }
        }
        found
    }
}

impl Caches for KvCache {
    fn each(&mut self) -> Vec<&mut KvCache> {
        vec![self]
    }
}

impl<C: Caches> Caches for [C] {
    fn each(&mut self) -> Vec<&mut KvCache> {
        self.iter_mut().flat_map(C::each).collect()
    }
}
