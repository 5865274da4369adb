//! [`Group`]: another rate or decay for some of the parameters. For other numbers than these, or another rule, see
//! [`Partition`](crate::Partition).

/// What is different for the parameters of a group: see [`Descent::group`](crate::Descent::group).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    pub(crate) learning_rate_factor: f64,
    pub(crate) weight_decay: Option<f64>,
}

impl Default for Group {
    fn default() -> Self {
        Self { learning_rate_factor: 1.0, weight_decay: None }
    }
}

impl Group {
    /// A group like the rest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Multiplies the rate. A factor, not a rate of its own: so schedules and
    /// [`set_learning_rate`](crate::Optimizer::set_learning_rate) reach every group.
    pub fn learning_rate_factor(mut self, factor: f64) -> Self {
        self.learning_rate_factor = factor;
        self
    }

    /// Replaces the weight decay.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = Some(weight_decay);
        self
    }
}
