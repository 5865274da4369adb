//! [`Step`]: a layer of a [`Sequential`](crate::Sequential) as data, and [`SequentialConfig`], a whole one.
//!
//! A layer declares its step in its own file: what is written down of it ([`Spec`]), and a method of the builder. Here
//! is the list of them.

use crate::plan::{Make, Plan, check_activation};
use crate::recurrent::{Gated, LongShort, Simple};
use crate::*;
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// What stands of a layer in a model file. Layers without parameters are their own; sizes that follow from the step
/// before are not repeated.
pub(crate) trait Spec {
    /// What the step will be for samples of the shape `input`.
    fn plan(&self, input: &Shape) -> Plan;

    /// Leaves the bias out; false if there is none to leave out.
    fn drop_bias(&mut self) -> bool {
        false
    }
}

/// Makes the enum of all steps: `plain` ones without numbers, and those with a [`Spec`] of numbers. A macro, so that a
/// new layer is one line here.
macro_rules! steps {
    (plain: $($plain:ident),* $(,)?; with_numbers: $($name:ident($spec:ty)),* $(,)?;) => {
        /// One layer, as it stands in a model file.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Step {
            $(#[doc = concat!("[`", stringify!($plain), "`](crate::", stringify!($plain), ")")] $plain,)*
            $(#[doc = concat!("[`", stringify!($name), "`](crate::", stringify!($name), ")")] $name($spec),)*
        }

        $(impl From<$plain> for Step {
            fn from(_: $plain) -> Self {
                Self::$plain
            }
        })*

        $(impl From<$spec> for Step {
            fn from(spec: $spec) -> Self {
                Self::$name(spec)
            }
        })*

        impl Step {
            fn spec(&self) -> &dyn Spec {
                match self {
                    $(Self::$plain => &$plain,)*
                    $(Self::$name(spec) => spec,)*
                }
            }

            /// Leaves the bias out; false if there is none to leave out.
            pub(crate) fn drop_bias(&mut self) -> bool {
                match self {
                    $(Self::$plain => false,)*
                    $(Self::$name(spec) => spec.drop_bias(),)*
                }
            }
        }
    };
}

steps! {
    plain:
        Flatten,
        Identity,
        Relu,
        Sigmoid,
        Tanh,
        Gelu,
        GeluTanh,
        Silu,
        Selu,
        LogSigmoid,
        Mish,
        Softsign,
        Tanhshrink,
        Relu6,
        Hardsigmoid,
        Hardswish,
        Softmax2d,
        LastStep;
    with_numbers:
        Linear(LinearConfig),
        Conv1d(ConvConfig<1>),
        Conv2d(ConvConfig<2>),
        Conv3d(ConvConfig<3>),
        ConvTranspose1d(ConvTransposeConfig<1>),
        ConvTranspose2d(ConvTransposeConfig<2>),
        ConvTranspose3d(ConvTransposeConfig<3>),
        SeparableConv1d(SeparableConvConfig<1>),
        SeparableConv2d(SeparableConvConfig<2>),
        SeparableConv3d(SeparableConvConfig<3>),
        Unfold(Unfold),
        Fold(Fold),
        ZeroPad1d(ZeroPad<1>),
        ZeroPad2d(ZeroPad<2>),
        ZeroPad3d(ZeroPad<3>),
        ConstantPad1d(ConstantPad<1>),
        ConstantPad2d(ConstantPad<2>),
        ConstantPad3d(ConstantPad<3>),
        ReflectionPad1d(ReflectionPad<1>),
        ReflectionPad2d(ReflectionPad<2>),
        ReflectionPad3d(ReflectionPad<3>),
        ReplicationPad1d(ReplicationPad<1>),
        ReplicationPad2d(ReplicationPad<2>),
        ReplicationPad3d(ReplicationPad<3>),
        CircularPad1d(CircularPad<1>),
        CircularPad2d(CircularPad<2>),
        CircularPad3d(CircularPad<3>),
        Cropping1d(Cropping<1>),
        Cropping2d(Cropping<2>),
        Cropping3d(Cropping<3>),
        MaxPool1d(MaxPool1d),
        MaxPool2d(MaxPool2d),
        MaxPool3d(MaxPool3d),
        AvgPool1d(AvgPool1d),
        AvgPool2d(AvgPool2d),
        AvgPool3d(AvgPool3d),
        LpPool1d(LpPool1d),
        LpPool2d(LpPool2d),
        LpPool3d(LpPool3d),
        AdaptiveAvgPool1d(AdaptiveAvgPool1d),
        AdaptiveAvgPool2d(AdaptiveAvgPool2d),
        AdaptiveAvgPool3d(AdaptiveAvgPool3d),
        AdaptiveMaxPool1d(AdaptiveMaxPool1d),
        AdaptiveMaxPool2d(AdaptiveMaxPool2d),
        AdaptiveMaxPool3d(AdaptiveMaxPool3d),
        FractionalMaxPool2d(FractionalMaxPool2d),
        FractionalMaxPool3d(FractionalMaxPool3d),
        GlobalAvgPool(GlobalAvgPool),
        GlobalMaxPool(GlobalMaxPool),
        Upsample1d(Upsample1d),
        Upsample2d(Upsample2d),
        Upsample3d(Upsample3d),
        Reshape(Reshape),
        FlattenAxes(FlattenAxes),
        Unflatten(Unflatten),
        PixelShuffle(PixelShuffle),
        PixelUnshuffle(PixelUnshuffle),
        ChannelShuffle(ChannelShuffle),
        Dropout(Dropout),
        Dropout1d(Dropout1d),
        Dropout2d(Dropout2d),
        Dropout3d(Dropout3d),
        AlphaDropout(AlphaDropout),
        FeatureAlphaDropout(FeatureAlphaDropout),
        DropPath(DropPath),
        GaussianNoise(GaussianNoise),
        GaussianDropout(GaussianDropout),
        BatchNorm1d(BatchNormConfig<1>),
        BatchNorm2d(BatchNormConfig<2>),
        BatchNorm3d(BatchNormConfig<3>),
        InstanceNorm1d(InstanceNormConfig<1>),
        InstanceNorm2d(InstanceNormConfig<2>),
        InstanceNorm3d(InstanceNormConfig<3>),
        GroupNorm(GroupNormConfig),
        LayerNorm(LayerNormConfig),
        RmsNorm(RmsNormConfig),
        LocalResponseNorm(LocalResponseNorm),
        Embedding(EmbeddingConfig),
        EmbeddingBag(EmbeddingBagConfig),
        MultiheadAttention(MultiheadAttentionConfig),
        TransformerEncoder(TransformerConfig),
        SinusoidalPositions(SinusoidalPositionsConfig),
        LearnedPositions(LearnedPositionsConfig),
        Rnn(RecurrentConfig<Simple>),
        Lstm(RecurrentConfig<LongShort>),
        Gru(RecurrentConfig<Gated>),
        LeakyRelu(LeakyRelu),
        Elu(Elu),
        Celu(Celu),
        Softplus(Softplus),
        Hardtanh(Hardtanh),
        Threshold(Threshold),
        Hardshrink(Hardshrink),
        Softshrink(Softshrink),
        Prelu(PreluConfig),
        Rrelu(Rrelu),
        Glu(Glu),
        SwiGlu(SwiGlu),
        GeGlu(GeGlu),
        ReGlu(ReGlu),
        Softmax(Softmax),
        Softmin(Softmin),
        LogSoftmax(LogSoftmax),
        Custom(Custom);
}

/// A module of the user's own: its architecture is code, this is its type's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// The type's name.
    pub name: String,
}

