//! A map as heat: a greyed picture under stained glass.

use candle_core::Tensor;
use image::{Rgb, RgbImage};

use super::blocks::Coarse;
use super::palette::{greyed, stained};
use crate::Result;
use crate::tensor::numbers;

/// What 99 % of |scores| do not exceed, or the largest where that is 0.
pub(super) fn full_colour(scores: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = scores.iter().map(|score| score.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let quantile = sizes[(0.99 * sizes.len() as f64).ceil() as usize - 1];
    [quantile, sizes[sizes.len() - 1]].into_iter().find(|size| *size > 0.0).unwrap_or(1.0)
}

/// The picture greyed, and stained with the map.
pub(super) fn heat(ground: &RgbImage, map: &Tensor, scale: f64, signed: bool) -> Result<RgbImage> {
    let scores = numbers(map)?;
    let width = ground.width();
    let colour = |x: u32, y: u32| {
        let score = scores[(y * width + x) as usize];
        Rgb(stained(greyed(ground.get_pixel(x, y).0), score / scale, signed))
    };
    Ok(RgbImage::from_fn(width, ground.height(), colour))
}

/// A path of minus signs where a map of `width` columns, taken coarsely, is negative: for those who cannot tell colours apart.
pub(super) fn minuses(map: &[f64], width: usize, (x, y): (f64, f64), size: (f64, f64)) -> String {
    const HALF: f64 = 2.5;
    const APART: f64 = 20.0;
    let most = ((size.0 / APART).max(1.0) as usize, (size.1 / APART).max(1.0) as usize);
    let coarse = Coarse::new(map, width, most);
    let (wide, high) = (size.0 / coarse.columns as f64, size.1 / coarse.rows as f64);
    let minus = |cell: usize| {
        let (row, column) = (cell / coarse.columns, cell % coarse.columns);
        let (x, y) = (x + (column as f64 + 0.5) * wide - HALF, y + (row as f64 + 0.5) * high);
        format!("M{x:.1} {y:.1}h{:.1}", 2.0 * HALF)
    };
    let negative = (0..coarse.shares.len()).filter(|&cell| coarse.shares[cell] <= -0.125);
    negative.map(minus).collect()
}
