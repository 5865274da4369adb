//! Which vector instructions this machine has, found out once at run time.

use std::sync::OnceLock;

/// The instruction sets that kernels are compiled for, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// What every machine of the target has.
    Plain,
    /// x86-64 with AVX2 and FMA: 8 `f32` at once.
    Avx2,
    /// x86-64 with AVX-512 (F, VL, BW, DQ): 16 `f32` at once.
    Avx512,
}

/// The best instruction set of this machine. `MAPLET_SIMD=plain` or `avx2` in the environment holds it down.
pub fn simd() -> Simd {
    static LEVEL: OnceLock<Simd> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let limit = match std::env::var("MAPLET_SIMD").as_deref() {
            Ok("plain") => Simd::Plain,
            Ok("avx2") => Simd::Avx2,
            _ => Simd::Avx512,
        };
        detected().min(limit)
    })
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn detected() -> Simd {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (true, true) => Simd::Avx512,
        (true, false) => Simd::Avx2,
        _ => Simd::Plain,
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn detected() -> Simd {
    Simd::Plain
}

/// Whether every machine of the target multiplies and adds in one instruction.
pub(crate) const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// Compiles a loop three times, for each level of [`Simd`], and calls the one for this machine.
///
/// In the body the constant `FUSED` says whether there are fused multiply-adds: where there are none, `mul_add` would
/// be a call of a library's function.
///
/// The body is ordinary safe Rust that the compiler vectorises; what it calls must be `#[inline(always)]` or small.
/// The first parameter is the element's type, which says how many of the three are worth compiling.
/// Constant parameters stand after a semicolon: `fn walk<T: Float; const N: usize>(..)`.
/// A macro, because a function cannot be generic over its target features.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident <$t:ident : $t_bound:path $(, $g:ident : $bound:path)* $(; $(const $n:ident : $n_type:ty),+)?> ($($arg:ident : $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name <$t: $t_bound, $($g: $bound,)* $($(const $n: $n_type),+)?> ($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn body <$t: $t_bound, $($g: $bound,)* $($(const $n: $n_type,)+)? const FUSED: bool> ($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 <$t: $t_bound, $($g: $bound,)* $($(const $n: $n_type),+)?> ($($arg: $type),*) $(-> $ret)? { body::<$t, $($g,)* $($($n,)+)? true>($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            fn avx512 <$t: $t_bound, $($g: $bound,)* $($(const $n: $n_type),+)?> ($($arg: $type),*) $(-> $ret)? { body::<$t, $($g,)* $($($n,)+)? true>($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            {
                if $t::AVX512 && $crate::simd::simd() == $crate::simd::Simd::Avx512 {
                    // SAFETY: `simd` found these features on this machine.
                    return unsafe { avx512($($arg),*) };
                }
                if $t::AVX2 && $crate::simd::simd() >= $crate::simd::Simd::Avx2 {
                    // SAFETY: as above; AVX-512 is only found together with AVX2.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body::<$t, $($g,)* $($($n,)+)? { $crate::simd::FUSED }>($($arg),*)
        }
    };
}
pub(crate) use vectorized;
