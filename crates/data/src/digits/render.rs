//! Draws pen lines of varying width into a small gray picture, anti-aliased by distance.

use super::strokes::Point;

/// The side of the picture in pixels.
pub(super) const SIDE: usize = 28;

/// How a line is drawn: half its width and the width of its gray edge, in pixels, and the gray of its core.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub(super) radius: f32,
    pub(super) edge: f32,
    pub(super) ink: f32,
}

/// Draws the line through `points`, in pixels; the radius at `points[i]` is `pen.radius * pressure(i)`.
///
/// A pixel takes the darkest of what the segments give it, so that crossings do not add up.
pub(super) fn draw(picture: &mut [f32; SIDE * SIDE], points: &[Point], pen: Pen, pressure: impl Fn(usize) -> f32) {
    let (mut from, mut from_radius) = (points[0], pen.radius * pressure(0));
    for (i, &to) in points.iter().enumerate().skip(1) {
        let to_radius = pen.radius * pressure(i);
        let reach = from_radius.max(to_radius) + pen.edge;
        let range = |axis: usize| {
            let low = (from[axis].min(to[axis]) - reach).floor().max(0.0) as usize;
            let high = (from[axis].max(to[axis]) + reach).ceil().max(0.0) as usize;
            low..high.min(SIDE)
        };
        for y in range(1) {
            for x in range(0) {
                let (distance, t) = distance([x as f32 + 0.5, y as f32 + 0.5], from, to);
                let radius = from_radius + t * (to_radius - from_radius);
                let cover = ((radius - distance) / pen.edge + 0.5).clamp(0.0, 1.0);
                let pixel = &mut picture[y * SIDE + x];
                *pixel = pixel.max(pen.ink * cover);
            }
        }
        (from, from_radius) = (to, to_radius);
    }
}

/// The distance from `p` to the segment `a b`, and where on it the nearest point lies (0 at `a`, 1 at `b`).
fn distance(p: Point, a: Point, b: Point) -> (f32, f32) {
    let ([px, py], [bx, by]) = ([p[0] - a[0], p[1] - a[1]], [b[0] - a[0], b[1] - a[1]]);
    let length = bx * bx + by * by;
    let t = if length > 0.0 { ((px * bx + py * by) / length).clamp(0.0, 1.0) } else { 0.0 };
    ((px - t * bx).hypot(py - t * by), t)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEN: Pen = Pen { radius: 1.5, edge: 1.0, ink: 1.0 };

    #[test]
    fn the_ink_of_a_line_is_its_area() {
        // A stadium of length 10 and radius 1.5: 2·r·l + π·r² = 37.07 pixels, wherever it lies on the grid.
        for [dx, dy] in [[0.0, 0.0], [0.3, 0.7], [0.5, 0.1]] {
            let mut picture = [0.0; SIDE * SIDE];
            draw(&mut picture, &[[8.0 + dx, 10.0 + dy], [16.0 + dx, 16.0 + dy]], PEN, |_| 1.0);
            let area: f32 = picture.iter().sum();
            assert!((area - (30.0 + std::f32::consts::PI * 2.25)).abs() < 0.5, "{area}");
        }
    }

    #[test]
    fn lines_outside_the_picture_leave_it_black_and_a_dot_is_round() {
        let mut picture = [0.0; SIDE * SIDE];
        draw(&mut picture, &[[-9.0, -9.0], [-5.0, 40.0], [60.0, 50.0]], PEN, |_| 1.0);
        assert!(picture.iter().all(|&pixel| pixel == 0.0));
        draw(&mut picture, &[[14.0, 14.0], [14.0, 14.0]], PEN, |_| 1.0);
        for y in 0..SIDE {
            for x in 0..SIDE {
                assert_eq!(picture[y * SIDE + x], picture[x * SIDE + y], "symmetric about the diagonal");
            }
        }
        assert_eq!((picture[13 * SIDE + 13], picture[10 * SIDE + 14]), (1.0, 0.0));
    }
}
