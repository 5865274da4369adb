//! Random weights of a special kind: cut off, orthogonal, sparse.

use crate::{Error, Result};
use maplet_tensor::{Rng, Shape, Tensor};

/// Normal, but drawn anew while outside `[low, high]` (PyTorch's bounds are ±2).
///
/// PyTorch: `nn.init.trunc_normal_`; Keras: `TruncatedNormal`.
///
/// # Errors
/// A standard deviation that is not above 0, and bounds with no `f32` between them.
///
/// ```
/// use maplet_nn_layers::init::trunc_normal;
/// use maplet_tensor::Rng;
///
/// let weight = trunc_normal([128, 50], 0.0, 0.02, -0.04, 0.04, &mut Rng::new(42))?;
/// assert!(weight.as_slice::<f32>()?.iter().all(|w| w.abs() <= 0.04));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
///
/// # Reference
/// Robert (1995), "Simulation of truncated normal variables", for bounds far from the mean.
pub fn trunc_normal(
    shape: impl Into<Shape>,
    mean: f64,
    std: f64,
    low: f64,
    high: f64,
    rng: &mut Rng,
) -> Result<Tensor> {
    const NAME: &str = "trunc_normal";
    if !(mean.is_finite() && std.is_finite() && std > 0.0) {
        let what = format!("mean is {mean}, std is {std}");
        return Err(Error::new(NAME, what, "use finite numbers, and a std above 0"));
    }
    // The lowest `f32` that is not below `low`.
    let lowest = if f64::from(low as f32) < low { (low as f32).next_up() } else { low as f32 };
    if low.is_nan() || high.is_nan() || low >= high || f64::from(lowest) > high {
        return Err(Error::new(NAME, format!("low is {low}, high is {high}"), "use a low below the high"));
    }
    // Candidates are uniform where the interval is short against the bell above it: then fewer are refused.
    let z = |x: f64| (x - mean) / std;
    let top = (-0.5 * z(mean.clamp(low, high)).powi(2)).exp();
    let uniform = (high - low) * top < std * std::f64::consts::TAU.sqrt();
    let mut draw = || loop {
        let x = match uniform {
            true => low + (high - low) * rng.uniform(),
            false => mean + std * rng.normal(),
        };
        let rounded = f64::from(x as f32);
        let inside = (low..=high).contains(&rounded);
        if inside && (!uniform || rng.uniform() * top <= (-0.5 * z(x).powi(2)).exp()) {
            return x as f32;
        }
    };
    let shape = shape.into();
    Ok(Tensor::from_vec((0..shape.elements()).map(|_| draw()).collect(), shape)?)
}

/// A random orthogonal matrix times `gain`, every one as likely as any other. All axes but the first count as one; of
/// rows and columns those that are fewer are orthogonal.
///
/// PyTorch: `nn.init.orthogonal_`; Keras: `Orthogonal`.
///
/// # Numerics
/// Products of different rows (columns) are below 1e-6 · gain².
///
/// # Errors
/// A shape without two axes.
///
/// # Reference
/// Saxe, McClelland & Ganguli (2014), "Exact solutions to the nonlinear dynamics of learning in deep linear neural
/// networks"; Mezzadri (2007), "How to generate random matrices from the classical compact groups".
pub fn orthogonal(shape: impl Into<Shape>, gain: f64, rng: &mut Rng) -> Result<Tensor> {
    let shape = shape.into();
    if shape.rank() < 2 {
        let what = format!("a weight of {shape} is no matrix");
        return Err(Error::new("orthogonal", what, "it needs two axes or more: [rows, ..columns]"));
    }
    let (rows, columns) = (shape[0], shape.sizes()[1..].iter().product());
    let vectors = orthonormal(rows.min(columns), rows.max(columns), rng);
    let element = |i: usize| match rows <= columns {
        true => vectors[i / columns][i % columns],
        false => vectors[i % columns][i / columns],
    };
    Ok(Tensor::from_vec((0..shape.elements()).map(|i| (gain * element(i)) as f32).collect(), shape)?)
}

