//! The recurrent cells, each above its adjoint: one row, that is one sequence, at one step.
//!
//! Each gets `gates`, the input's products, and `inner`, those of the state before; it adds the two biases and leaves
//! the gates' values in `gates` for the adjoint. The loop over steps and rows is in `recurrent.rs`.

use crate::math::Math;
use crate::simd::vectorized;

/// `to = f((gates + a) + (inner + b))` in place.
#[inline(always)]
fn activate<T: Math>(gates: &mut [T], inner: &[T], [a, b]: [&[T]; 2], f: impl Fn(T) -> T) {
    for (((gate, &inner), &a), &b) in gates.iter_mut().zip(inner).zip(a).zip(b) {
        *gate = f((*gate + a) + (inner + b));
    }
}

/// Part `i` of a row of gates.
#[inline(always)]
fn part<T>(row: &[T], i: usize, size: usize) -> &[T] {
    &row[i * size..][..size]
}

/// The first `N` parts of a row of gates, to be written.
#[inline(always)]
fn parts_mut<T, const N: usize>(row: &mut [T], size: usize) -> [&mut [T]; N] {
    let mut rest = row;
    std::array::from_fn(|_| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        part
    })
}

vectorized! {
    /// `h = f(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh)`, where `f` is the hyperbolic tangent or a ReLU.
    pub(super) fn plain<T: Math>(gates: &mut [T], inner: &[T], bias: [&[T]; 2], relu: bool, h: &mut [T]) {
        match relu {
            // Written so that NaN stays NaN.
            true => activate(gates, inner, bias, |x| if x < T::zero() { T::zero() } else { x }),
            false => activate(gates, inner, bias, T::fast_tanh),
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
    pub(super) fn lstm<T: Math>(
        gates: &mut [T], inner: &[T], bias: [&[T]; 2], c_before: &[T], c: &mut [T], h: &mut [T],
    ) {
        let ([a, b], size) = (bias, c.len());
        let (g, o) = (2 * size, 3 * size);
        activate(&mut gates[..g], &inner[..g], [&a[..g], &b[..g]], T::sigmoid);
        activate(&mut gates[g..o], &inner[g..o], [&a[g..o], &b[g..o]], T::fast_tanh);
        activate(&mut gates[o..], &inner[o..], [&a[o..], &b[o..]], T::sigmoid);
        let [i, f, g, o] = [0, 1, 2, 3].map(|at| part(gates, at, size));
        let (c_before, h) = (&c_before[..size], &mut h[..size]);
        for j in 0..size {
            c[j] = f[j] * c_before[j] + i[j] * g[j];
            h[j] = o[j] * c[j].fast_tanh();
        }
    }
}

vectorized! {
    /// Adjoint of [`lstm`]; `dc` is the gradient of the cell after the step, and becomes that of the cell before.
    pub(super) fn lstm_grad<T: Math>(
        gates: &[T], c_before: &[T], c: &[T], dh: &[T], dc: &mut [T], d_gates: &mut [T],
    ) {
        let (size, one) = (dc.len(), T::one());
        let [i, f, g, o] = [0, 1, 2, 3].map(|at| part(gates, at, size));
        let [di, df, dg, d_o] = parts_mut(d_gates, size);
        let (c_before, c, dh) = (&c_before[..size], &c[..size], &dh[..size]);
        for j in 0..size {
            let t = c[j].fast_tanh();
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
    /// `n = tanh(x_n + σ(r) m)`, `h = (1 − σ(z)) n + σ(z) h_before`, where `m` is the state's own part of n with its
    /// bias; the gates lie in the order r, z, n.
    pub(super) fn gru<T: Math>(
        gates: &mut [T], inner: &[T], bias: [&[T]; 2], h_before: &[T], m: &mut [T], h: &mut [T],
    ) {
        let ([a, b], size) = (bias, m.len());
        let n = 2 * size;
        activate(&mut gates[..n], &inner[..n], [&a[..n], &b[..n]], T::sigmoid);
        for ((m, &inner), &b) in m.iter_mut().zip(&inner[n..]).zip(&b[n..]) {
            *m = inner + b;
        }
        let [r, z, n] = parts_mut(gates, size);
        let (a, m, h_before, h) = (part(a, 2, size), &m[..size], &h_before[..size], &mut h[..size]);
        for j in 0..size {
            n[j] = ((n[j] + a[j]) + r[j] * m[j]).fast_tanh();
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
        let [r, z, n] = [0, 1, 2].map(|at| part(gates, at, size));
        let [dr, dz, dn] = parts_mut(d_gates, size);
        let (h_before, m, dh_before) = (&h_before[..size], &m[..size], &mut dh_before[..size]);
        for j in 0..size {
            dn[j] = dh[j] * (one - z[j]) * (one - n[j] * n[j]);
            dz[j] = dh[j] * (h_before[j] - n[j]) * z[j] * (one - z[j]);
            dr[j] = dn[j] * m[j] * r[j] * (one - r[j]);
            dh_before[j] = dh[j] * z[j];
        }
        let (both, last) = d_inner.split_at_mut(2 * size);
        both.copy_from_slice(&d_gates[..2 * size]);
        for ((d, &dn), &r) in last.iter_mut().zip(&d_gates[2 * size..]).zip(r) {
            *d = dn * r;
        }
    }
}
