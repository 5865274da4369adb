//! Elementary functions that the compiler turns into vector loops; none of them branches.
//!
//! `f32`: polynomials, fitted by Remez' algorithm, after reducing the argument; with fused multiply-adds where
//! `vectorized!` says that there are some. `f64`, which trains nothing: the standard library.

use crate::Float;

/// The functions that `std` only has as scalar calls. In `f32` the errors are those of a comparison of every seventh
/// of all 2³² values with `f64`; the tests repeat it on a sample, with and without fused multiply-adds.
pub(crate) trait Math: Float {
    /// `eˣ`, at most 1 ulp off.
    fn fast_exp<const FUSED: bool>(self) -> Self;

    /// `eˣ` for an `x` from −87 to 88, where nothing overflows or becomes subnormal; the same bits as `fast_exp`.
    fn exp_of_middle<const FUSED: bool>(self) -> Self;

    /// `eˣ − 1`, which near 0 keeps the digits that `fast_exp` would lose, at most 2 ulp off.
    fn fast_exp_m1<const FUSED: bool>(self) -> Self;

    /// The natural logarithm, at most 1 ulp off.
    fn fast_ln<const FUSED: bool>(self) -> Self;

    /// `ln(1 + x)` for an `x` from 0 to 1, which near 0 keeps the digits that `fast_ln` would lose, at most 2 ulp off.
    fn fast_ln_1p<const FUSED: bool>(self) -> Self;

    /// The hyperbolic tangent, at most 2 ulp off.
    fn fast_tanh<const FUSED: bool>(self) -> Self;

    /// `1 / (1 + e⁻ˣ)`, at most 3 ulp off.
    fn sigmoid<const FUSED: bool>(self) -> Self;

    /// The normal distribution's distribution function `Φ(x) = erfc(−x / √2) / 2`, at most 3 ulp off for
    /// positive and 8 ulp for negative `x`, where it is tiny, and its density `φ(x) = e^(−x²/2) / √(2π)`, at most 2
    /// ulp.
    fn normal_distribution<const FUSED: bool>(self) -> (Self, Self);
}

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts; the first has 9 bits, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

impl Math for f32 {
    #[inline(always)]
    fn fast_exp<const FUSED: bool>(self) -> f32 {
        // Beyond these bounds the result is 0 or ∞ anyway. NaN passes both comparisons.
        let x = if self < -104.0 { -104.0 } else { self };
        let (fraction, n) = exp_parts::<FUSED>(if x > 89.0 { 89.0 } else { x }, 0.0);
        let [a, b] = factors(n);
        (1.0 + fraction) * a * b
    }

    #[inline(always)]
    fn exp_of_middle<const FUSED: bool>(self) -> f32 {
        let (fraction, n) = exp_parts::<FUSED>(self, 0.0);
        (1.0 + fraction) * power_of_two(n)
    }

    #[inline(always)]
    fn fast_exp_m1<const FUSED: bool>(self) -> f32 {
        let x = if self < -20.0 { -20.0 } else { self }; // −1 to the last digit
        let x = if x > 89.0 { 89.0 } else { x };
        let (fraction, n) = exp_parts::<FUSED>(x, 0.0);
        let [a, b] = factors(n);
        // Below 2²⁴ times 2ⁿ − 1 is exact; beyond, the 1 is rounded away, and 2ⁿ alone may overflow.
        let (near, far) = (fraction * (a * b) + (a * b - 1.0), (1.0 + fraction) * a * b);
        if x > 20.0 { far } else { near }
    }

    #[inline(always)]
    fn fast_ln<const FUSED: bool>(self) -> f32 {
        // x = m · 2^e with m in [√½, √2); a subnormal x is made normal first.
        const SQRT_HALF: u32 = 0x3f35_04f3;
        let subnormal = self < f32::MIN_POSITIVE;
        let scaled = if subnormal { self * 8_388_608.0 } else { self };
        let shifted = scaled.to_bits().wrapping_sub(SQRT_HALF);
        let e = ((shifted as i32 >> 23) - if subnormal { 23 } else { 0 }) as f32;
        let m = f32::from_bits((shifted & 0x007f_ffff) + SQRT_HALF);
        // ln(1 + f) = 2s + 2s³/3 + 2s⁵/5 + … with s = f / (2 + f), arranged so that the large terms are exact.
        let f = m - 1.0;
        let s = f / (2.0 + f);
        let z = s * s;
        let r = z * polynomial::<FUSED, _>(z, [0.666_666_7, 0.400_003_46, 0.285_366_03, 0.235_963_27]);
        let half = 0.5 * f * f;
        let ln = e * LN2_HIGH - ((half - (s * (half + r) + e * LN2_LOW)) - f);
        match self {
            0.0 => f32::NEG_INFINITY,
            f32::INFINITY => f32::INFINITY,
            x if x > 0.0 => ln,
            _ => f32::NAN,
        }
    }