impl Spec for Custom {
    fn plan(&self, _: &Shape) -> Plan {
        Plan::new(self.name.clone(), || {
            let what = "this step is code, not data";
            Err(Error::new("sequential", what, "build the model with .add(module), then restore its weights"))
        })
    }
}

/// For fields of files that are true unless they say otherwise.
pub(crate) fn yes() -> bool {
    true
}

/// The architecture of a [`Sequential`](crate::Sequential), to be kept in a self-describing format such as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequentialConfig {
    /// The sizes of one sample, without the batch axis.
    pub input_shape: Vec<usize>,
    /// The layers in order.
    pub steps: Vec<Step>,
}

impl SequentialConfig {
    /// Checks the whole model and says what each layer will be. No memory is taken for weights: a reader of files can
    /// compare the number of parameters with the tensors that the file holds before it builds anything.
    ///
    /// # Errors
    /// The first step that does not fit, or takes the model beyond [`MAX_PARAMETERS`].
    pub fn rows(&self) -> Result<Vec<Row>> {
        let mut planner = Planner::new(Shape::new(&self.input_shape)?)?;
        self.steps.iter().try_for_each(|step| planner.plan(step).map(drop))?;
        Ok(planner.rows)
    }
}

/// Goes from step to step with the shape that the last one makes.
pub(crate) struct Planner {
    shape: Shape,
    parameters: u64,
    pub(crate) rows: Vec<Row>,
}

