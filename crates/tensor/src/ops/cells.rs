//! The recurrent cells, each above its adjoint: one row, that is one sequence, at one step.
//!
//! Each gets `gates`, the products of the input and of the state before with their biases (the GRU's come apart), and
//! leaves the gates' values there for the adjoint. The loop over steps and rows is in `recurrent.rs`.
//!
//! Rows are cut in parts by `split_at` alone: an array's `map` may stay a call, and then the compiler does not know
//! that the parts are equally long, and finishes each vector loop by a scalar one.

use crate::math::Math;
use crate::simd::vectorized;

/// `to = f(to)`, one function a loop: one iteration of several would fill the processor's window, and the next could
/// not begin before its chain of operations ends.
#[inline(always)]
fn activate<T: Math>(to: &mut [T], f: impl Fn(T) -> T) {
    to.iter_mut().for_each(|x| *x = f(*x));
}

/// A row of gates cut into parts of `size`.
macro_rules! parts {
    ($row:expr, $split:ident, $size:expr, $first:ident, $last:ident) => {
        let ($first, $last) = $row.$split($size);
    };
    ($row:expr, $split:ident, $size:expr, $first:ident, $($more:ident),+) => {
        let ($first, rest) = $row.$split($size);
        parts!(rest, $split, $size, $($more),+);
    };
}

vectorized! {
    /// `h = f(gates)`, where `f` is the hyperbolic tangent or a ReLU.
    pub(super) fn plain<T: Math>(gates: &mut [T], relu: bool, h: &mut [T]) {
        match relu {
            // Written so that NaN stays NaN.
            true => activate(gates, |x| if x < T::zero() { T::zero() } else { x }),
            false => activate(gates, T::fast_tanh::<FUSED>),
        }
        h.copy_from_slice(gates);
    }
}

vectorized! {
    /// Adjoint of [`plain`].
    pub(super) fn plain_grad<T: Math>(h: &[T], dh: &[T], relu: bool, d_gates: &mut [T]) {
        for ((d, &h), &dh) in d_gates.iter_mut().zip(h).zip(dh) {
            *d = match relu {
                true => if h <= T::zero() { T::zero() } else { dh },
                false => dh * (T::one() - h * h),
            };
        }
    }
}

vectorized! {
    /// `c = σ(f) c_before + σ(i) tanh(g)`, `h = σ(o) tanh(c)`; the gates lie in the order i, f, g, o.
    pub(super) fn lstm<T: Math>(gates: &mut [T], c_before: &[T], c: &mut [T], h: &mut [T]) {
        let size = c.len();
        let (g, o) = (2 * size, 3 * size);
        activate(&mut gates[..g], T::sigmoid::<FUSED>);
        activate(&mut gates[g..o], T::fast_tanh::<FUSED>);
        activate(&mut gates[o..4 * size], T::sigmoid::<FUSED>);
        parts!(gates[..4 * size], split_at, size, i, f, g, o);
        let (c_before, h) = (&c_before[..size], &mut h[..size]);
        for j in 0..size {
            c[j] = f[j] * c_before[j] + i[j] * g[j];
            h[j] = o[j] * c[j].fast_tanh::<FUSED>();
        }
    }
}

vectorized! {
    /// Adjoint of [`lstm`]; `dc` is the gradient of the cell after the step, and becomes that of the cell before.
    pub(super) fn lstm_grad<T: Math>(
        gates: &[T], c_before: &[T], c: &[T], dh: &[T], dc: &mut [T], d_gates: &mut [T],
    ) {
        let (size, one) = (dc.len(), T::one());
        let (c_before, c, dh) = (&c_before[..size], &c[..size], &dh[..size]);
        parts!(gates[..4 * size], split_at, size, i, f, g, o);
        parts!(d_gates[..4 * size], split_at_mut, size, di, df, dg, d_o);
        for j in 0..size {
            let t = c[j].fast_tanh::<FUSED>();
            let d = dc[j] + dh[j] * o[j] * (one - t * t);
            d_o[j] = dh[j] * t * o[j] * (one - o[j]);
            di[j] = d * g[j] * i[j] * (one - i[j]);
            df[j] = d * c_before[j] * f[j] * (one - f[j]);
            dg[j] = d * i[j] * (one - g[j] * g[j]);
            dc[j] = d * f[j];
        }
    }
}

vectorized! {
    /// `n = tanh(x_n + σ(r) m)`, `h = (1 − σ(z)) n + σ(z) h_before`; the gates lie in the order r, z, n.
    ///
    /// `gates` are the input's products, `inner` those of the state, each without its bias; `m` is the state's own
    /// part of n with its bias.
    pub(super) fn gru<T: Math>(
        gates: &mut [T], inner: &[T], bias: [&[T]; 2], h_before: &[T], m: &mut [T], h: &mut [T],
    ) {
        let (size, [a, b]) = (m.len(), bias);
        let (h_before, h) = (&h_before[..size], &mut h[..size]);
        parts!(gates[..3 * size], split_at_mut, size, r, z, n);
        parts!(inner[..3 * size], split_at, size, inner_r, inner_z, inner_n);
        parts!(a[..3 * size], split_at, size, a_r, a_z, a_n);
        parts!(b[..3 * size], split_at, size, b_r, b_z, b_n);
        for j in 0..size {
            r[j] = ((r[j] + a_r[j]) + (inner_r[j] + b_r[j])).sigmoid::<FUSED>();
        }
        for j in 0..size {
            z[j] = ((z[j] + a_z[j]) + (inner_z[j] + b_z[j])).sigmoid::<FUSED>();
        }
        for j in 0..size {
            m[j] = inner_n[j] + b_n[j];
            n[j] = ((n[j] + a_n[j]) + r[j] * m[j]).fast_tanh::<FUSED>();
            h[j] = n[j] + z[j] * (h_before[j] - n[j]);
        }
    }
}

vectorized! {
    /// Adjoint of [`gru`]; `d_inner` are the gradients of the state's products, `dh_before` what reaches the state
    /// before past them.
    pub(super) fn gru_grad<T: Math>(
        gates: &[T], h_before: &[T], m: &[T], dh: &[T], d_gates: &mut [T], d_inner: &mut [T], dh_before: &mut [T],
    ) {
        let (size, one) = (dh.len(), T::one());
        let (h_before, m, dh_before) = (&h_before[..size], &m[..size], &mut dh_before[..size]);
        parts!(gates[..3 * size], split_at, size, r, z, n);
        parts!(d_gates[..3 * size], split_at_mut, size, dr, dz, dn);
        parts!(d_inner[..3 * size], split_at_mut, size, inner_r, inner_z, inner_n);
        for j in 0..size {
            dn[j] = dh[j] * (one - z[j]) * (one - n[j] * n[j]);
            dz[j] = dh[j] * (h_before[j] - n[j]) * z[j] * (one - z[j]);
            dr[j] = dn[j] * m[j] * r[j] * (one - r[j]);
            inner_r[j] = dr[j];
            inner_z[j] = dz[j];
            inner_n[j] = dn[j] * r[j];
            dh_before[j] = dh[j] * z[j];
        }
    }
}
