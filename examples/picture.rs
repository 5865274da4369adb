//! A picture of a digit, made to look like MNIST's: white on black, 20 × 20 at most, centered by mass in 28 × 28.
//!
//! Networks know only what they were trained on: a photograph of a digit must be brought into the same form.

use crate::Result;
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, Luma};
use maplet::prelude::*;
use std::path::Path;

const SIDE: u32 = 28;
const BOX: u32 = 20;
/// Pictures with a longer side are made smaller first.
const LARGE: u32 = 256;

/// Reads a picture (PNG) as a network's input: `[1, 1, 28, 28]`, from 0 to 1.
///
/// # Errors
/// A file that is no picture, or a picture that is all of one shade.
///
/// # Reference
/// The steps are those of LeCun, Cortes & Burges, "The MNIST database of handwritten digits".
pub fn load(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let named = |error: image::ImageError| format!("{}: {error}", path.display());
    let picture = image::ImageReader::open(path)
        .and_then(|reader| reader.with_guessed_format())
        .map_err(|error| named(error.into()))?
        .decode()
        .map_err(named)?;
    let digit = like_mnist(&picture).ok_or_else(|| {
        format!("{}: nothing is drawn on it; help: give a dark digit on a light ground, or the reverse", path.display())
    })?;
    let values: Vec<f32> = digit.pixels().map(|Luma([value])| f32::from(*value) / 255.0).collect();
    Ok(Tensor::from_vec(values, [1, 1, SIDE as usize, SIDE as usize])?)
}

/// The digit in a picture in MNIST's form, or nothing if the picture is all of one shade.
pub fn like_mnist(picture: &DynamicImage) -> Option<GrayImage> {
    // Averaging takes the grain out of photographs, which would else be taken for ink.
    let ink = match picture.width().max(picture.height()) {
        0..=LARGE => ink(picture),
        _ => ink(&picture.resize(LARGE, LARGE, FilterType::Triangle)),
    };
    let (x, y, width, height) = bounds(&ink)?;
    let digit = imageops::crop_imm(&ink, x, y, width, height).to_image();

    // The longer side becomes 20 pixels, the aspect ratio stays.
    let scale = f64::from(BOX) / f64::from(width.max(height));
    let fit = |side: u32| ((f64::from(side) * scale).round() as u32).clamp(1, BOX);
    let digit = imageops::resize(&digit, fit(width), fit(height), FilterType::Triangle);

    let (mass_x, mass_y) = center_of_mass(&digit);
    let at = |mass: f64| (f64::from(SIDE) / 2.0 - mass).round() as i64;
    let mut image = GrayImage::new(SIDE, SIDE);
    imageops::overlay(&mut image, &digit, at(mass_x), at(mass_y));
    Some(image)
}

/// How much ink is at each pixel: 0 for the ground, 255 for the strongest stroke, whichever of them is the lighter.
fn ink(picture: &DynamicImage) -> GrayImage {
    // Transparent pixels show white, as on a page.
    let gray = picture.to_luma_alpha8();
    let shade = |p: &image::LumaA<u8>| {
        let [value, alpha] = p.0.map(u32::from);
        ((value * alpha + 255 * (255 - alpha)) / 255) as u8
    };
    let mut ink = GrayImage::from_fn(gray.width(), gray.height(), |x, y| Luma([shade(gray.get_pixel(x, y))]));
    // The ground is what most of the border shows.
    let (right, bottom) = (ink.width().saturating_sub(1), ink.height().saturating_sub(1));
    let on_border = |x: u32, y: u32| x == 0 || y == 0 || x == right || y == bottom;
    let mut border: Vec<u8> =
        ink.enumerate_pixels().filter(|(x, y, _)| on_border(*x, *y)).map(|(_, _, p)| p.0[0]).collect();
    border.sort_unstable();
    let ground = border.get(border.len() / 2).copied().unwrap_or(0);
    let light = ground > 127;
    let strength = |value: u8| if light { ground.saturating_sub(value) } else { value.saturating_sub(ground) };
    let strongest = ink.pixels().map(|p| strength(p.0[0])).max().unwrap_or(0);
    let stretch = |value: u8| (u32::from(strength(value)) * 255 / u32::from(strongest.max(1))) as u8;
    ink.pixels_mut().for_each(|p| p.0[0] = if strongest < 32 { 0 } else { stretch(p.0[0]) });
    ink
}