impl Planner {
    pub(crate) fn new(input: Shape) -> Result<Self> {
        if input.contains(&0) {
            let what = format!("samples of {input} have no elements");
            return Err(Error::new(
                "sequential",
                what,
                "give every axis a size of 1 or more, and leave out the batch axis",
            ));
        }
        check_activation("sequential", &input)?;
        Ok(Self { shape: input, parameters: 0, rows: Vec::new() })
    }

    /// The shape of one sample so far.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Checks the next step; what is returned will make it.
    pub(crate) fn plan(&mut self, step: &Step) -> Result<Make> {
        self.accept(step.spec().plan(&self.shape))
    }

    pub(crate) fn accept(&mut self, plan: Plan) -> Result<Make> {
        let label = plan.label;
        let i = self.rows.len();
        let at = |error: Error| error.at(place(i, &label));
        let body = plan.body.map_err(at)?;
        check_activation("sequential", &body.output).map_err(at)?;
        let parameters = self.parameters + body.parameters;
        if parameters > MAX_PARAMETERS {
            let what = format!("the model would have {parameters} weights");
            return Err(at(Error::new("sequential", what, format!("stay at or below {MAX_PARAMETERS}"))));
        }
        (self.shape, self.parameters) = (body.output, parameters);
        self.rows.push(Row {
            label,
            output: body.output,
            parameters: body.parameters,
            flops: body.flops,
            activation_bytes: if body.is_view { 0 } else { body.output.elements() as u64 * 4 },
        });
        Ok(body.make)
    }
}