    #[inline(always)]
    fn fast_ln_1p<const FUSED: bool>(self) -> f32 {
        // ln(1 + x) = 2s + 2s³/3 + 2s⁵/5 + … with s = x / (2 + x), at most 1/3: the terms left out are below 2⁻²⁹. The
        // first is x − s · x, so that a small x is kept as it is.
        let s = self / (2.0 + self);
        let z = s * s;
        const P: [f32; 7] = [2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0, 2.0 / 11.0, 2.0 / 13.0, 2.0 / 15.0];
        self - s * (self - z * polynomial::<FUSED, _>(z, P))
    }

    #[inline(always)]
    fn fast_tanh<const FUSED: bool>(self) -> f32 {
        let size = self.abs();
        let z = self * self;
        let tanh_over_x3 =
            polynomial::<FUSED, _>(z, [-0.333_332_84, 0.133_314_91, -0.053_743_497, 0.020_650_585, -0.005_717_042]);
        let near = mul_add::<FUSED>(self, z * tanh_over_x3, self);
        let far = 1.0 - 2.0 / ((2.0 * if size > 10.0 { 10.0 } else { size }).exp_of_middle::<FUSED>() + 1.0);
        (if size < 0.625 { near } else { far }).copysign(self)
    }

    #[inline(always)]
    fn sigmoid<const FUSED: bool>(self) -> f32 {
        let size = self.abs();
        let e = exp_of_negative::<FUSED>(-if size > 104.0 { 104.0 } else { size }); // both tails keep their digits
        (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
    }

    #[inline(always)]
    fn normal_distribution<const FUSED: bool>(self) -> (f32, f32) {
        let size = self.abs();
        let size = if size > 15.0 { 15.0 } else { size }; // Φ(−15) is 0 in f32
        // x²/2 would lose digits that the exponential magnifies: split it. `high` has 12 bits, its square is exact.
        let high = f32::from_bits(size.to_bits() & 0xffff_f000);
        let (fraction, n) = exp_parts::<FUSED>(-0.5 * high * high, -0.5 * (size - high) * (size + high));
        let e = scale_down(1.0 + fraction, n);
        // Φ(−x) = e^(−x²/2) · k · p(1 − k) with k = 1 / (1 + 19/64 · x): Hastings' form, around x = 0.
        let k = 1.0 / (1.0 + 0.296_875 * size);
        const P: [f32; 10] = [
            0.5,
            -0.843_805_5,
            0.648_945_7,
            -0.103_943_67,
            -0.140_871_25,
            0.028_393_172,
            0.019_028_633,
            0.059_049_135,
            -0.068_661_42,
            0.020_307_56,
        ];
        let tail = e * (k * polynomial::<FUSED, _>(0.296_875 * size * k, P));
        const TOP: f32 = 0.398_942_3; // 1 / √(2π)
        (if self < 0.0 { tail } else { 1.0 - tail }, scale_down(mul_add::<FUSED>(TOP, fraction, TOP), n))
    }
}

/// `eˣ` for an `x` from −130 to 0.
#[inline(always)]
fn exp_of_negative<const FUSED: bool>(x: f32) -> f32 {
    let (fraction, n) = exp_parts::<FUSED>(x, 0.0);
    scale_down(1.0 + fraction, n)
}

/// `x · 2ⁿ` for an `n` from −190 to 0.
#[inline(always)]
fn scale_down(x: f32, n: i32) -> f32 {
    const UP: i32 = 64; // keeps the first factor normal; the second product rounds, if the result is subnormal
    x * power_of_two(n.wrapping_add(UP)) * const { 1.0 / (1u128 << UP) as f32 }
}

/// `e^(high + low) = (1 + fraction) · 2ⁿ`, with a fraction between −0.3 and 0.42.
#[inline(always)]
fn exp_parts<const FUSED: bool>(high: f32, low: f32) -> (f32, i32) {
    // The last sum is not fused: with it, eˣ would be off by 1.004 ulp at −48.87.
    // n = the integer nearest to high / ln 2: adding 1.5 · 2²³ pushes the fraction out of the mantissa.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = mul_add::<FUSED>(high, LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = mul_add::<FUSED>(n, -LN2_HIGH, high) + mul_add::<FUSED>(n, -LN2_LOW, low);
    let q = polynomial::<FUSED, _>(r, [0.499_999_93, 0.166_665_2, 0.041_668_394, 0.008_368_78, 0.001_381_448_3]);
    (r + r * r * q, shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32)
}

/// `2ⁿ` for an exponent that `f32` has: −126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// Two factors of `2ⁿ`, since the exponents of one would not reach from −150 to 128.
#[inline(always)]
fn factors(n: i32) -> [f32; 2] {
    [power_of_two(n >> 1), power_of_two(n.wrapping_sub(n >> 1))]
}

/// `a · b + c`
#[inline(always)]
fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `c[0] + c[1] · x + c[2] · x² + …` by Horner's rule.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    for i in (0..N - 1).rev() {
        y = mul_add::<FUSED>(y, x, c[i]);
    }
    y
}

