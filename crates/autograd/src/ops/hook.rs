//! Looking at gradients on their way, and changing them.

use crate::{Result, Var, record};

impl Var {
    /// The same value, whose gradient goes through `hook` on its way back: to be looked at, scaled, reversed, clipped.
    ///
    /// A hook that is written in `Var` operations can be differentiated again. To keep the gradient of a value, see
    /// [`retain_grad`](Self::retain_grad).
    ///
    /// PyTorch: `Tensor.register_hook`; Keras: –.
    ///
    /// ```
    /// use maplet_autograd::{Pass, Tensor};
    ///
    /// // Gradient reversal: the identity forward, −1 backward.
    /// let x = Pass::record().leaf(Tensor::from([3.0f32]));
    /// let loss = x.square().register_hook(|dy| Ok(dy.neg())).sum(.., false)?;
    /// assert_eq!(loss.backward()?.of(&x), Some(&Tensor::from([-6.0f32])));
    /// # Ok::<(), maplet_autograd::Error>(())
    /// ```
    ///
    /// # Reference
    /// Ganin & Lempitsky (2015), "Unsupervised Domain Adaptation by Backpropagation", for the reversal.
    pub fn register_hook(&self, hook: impl Fn(Var) -> Result<Var> + Send + Sync + 'static) -> Var {
        record("register_hook", self.value().clone()).pull(self, hook).single()
    }
}