/// How errors name a layer: `layer 5 (Linear 1600 → 10)`.
pub(crate) fn place(i: usize, label: &str) -> String {
    format!("layer {i} ({label})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> SequentialConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn steps_are_readable_data_and_come_back() {
        let json = r#"{"input_shape":[3,8,8],"steps":[{"batch_norm2d":{"momentum":0.1,"eps":1e-5}},
            {"conv2d":{"out_channels":4,"window":{"kernel":[3,3],"stride":[1,1],"padding":[0,0],"dilation":[1,1],"groups":1}}},
            "relu","flatten",{"linear":{"out_features":10,"bias":false}},{"layer_norm":{}}]}"#;
        let built = Sequential::input([3, 8, 8]).batch_norm2d().conv2d(4, 3).relu().flatten().linear(10).no_bias();
        let built = built.layer_norm().build(1).unwrap();
        assert_eq!(config(json), built.config());
        let again = config(&serde_json::to_string(&built.config()).unwrap());
        assert_eq!(again, built.config());
        assert_eq!(again.rows().unwrap(), built.rows());
        for wrong in ["\"relu\": 1", "{\"linear\": {\"out_features\": 1, \"color\": 2}}", "\"unheard_of\""] {
            assert!(serde_json::from_str::<Step>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn normalizations_noise_and_embeddings_are_data_too() {
        let built = Sequential::input([12]).embedding(50, 6).reshape([2, 6, 6]).batch_norm2d().instance_norm2d();
        let built = built.group_norm(2).dropout2d(0.1).feature_alpha_dropout(0.1).local_response_norm(3).rms_norm();
        let built = built.reshape([72]).batch_norm1d().reshape([12, 6]).instance_norm1d().dropout1d(0.2).identity();
        let built = built.alpha_dropout(0.3).drop_path(0.1).gaussian_noise(0.1).gaussian_dropout(0.2);
        let built = built.reshape([2, 2, 3, 6]).batch_norm3d().instance_norm3d().dropout3d(0.5).build(1).unwrap();
        let json = serde_json::to_string(&built.config()).unwrap();
        let again = config(&json);
        assert_eq!((&again, again.rows().unwrap().as_slice()), (&built.config(), built.rows()));
        let bags = Sequential::input([12]).embedding_bag(50, 6).build(1).unwrap();
        assert_eq!(config(&serde_json::to_string(&bags.config()).unwrap()), bags.config());

        // What is left out has the layer's default; what no layer can be is refused before it is made.
        let short = r#"{"input_shape":[4,3,3],"steps":[{"batch_norm2d":{}},{"instance_norm2d":{"affine":true}},
            {"group_norm":{"groups":2}},{"rms_norm":{"axes":2}},{"layer_norm":{"bias":false}}]}"#;
        let parameters: Vec<u64> = config(short).rows().unwrap().iter().map(|row| row.parameters).collect();
        assert_eq!(parameters, [8, 8, 8, 9, 3]);
        let text = |step: &str| {
            let json = format!(r#"{{"input_shape":[4,3,3],"steps":[{step}]}}"#);
            config(&json).rows().unwrap_err().to_string()
        };
        let expected = "layer 0 (BatchNorm2d 4): batch_norm2d: momentum is 2; help: use a number from 0 to 1";
        assert_eq!(text(r#"{"batch_norm2d":{"momentum":2}}"#), expected);
        let expected = "layer 0 (InstanceNorm2d 4): instance_norm2d: eps is -1; help: use a small positive number";
        assert_eq!(text(r#"{"instance_norm2d":{"eps":-1}}"#), expected);
        let expected = "layer 0 (BatchNorm1d 4): batch_norm1d: expects [n, c, l], got [n, 4, 3, 3]; \
                        help: put reshape([c, l]) before it";
        assert_eq!(text(r#"{"batch_norm1d":{}}"#), expected);
        let expected = "layer 0 (Dropout2d 3): dropout2d: p is 3; help: use a probability from 0 to 1";
        assert_eq!(text(r#"{"dropout2d":{"p":3}}"#), expected);
        let expected = "layer 0 (GaussianNoise -1): gaussian_noise: std is -1; help: use a finite number, 0 or more";
        assert_eq!(text(r#"{"gaussian_noise":{"std":-1}}"#), expected);
        let expected = "layer 0 (EmbeddingBag 5 → 2): embedding_bag: expects [n, l], got [n, 4, 3, 3]; \
                        help: put reshape([l]) before it";
        assert_eq!(text(r#"{"embedding_bag":{"num_embeddings":5,"embedding_dim":2}}"#), expected);
    }

    #[test]
    fn hostile_sizes_are_refused_without_taking_memory() {
        let text = |input: &[usize], steps: Vec<Step>| {
            let config = SequentialConfig { input_shape: input.to_vec(), steps };
            let rows = config.rows().err().unwrap().to_string();
            assert_eq!(Sequential::from_config(&config, 0).err().unwrap().to_string(), rows);
            rows
        };
        let linear = |out_features| Step::from(LinearConfig { out_features, bias: true });
        let expected = "layer 0 (Linear 784 → 1099511627776): linear: out_features 1099511627776 × in_features 784 is more \
                        weights than a model can have; help: stay below 4294967296";
        assert_eq!(text(&[784], vec![linear(1 << 40)]), expected);
        let wide = 2_500_000; // 1.96 · 10⁹ weights with its biases: two such layers fit, a third does not
        let total = 785 * wide + (wide + 1) * 784 + 785 * wide;
        let expected = format!(
            "layer 2 (Linear 784 → 2500000): sequential: the model would have {total} weights; \
             help: stay at or below 4294967296"
        );
        assert_eq!(text(&[784], vec![linear(wide), linear(784), linear(wide), linear(784)]), expected);
        let expected =
            "sequential: one sample of [1073741825] has 1073741825 numbers; help: stay at or below 1073741824";
        assert_eq!(text(&[(1 << 30) + 1], vec![]), expected);
        let expected = "layer 0 (Linear 4 → 8): sequential: one sample of [268435456, 8] has 2147483648 numbers; \
                        help: stay at or below 1073741824";
        assert_eq!(text(&[1 << 28, 4], vec![linear(8)]), expected);
        let expected = "shape: [4611686018427387904, 4611686018427387904] has more elements than memory can address";
        assert_eq!(text(&[1 << 62, 1 << 62], vec![]), expected);
        let expected = "sequential: samples of [3, 0] have no elements; \
                        help: give every axis a size of 1 or more, and leave out the batch axis";
        assert_eq!(text(&[3, 0], vec![]), expected);
        let expected = "layer 1 (Block): sequential: this step is code, not data; \
                        help: build the model with .add(module), then restore its weights";
        assert_eq!(text(&[3], vec![Step::Relu, Custom { name: "Block".into() }.into()]), expected);
        let wide = serde_json::from_str(
            r#"{"max_pool2d":{"window":{"kernel":[18446744073709551615,1],"stride":[1,1],"padding":[0,0],
            "dilation":[1,1],"groups":1}}}"#,
        );
        let expected = "layer 0 (MaxPool2d 18446744073709551615×1, stride 1): max_pool2d: \
                        kernel is 18446744073709551615; help: use 1 to 1048576";
        assert_eq!(text(&[1, 4, 4], vec![wide.unwrap()]), expected);
    }
}