impl Math for f64 {
    #[inline(always)]
    fn fast_exp<const FUSED: bool>(self) -> f64 {
        self.exp()
    }

    #[inline(always)]
    fn exp_of_middle<const FUSED: bool>(self) -> f64 {
        self.exp()
    }

    #[inline(always)]
    fn fast_exp_m1<const FUSED: bool>(self) -> f64 {
        self.exp_m1()
    }

    #[inline(always)]
    fn fast_ln<const FUSED: bool>(self) -> f64 {
        self.ln()
    }

    #[inline(always)]
    fn fast_ln_1p<const FUSED: bool>(self) -> f64 {
        self.ln_1p()
    }

    #[inline(always)]
    fn fast_tanh<const FUSED: bool>(self) -> f64 {
        self.tanh()
    }

    #[inline(always)]
    fn sigmoid<const FUSED: bool>(self) -> f64 {
        let e = (-self.abs()).exp();
        (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
    }

    #[inline(always)]
    fn normal_distribution<const FUSED: bool>(self) -> (f64, f64) {
        let distribution = 0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2);
        (distribution, (-0.5 * self * self).exp() * 0.398_942_280_401_432_7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every so many bit patterns of `f32`: odd, so that all parts of the mantissa vary.
    const STRIDE: usize = if cfg!(miri) { 9_999_991 } else { 9_973 };

    /// The greatest distance between `f` and `exact`, in units of the last place of the exact value.
    fn worst_ulp(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let mut worst = 0.0f64;
        for bits in (0..=u32::MAX).step_by(STRIDE) {
            let x = f32::from_bits(bits);
            let (y, exact) = (f(x), exact(x as f64));
            let rounded = exact as f32;
            if exact.is_nan() || rounded.is_infinite() || y.is_infinite() {
                assert!(y == rounded || (y.is_nan() && rounded.is_nan()), "f({x:e}) = {y:e}, not {exact:e}");
                continue;
            }
            let last_place = 2f64.powf(exact.abs().log2().floor().max(-126.0) - 23.0);
            let error = (y as f64 - exact).abs() / last_place;
            assert!(error < 1e3, "f({x:e}) = {y:e}, not {exact:e}");
            worst = worst.max(error);
        }
        worst
    }

    #[test]
    fn errors_stay_within_their_bounds() {
        errors::<false>();
        errors::<true>();
    }

    fn errors<const FUSED: bool>() {
        let normal = |x: f64| x.normal_distribution::<FUSED>();
        assert!(worst_ulp(f32::fast_exp::<FUSED>, f64::exp) <= 1.0);
        assert!(worst_ulp(f32::fast_exp_m1::<FUSED>, f64::exp_m1) <= 2.0);
        assert!(worst_ulp(f32::fast_ln::<FUSED>, f64::ln) <= 1.0);
        assert!(worst_ulp(|x| x.abs().min(1.0).fast_ln_1p::<FUSED>(), |x| x.abs().min(1.0).ln_1p()) <= 2.0);
        assert!(worst_ulp(f32::fast_tanh::<FUSED>, f64::tanh) <= 2.0);
        assert!(worst_ulp(f32::sigmoid::<FUSED>, f64::sigmoid::<FUSED>) <= 3.0);
        assert!(worst_ulp(|x| x.abs().normal_distribution::<FUSED>().0, |x| normal(x.abs()).0) <= 3.0);
        assert!(worst_ulp(|x| x.normal_distribution::<FUSED>().0, |x| normal(x).0) <= 8.0);
        assert!(worst_ulp(|x| x.normal_distribution::<FUSED>().1, |x| normal(x).1) <= 2.0);
    }

    #[test]
    fn the_short_ways_give_the_same_bits() {
        short_ways::<false>();
        short_ways::<true>();
    }

    fn short_ways<const FUSED: bool>() {
        for x in (0..=u32::MAX).step_by(STRIDE).map(f32::from_bits).filter(|x| (-87.0..=88.0).contains(x)) {
            assert_eq!(x.exp_of_middle::<FUSED>().to_bits(), x.fast_exp::<FUSED>().to_bits(), "at {x:e}");
        }
        for x in (0..=u32::MAX).step_by(STRIDE).map(f32::from_bits).filter(|x| (-130.0..=0.0).contains(x)) {
            assert_eq!(exp_of_negative::<FUSED>(x).to_bits(), x.fast_exp::<FUSED>().to_bits(), "at {x:e}"); // 0 below −104
        }
    }

    #[test]
    fn edges_are_exact() {
        edges::<false>();
        edges::<true>();
    }

    fn edges<const FUSED: bool>() {
        let (infinity, tiny) = (f32::INFINITY, f32::from_bits(1));
        for (f, x, y) in [
            (f32::fast_exp::<FUSED> as fn(f32) -> f32, 0.0, 1.0),
            (f32::fast_exp::<FUSED>, -infinity, 0.0),
            (f32::fast_exp::<FUSED>, infinity, infinity),
            (f32::fast_exp::<FUSED>, 88.722_84, infinity), // just above ln(f32::MAX)
            (f32::fast_exp_m1::<FUSED>, 0.0, 0.0),
            (f32::fast_exp_m1::<FUSED>, tiny, tiny),
            (f32::fast_exp_m1::<FUSED>, -infinity, -1.0),
            (f32::fast_exp_m1::<FUSED>, infinity, infinity),
            (f32::fast_ln_1p::<FUSED>, tiny, tiny),
            (f32::fast_ln::<FUSED>, 1.0, 0.0),
            (f32::fast_ln::<FUSED>, 0.0, -infinity),
            (f32::fast_ln::<FUSED>, -0.0, -infinity),
            (f32::fast_ln::<FUSED>, infinity, infinity),
            (f32::fast_ln::<FUSED>, tiny, -103.278_93), // −149 · ln 2
            (f32::fast_tanh::<FUSED>, infinity, 1.0),
            (f32::fast_tanh::<FUSED>, -infinity, -1.0),
            (f32::fast_tanh::<FUSED>, tiny, tiny),
            (f32::sigmoid::<FUSED>, 0.0, 0.5),
            (f32::sigmoid::<FUSED>, infinity, 1.0),
            (f32::sigmoid::<FUSED>, -infinity, 0.0),
            (|x| x.normal_distribution::<FUSED>().0, 0.0, 0.5),
            (|x| x.normal_distribution::<FUSED>().0, infinity, 1.0),
            (|x| x.normal_distribution::<FUSED>().0, -infinity, 0.0),
            (|x| x.normal_distribution::<FUSED>().1, infinity, 0.0),
        ] {
            assert_eq!(f(x), y, "at {x:e}");
            assert!(f(f32::NAN).is_nan());
        }
        assert!(f32::fast_ln::<FUSED>(-1.0).is_nan() && f32::fast_ln::<FUSED>(-infinity).is_nan());
        assert!(f32::fast_tanh::<FUSED>(-0.0).is_sign_negative());
    }

    #[test]
    fn normal_distribution_agrees_with_tables() {
        // NIST Handbook of Mathematical Functions, 1964, table 26.1: Φ(1), Φ(2), Φ(3); φ(1).
        for (x, expected) in [(1.0, 0.841344746068543), (2.0, 0.977249868051821), (3.0, 0.998650101968370)] {
            assert!((f64::normal_distribution::<false>(x).0 - expected).abs() < 1e-15);
            assert!((f64::normal_distribution::<false>(-x).0 - (1.0 - expected)).abs() < 1e-15);
        }
        assert!((f64::normal_distribution::<false>(1.0).1 - 0.241970724519143).abs() < 1e-15);
    }
}