/// The box around everything darker than a smudge: left, top, width, height.
fn bounds(ink: &GrayImage) -> Option<(u32, u32, u32, u32)> {
    const SMUDGE: u8 = 32;
    let drawn = || ink.enumerate_pixels().filter(|(_, _, p)| p.0[0] > SMUDGE);
    let (left, right) = (drawn().map(|(x, _, _)| x).min()?, drawn().map(|(x, _, _)| x).max()?);
    let (top, bottom) = (drawn().map(|(_, y, _)| y).min()?, drawn().map(|(_, y, _)| y).max()?);
    Some((left, top, right - left + 1, bottom - top + 1))
}

/// Where the ink would balance, in pixels from the left and from the top.
fn center_of_mass(image: &GrayImage) -> (f64, f64) {
    let (mut mass, mut x_sum, mut y_sum) = (0.0, 0.0, 0.0);
    for (x, y, Luma([value])) in image.enumerate_pixels() {
        let value = f64::from(*value);
        mass += value;
        x_sum += value * (f64::from(x) + 0.5);
        y_sum += value * (f64::from(y) + 0.5);
    }
    (x_sum / mass, y_sum / mass)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of a bar: `ink` on `ground`.
    fn bar(width: u32, height: u32, (x, y, w, h): (u32, u32, u32, u32), ink: u8, ground: u8) -> DynamicImage {
        let inside = |px, py| (x..x + w).contains(&px) && (y..y + h).contains(&py);
        GrayImage::from_fn(width, height, |px, py| Luma([if inside(px, py) { ink } else { ground }])).into()
    }

    #[test]
    fn a_bar_is_scaled_centered_and_white_on_black() {
        // 40 wide, 100 high becomes 8 × 20; centered: columns 10 to 17, rows 4 to 23.
        for (ink, ground) in [(20, 240), (230, 10), (0, 255)] {
            let image = like_mnist(&bar(250, 200, (30, 60, 40, 100), ink, ground)).unwrap();
            assert_eq!(image.dimensions(), (28, 28));
            for (x, y, Luma([value])) in image.enumerate_pixels() {
                let inside = (10..18).contains(&x) && (4..24).contains(&y);
                assert_eq!(*value, if inside { 255 } else { 0 }, "{ink} on {ground}: {x} {y}");
            }
        }
    }

    #[test]
    fn nothing_is_found_on_an_empty_page_or_in_noise() {
        assert!(like_mnist(&bar(50, 50, (0, 0, 0, 0), 0, 255)).is_none());
        assert!(like_mnist(&bar(50, 50, (10, 10, 5, 5), 200, 220)).is_none());
    }

    #[test]
    fn grain_is_not_ink() {
        let mut rng = Rng::new(1);
        let page = bar(600, 500, (100, 100, 80, 200), 60, 230).to_luma8();
        let mut grainy = page.clone();
        grainy.pixels_mut().for_each(|p| p.0[0] = (f64::from(p.0[0]) + 6.0 * rng.normal()) as u8);
        let (clean, grainy) = (like_mnist(&page.into()).unwrap(), like_mnist(&grainy.into()).unwrap());
        for (a, b) in clean.pixels().zip(grainy.pixels()) {
            assert!(a.0[0].abs_diff(b.0[0]) < 40, "{a:?} {b:?}");
        }
    }

    #[test]
    fn place_and_polarity_do_not_matter() {
        let data = digits(10, 1);
        for digit in data.images().as_slice::<u8>().unwrap().chunks(784) {
            let picture = GrayImage::from_raw(28, 28, digit.to_vec()).unwrap();
            let mut page = GrayImage::from_pixel(120, 60, Luma([255]));
            let mut inverted = picture.clone();
            imageops::invert(&mut inverted);
            imageops::overlay(&mut page, &inverted, 37, 5);
            assert_eq!(like_mnist(&page.into()), like_mnist(&picture.into()));
        }
    }

    #[test]
    fn files_that_are_no_pictures_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let text = || load(&path).unwrap_err().to_string();
        assert_eq!(text(), format!("{}: No such file or directory (os error 2)", path.display()));
        std::fs::write(&path, "no picture").unwrap();
        assert!(text().starts_with(&format!("{}: ", path.display())), "{}", text());
        GrayImage::new(30, 30).save(&path).unwrap();
        let expected = "nothing is drawn on it; help: give a dark digit on a light ground, or the reverse";
        assert_eq!(text(), format!("{}: {expected}", path.display()));
    }
}
