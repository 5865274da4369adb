//! One handwritten-looking digit: a style, a shaky hand, a slant, a pen.

use super::render::{Pen, SIDE, draw};
use super::strokes::{Point, STYLES, curve};
use maplet_tensor::Rng;
use std::f32::consts::TAU;
use std::iter;

/// The side of the box that the digit fills, in pixels, as in MNIST.
const BOX: f32 = 20.0;

/// Draws `digit` as `rng` has it, white (255) on black (0).
pub(super) fn sample(digit: usize, rng: &mut Rng) -> [u8; SIDE * SIDE] {
    let pen = Pen {
        radius: (1.26 * (0.25 * normal(rng)).exp()).clamp(0.7, 2.3),
        edge: uniform(rng, 1.0, 1.5),
        ink: uniform(rng, 0.95, 1.1),
    };
    let mut strokes = write(digit, rng);
    warp(&mut strokes, rng);
    tilt(&mut strokes, digit, rng);
    fit(&mut strokes, pen.radius + 0.5 * pen.edge, rng);

    let mut picture = [0.0f32; SIDE * SIDE];
    for stroke in &strokes {
        let (amount, speed, phase) = (uniform(rng, 0.0, 0.2), uniform(rng, 0.1, 0.3), uniform(rng, 0.0, TAU));
        draw(&mut picture, stroke, pen, |i| 1.0 + amount * (phase + speed * i as f32).sin());
    }
    let grain = uniform(rng, 0.0, 0.12);
    picture.map(|pixel| match pixel {
        0.0 => 0, // paper: MNIST's background is exactly black
        pixel => (255.0 * pixel * (1.0 + grain * normal(rng))).clamp(0.0, 255.0).round() as u8,
    })
}

/// The strokes of one style of the digit, each point moved a little: no two writers agree on where it lies.
fn write(digit: usize, rng: &mut Rng) -> Vec<Vec<Point>> {
    let styles = STYLES[digit];
    let choice = rng.below(styles.iter().map(|(weight, _)| weight).sum());
    let mut weighted = styles.iter().flat_map(|(weight, glyph)| iter::repeat_n(glyph, *weight));
    let glyph = weighted.nth(choice).expect("choice is below the sum of the weights");

    let shake = uniform(rng, 0.01, if digit == 1 { 0.02 } else { 0.045 }); // a stick that shakes looks like a worm
    let mut last = ([f32::NAN; 2], [0.0; 2]); // a corner's two points move together
    let mut moved = |&point: &Point| {
        if last.0 != point {
            last = (point, point.map(|x| x + shake * normal(rng)));
        }
        last.1
    };
    glyph.iter().map(|stroke| curve(&stroke.iter().map(&mut moved).collect::<Vec<_>>())).collect()
}

/// Bends the paper: the upper half grows at the lower's expense, and slow waves move every point smoothly.
fn warp(strokes: &mut [Vec<Point>], rng: &mut Rng) {
    let mut waves = [[0.0f32; 4]; 4];
    for wave in &mut waves {
        *wave = [0.028 * normal(rng), uniform(rng, -4.5, 4.5), uniform(rng, -4.5, 4.5), uniform(rng, 0.0, TAU)];
    }
    let growth = (0.2 * normal(rng)).clamp(-0.4, 0.4);
    for [x, y] in strokes.iter_mut().flatten() {
        *y += growth * *y * (1.0 - *y);
        let [a, b, c, d] = waves.map(|[size, fx, fy, phase]| size * (fx * *x + fy * *y + phase).sin());
        (*x, *y) = (*x + a + b, *y + c + d);
    }
}

/// Narrow or wide, slanted (mostly to the right) and turned.
fn tilt(strokes: &mut [Vec<Point>], digit: usize, rng: &mut Rng) {
    let width = 1.12 * (0.2 * normal(rng)).exp();
    let slant = 0.14 + 0.2 * normal(rng);
    let turn = if digit == 1 { 0.12 } else { 0.09 } * normal(rng);
    let (sin, cos) = turn.clamp(-0.35, 0.35).sin_cos();
    for [x, y] in strokes.iter_mut().flatten() {
        let (u, v) = (width * *x - slant * *y, *y);
        (*x, *y) = (cos * u - sin * v, sin * u + cos * v);
    }
}

/// Scales the digit to the 20 × 20 box and puts its center of mass near the middle of the picture, as MNIST does.
///
/// `reach` is how far ink goes beyond the line.
fn fit(strokes: &mut [Vec<Point>], reach: f32, rng: &mut Rng) {
    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
    let (mut mass, mut center) = (0.0, [0.0; 2]);
    for stroke in &*strokes {
        for (p, q) in stroke.iter().zip(&stroke[1..]) {
            let length = (q[0] - p[0]).hypot(q[1] - p[1]);
            mass += length;
            for axis in 0..2 {
                low[axis] = low[axis].min(p[axis]).min(q[axis]);
                high[axis] = high[axis].max(p[axis]).max(q[axis]);
                center[axis] += length * 0.5 * (p[axis] + q[axis]);
            }
        }
    }
    let size = (high[0] - low[0]).max(high[1] - low[1]);
    let scale = uniform(rng, 0.95, 1.02) * (BOX - 2.0 * reach) / size;
    let margin = reach + 1.5; // the border stays black, whatever the pressure
    for axis in 0..2 {
        let middle = SIDE as f32 / 2.0 + uniform(rng, -1.0, 1.0);
        let shift = (middle - scale * center[axis] / mass)
            .min(SIDE as f32 - margin - scale * high[axis])
            .max(margin - scale * low[axis]);
        strokes.iter_mut().flatten().for_each(|point| point[axis] = shift + scale * point[axis]);
    }
}

fn uniform(rng: &mut Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.uniform() as f32
}

fn normal(rng: &mut Rng) -> f32 {
    rng.normal() as f32
}
