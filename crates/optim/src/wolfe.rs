//! The line search of [`Lbfgs`](crate::Lbfgs): a step length that satisfies the strong Wolfe conditions.

use maplet_autograd::Tensor;

/// What was found at one step length along a direction.
#[derive(Clone)]
pub(crate) struct Point {
    pub(crate) t: f64,
    pub(crate) loss: f64,
    pub(crate) grad: Tensor,
    /// The derivative of the loss along the direction.
    pub(crate) slope: f64,
}

/// How much of the expected fall is enough (C1), and how much of the slope may be left (C2).
const C1: f64 = 1e-4;
const C2: f64 = 0.9;

/// A point that satisfies the strong Wolfe conditions, or the best one after `most` steps; and the number of
/// evaluations.
///
/// # Reference
/// Nocedal & Wright (2006), "Numerical Optimization", algorithms 3.5 and 3.6, in PyTorch's form.
pub(crate) fn strong_wolfe<E>(
    mut at: impl FnMut(f64) -> Result<Point, E>,
    start: &Point,
    first: f64,
    longest: f64,
    tolerance: f64,
    most: usize,
) -> Result<(Point, usize), E> {
    let too_high = |point: &Point| point.loss > start.loss + C1 * point.t * start.slope;
    let flat = |point: &Point| point.slope.abs() <= -C2 * start.slope;

    // Forwards, until the best point is between two.
    let (mut steps, mut before, mut now) = (0, start.clone(), at(first)?);
    let mut bracket = loop {
        if steps == most {
            break [start.clone(), now];
        }
        if too_high(&now) || (steps > 1 && now.loss >= before.loss) {
            break [before, now];
        }
        if flat(&now) {
            return Ok((now, steps + 1));
        }
        if now.slope >= 0.0 {
            break [before, now];
        }
        let t = cubic(&before, &now, Some((now.t + 0.01 * (now.t - before.t), now.t * 10.0)));
        before = now;
        now = at(t)?;
        steps += 1;
    };

    // Inwards, until one satisfies both conditions.
    let order = |bracket: &[Point; 2]| if bracket[0].loss <= bracket[1].loss { (0, 1) } else { (1, 0) };
    let (mut low, mut high) = order(&bracket);
    let mut stuck = false;
    while steps < most && (bracket[1].t - bracket[0].t).abs() * longest >= tolerance {
        let (left, right) = (bracket[0].t.min(bracket[1].t), bracket[0].t.max(bracket[1].t));
        let mut t = cubic(&bracket[0], &bracket[1], None);
        let margin = 0.1 * (right - left);
        let close = (right - t).min(t - left) < margin;
        if close && (stuck || t >= right || t <= left) {
            t = if (t - right).abs() < (t - left).abs() { right - margin } else { left + margin };
            stuck = false;
        } else {
            stuck = close;
        }
        let now = at(t)?;
        steps += 1;
        if too_high(&now) || now.loss >= bracket[low].loss {
            bracket[high] = now;
            (low, high) = order(&bracket);
            continue;
        }
        let done = flat(&now);
        if !done && now.slope * (bracket[high].t - bracket[low].t) >= 0.0 {
            bracket[high] = bracket[low].clone();
        }
        bracket[low] = now;
        if done {
            break;
        }
    }
    let [first, second] = bracket;
    Ok((if low == 0 { first } else { second }, steps + 1))
}

/// The lowest place of the cubic through both points with both slopes, within bounds; the middle if there is none.
fn cubic(a: &Point, b: &Point, bounds: Option<(f64, f64)>) -> f64 {
    let (low, high) = bounds.unwrap_or((a.t.min(b.t), a.t.max(b.t)));
    let d1 = a.slope + b.slope - 3.0 * (a.loss - b.loss) / (a.t - b.t);
    let square = d1 * d1 - a.slope * b.slope;
    if square < 0.0 || square.is_nan() {
        return (low + high) / 2.0;
    }
    let (near, far) = if a.t <= b.t { (a, b) } else { (b, a) };
    let d2 = square.sqrt();
    let t = far.t - (far.t - near.t) * ((far.slope + d2 - d1) / (far.slope - near.slope + 2.0 * d2));
    t.max(low).min(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches along `loss(t)` with the derivative `slope(t)`.
    fn search(loss: fn(f64) -> f64, slope: fn(f64) -> f64, first: f64) -> (f64, usize) {
        let grad = Tensor::scalar(0.0f64);
        let point = |t: f64| Ok::<_, ()>(Point { t, loss: loss(t), grad: grad.clone(), slope: slope(t) });
        let (found, evaluations) = strong_wolfe(point, &point(0.0).unwrap(), first, 1.0, 1e-9, 25).unwrap();
        (found.t, evaluations)
    }

    #[test]
    fn the_lowest_place_of_a_cubic_is_found_at_once() {
        // t³ − 3t falls to t = 1.
        let point =
            |t: f64| Point { t, loss: t * t * t - 3.0 * t, grad: Tensor::scalar(0.0f64), slope: 3.0 * t * t - 3.0 };
        assert!((cubic(&point(0.0), &point(2.0), None) - 1.0).abs() < 1e-15);
        assert!((cubic(&point(2.0), &point(0.0), None) - 1.0).abs() < 1e-15);
        assert_eq!(cubic(&point(0.0), &point(2.0), Some((1.5, 2.0))), 1.5);
    }

    #[test]
    fn both_conditions_hold_where_it_ends() {
        type Function = fn(f64) -> f64;
        let functions: [[Function; 2]; 3] = [
            [|t| (t - 3.0).powi(2), |t| 2.0 * (t - 3.0)],
            [|t| -t / (t * t + 2.0), |t| (t * t - 2.0) / (t * t + 2.0).powi(2)], // Moré & Thuente's first
            [|t| (t - 1.0).powi(4) - t, |t| 4.0 * (t - 1.0).powi(3) - 1.0],
        ];
        for (i, [loss, slope]) in functions.into_iter().enumerate() {
            for first in [1e-3, 0.1, 1.0, 10.0] {
                let (t, evaluations) = search(loss, slope, first);
                assert!(loss(t) <= loss(0.0) + C1 * t * slope(0.0), "{i}, from {first}: {t}");
                assert!(slope(t).abs() <= -C2 * slope(0.0), "{i}, from {first}: {t}");
                assert!(evaluations < 20, "{i}, from {first}: {evaluations}");
            }
        }
    }
}