/// Random vectors of length 1 that are orthogonal to each other: Gram & Schmidt, twice, which loses no digits.
fn orthonormal(count: usize, len: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut found: Vec<Vec<f64>> = Vec::with_capacity(count);
    while found.len() < count {
        let mut new: Vec<f64> = (0..len).map(|_| rng.normal()).collect();
        for other in found.iter().chain(&found) {
            let share = dot(&new, other);
            new.iter_mut().zip(other).for_each(|(x, other)| *x -= share * other);
        }
        let length = dot(&new, &new).sqrt();
        new.iter_mut().for_each(|x| *x /= length);
        if length > 1e-6 {
            found.push(new); // else it was almost a sum of the others
        }
    }
    found
}

/// Normal with mean 0, but in each column the part `sparsity` of all rows, rounded up, are zeros.
///
/// PyTorch: `nn.init.sparse_`; Keras: –.
///
/// # Errors
/// A shape that has not two axes, and a part that is not from 0 to 1.
///
/// # Reference
/// Martens (2010), "Deep learning via Hessian-free optimization", section 5.
pub fn sparse(shape: impl Into<Shape>, sparsity: f64, std: f64, rng: &mut Rng) -> Result<Tensor> {
    let shape = shape.into();
    let &[rows, columns] = shape.sizes() else {
        let what = format!("a weight of {shape} is no matrix");
        return Err(Error::new("sparse", what, "it needs two axes: [rows, columns]"));
    };
    if !(0.0..=1.0).contains(&sparsity) {
        return Err(Error::new("sparse", format!("sparsity is {sparsity}"), "use a part of the rows, from 0 to 1"));
    }
    let zeros = (sparsity * rows as f64).ceil() as usize;
    let mut elements: Vec<f32> = (0..rows * columns).map(|_| (std * rng.normal()) as f32).collect();
    for column in 0..columns {
        rng.permutation(rows).into_iter().take(zeros).for_each(|row| elements[row * columns + column] = 0.0);
    }
    Ok(Tensor::from_vec(elements, shape)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::moments;
    use super::*;

    /// Mean and variance of a truncated normal distribution, from its density on a fine grid.
    fn expected(mean: f64, std: f64, low: f64, high: f64) -> (f64, f64) {
        let n = 100_000;
        let x = |i: usize| low + (high - low) * (i as f64 + 0.5) / n as f64;
        let density = |x: f64| (-0.5 * ((x - mean) / std).powi(2)).exp();
        let sum = |f: &dyn Fn(f64) -> f64| (0..n).map(|i| density(x(i)) * f(x(i))).sum::<f64>();
        let center = sum(&|x| x) / sum(&|_| 1.0);
        (center, sum(&|x| (x - center).powi(2)) / sum(&|_| 1.0))
    }

    #[test]
    fn cut_off_normals_have_their_moments() {
        let (n, mut rng) = (20_000, Rng::new(7));
        for (mean, std, low, high) in
            [(0.0, 1.0, -2.0, 2.0), (0.0, 1.0, -0.1, 0.3), (3.0, 0.5, 2.9, 9.0), (0.0, 1.0, 4.0, 6.0)]
        {
            let weight = trunc_normal([n], mean, std, low, high, &mut rng).unwrap();
            assert!(weight.as_slice::<f32>().unwrap().iter().all(|x| (low..=high).contains(&f64::from(*x))));
            let (found, spread, _) = moments(&weight);
            let (center, var) = expected(mean, std, low, high);
            // Five standard errors; that of a variance is at most √(2/n) for such flat tails.
            assert!((found - center).abs() < 5.0 * (var / n as f64).sqrt(), "{low}: {found} {center}");
            assert!((spread * spread / var - 1.0).abs() < 5.0 * (8.0 / n as f64).sqrt(), "{low}: {spread} {var}");
        }
    }

    #[test]
    fn rows_or_columns_are_orthogonal() {
        for shape in [[5, 12], [12, 5], [6, 6], [1, 4], [4, 1]] {
            let weight = orthogonal(shape, 2.0, &mut Rng::new(3)).unwrap();
            let across = weight.transpose(0, 1).unwrap();
            let (product, few) = match shape[0] <= shape[1] {
                true => (weight.matmul(&across).unwrap(), shape[0]),
                false => (across.matmul(&weight).unwrap(), shape[1]),
            };
            let identity = super::super::eye([few, few]).unwrap().mul_scalar(4.0);
            let off = product.sub(&identity).unwrap().abs().max(.., false).unwrap().item::<f32>().unwrap();
            assert!(off < 4e-6, "{shape:?}: {off}"); // a sum of 12 products of numbers rounded to 24 bits
        }
        assert_eq!(orthogonal([4, 3, 2, 2], 1.0, &mut Rng::new(3)).unwrap().shape(), Shape::from([4, 3, 2, 2]));
        assert!(orthogonal([0, 3], 1.0, &mut Rng::new(3)).unwrap().is_empty());
    }

    /// The mean of an element of a random orthogonal matrix is 0, and its square's 1/n.
    #[test]
    fn orthogonal_matrices_are_spread_evenly() {
        let (n, mut rng) = (3000, Rng::new(5));
        let corner: Vec<f64> = (0..n)
            .map(|_| f64::from(orthogonal([3, 3], 1.0, &mut rng).unwrap().as_slice::<f32>().unwrap()[8]))
            .collect();
        let mean = corner.iter().sum::<f64>() / n as f64;
        let square = corner.iter().map(|x| x * x).sum::<f64>() / n as f64;
        // On the sphere in three dimensions an element is uniform in [−1, 1]: variance 1/3, of its square 4/45.
        assert!(mean.abs() < 5.0 * (1.0 / 3.0 / n as f64).sqrt(), "{mean}");
        assert!((square - 1.0 / 3.0).abs() < 5.0 * (4.0 / 45.0 / n as f64).sqrt(), "{square}");
    }

    #[test]
    fn sparse_columns_have_their_zeros() {
        let weight = sparse([10, 400], 0.25, 0.1, &mut Rng::new(1)).unwrap();
        let x = weight.to_vec::<f32>().unwrap();
        for column in 0..400 {
            assert_eq!((0..10).filter(|row| x[row * 400 + column] == 0.0).count(), 3); // 2.5, rounded up
        }
        let others: Vec<f32> = x.into_iter().filter(|x| *x != 0.0).collect();
        let len = others.len();
        let (mean, std, _) = moments(&Tensor::from_vec(others, [len]).unwrap());
        assert!(
            mean.abs() < 5.0 * 0.1 / (len as f64).sqrt() && (std / 0.1 - 1.0).abs() < 5.0 / (2.0 * len as f64).sqrt()
        );
        assert_eq!(sparse([3, 2], 1.0, 0.1, &mut Rng::new(1)).unwrap(), super::super::zeros([3, 2]));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let rng = &mut Rng::new(1);
        let text = trunc_normal([2], 0.0, 0.0, -1.0, 1.0, rng).unwrap_err().to_string();
        assert_eq!(text, "trunc_normal: mean is 0, std is 0; help: use finite numbers, and a std above 0");
        let text = trunc_normal([2], 0.0, 1.0, 1.0, 1.0, rng).unwrap_err().to_string();
        assert_eq!(text, "trunc_normal: low is 1, high is 1; help: use a low below the high");
        let text = orthogonal([3], 1.0, rng).unwrap_err().to_string();
        assert_eq!(
            text,
            "orthogonal: a weight of [3] is no matrix; help: it needs two axes or more: [rows, ..columns]"
        );
        let text = sparse([3], 0.5, 1.0, rng).unwrap_err().to_string();
        assert_eq!(text, "sparse: a weight of [3] is no matrix; help: it needs two axes: [rows, columns]");
        let text = sparse([3, 2], 1.5, 1.0, rng).unwrap_err().to_string();
        assert_eq!(text, "sparse: sparsity is 1.5; help: use a part of the rows, from 0 to 1");
    }
}
