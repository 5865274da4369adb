//! Attention and position encodings.

use super::table::{Case, other, sample};
use maplet_autograd::{AttentionOptions, Tensor};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let (q, k, v) = (sample(&[2, 2, 3, 2]), other(&[2, 2, 4, 2]), sample(&[2, 2, 4, 3]));
    let may = Tensor::from([[1u8, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]]); // the second query sees nothing
    let bias = sample(&[2, 1, 4]);
    let plain = AttentionOptions::new;
    for options in [plain(), plain().causal(), plain().causal_from(1).scale(0.3), plain().dropout(0.3)] {
        let with = options.clone();
        cases.push(Case::new("scaled_dot_product_attention", &[&q, &k, &v], move |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], &with)
        }));
        for mask in [&may, &bias] {
            let with = options.clone();
            cases.push(Case::new("scaled_dot_product_attention", &[&q, &k, &v, mask], move |x| {
                x[0].scaled_dot_product_attention(&x[1], &x[2], &with.clone().mask(x[3].clone()))
            }));
        }
        let (with, masked) = (options.clone(), options.clone());
        let packed = sample(&[2, 3, 12]);
        cases.push(Case::new("packed_attention", &[&packed], move |x| x[0].packed_attention(2, &with)));
        let few = may.slice(-1, 0, 3).unwrap();
        cases.push(Case::new("packed_attention", &[&packed, &few], move |x| {
            x[0].packed_attention(2, &masked.clone().mask(x[1].clone()))
        }));
        // Four heads of queries share two of keys.
        let (joined_q, joined_k, joined_v) = (sample(&[2, 3, 8]), other(&[2, 2, 4]), sample(&[2, 2, 6]));
        let with = options.clone();
        cases.push(Case::new("multi_head_attention", &[&joined_q, &joined_k, &joined_v], move |x| {
            x[0].multi_head_attention(&x[1], &x[2], 4, &with)
        }));
        cases.push(Case::new("attention_weights", &[&q, &k, &bias], move |x| {
            x[0].attention_weights(&x[1], &options.clone().mask(x[2].clone()))
        }));
    }
    // Without heads, one position, none.
    for [t_q, t_k] in [[2, 3], [1, 1], [2, 0], [0, 2]] {
        let inputs = [sample(&[t_q, 2]), other(&[t_k, 2]), sample(&[t_k, 3])];
        cases.push(Case::new("scaled_dot_product_attention", &inputs.each_ref(), move |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], &AttentionOptions::new().causal())
        }));
    }
    cases
}
