//! How scenes are drawn, pixel by pixel as scenes.py draws them: the same integers, the same f64 arithmetic in the same order.

use candle_core::{Device, Tensor};
use image::RgbImage;

use super::scenes::{Object, Scene, Shape};
use crate::model::Image;
use crate::{Error, Result};

pub(super) const SIDE: usize = 64;
const SUBSAMPLES: usize = 4;

/// Where a pentagram's points are.
const STAR: [(f64, f64); 5] =
    [(0.0, -1.0), (0.951057, -0.309017), (0.587785, 0.809017), (-0.587785, 0.809017), (-0.951057, -0.309017)];

impl Scene {
    /// The scene as a picture, 64 × 64 pixels.
    ///
    /// Per pixel, `colour = below · (1 − coverage) + rgb · coverage`, objects one after the other; an object's coverage is
    /// the share of the pixel's 4 × 4 subsamples that lie inside it.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let scene = Scene::empty(1).with(Shape::Circle, Colour::Red, 20.0, 30.0, 10.0)?;
    /// let levels = (scene.image()?.pixels()? * 255.0)?.round()?;              // (3,64,64)
    /// assert_eq!(levels.i((.., 30, 20))?.to_vec1::<f32>()?, [205.0, 45.0, 45.0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn image(&self) -> Result<Image> {
        let mut levels = self.draw_background();
        for object in &self.objects {
            for (pixel, coverage) in levels.iter_mut().zip(object.coverage()) {
                for (level, colour) in pixel.iter_mut().zip(object.rgb) {
                    *level = *level * (1.0 - coverage) + f64::from(colour) * coverage;
                }
            }
        }
        let bytes = levels.into_iter().flatten().map(|level| (level + 0.5).floor() as u8).collect();
        let picture = RgbImage::from_raw(SIDE as u32, SIDE as u32, bytes);
        Image::of(picture.ok_or_else(|| Error::argument("the scene has another number of pixels than it should"))?)
    }

    /// `(64,64)`, `u8`: 1 where an object covers at least half of the pixel, else 0.
    ///
    /// Errors: no such object.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let scene = Scene::empty(1).with(Shape::Square, Colour::Blue, 20.0, 30.0, 10.0)?;
    /// let area = scene.mask(0)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    /// assert_eq!(area, 14.0 * 14.0);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn mask(&self, index: usize) -> Result<Tensor> {
        let mask = self.object(index)?.coverage().map(|coverage| u8::from(coverage >= 0.5));
        Ok(Tensor::from_iter(mask, &Device::Cpu)?.reshape((SIDE, SIDE))?)
    }

    fn draw_background(&self) -> Vec<[f64; 3]> {
        let at = |position: usize| (position as f64 + 0.5) / SIDE as f64 - 0.5;
        let level = |pixel: usize, channel: usize| {
            let slope = self.gradient[0] * at(pixel % SIDE) + self.gradient[1] * at(pixel / SIDE);
            let noise = f64::from(mix(self.seed, pixel as u32, channel as u32) >> 24) / 127.5 - 1.0;
            self.background[channel] + slope + self.noise * noise
        };
        (0..SIDE * SIDE).map(|pixel| [0, 1, 2].map(|channel| level(pixel, channel))).collect()
    }
}

impl Object {
    /// How much of each pixel the object covers, row by row.
    fn coverage(&self) -> impl Iterator<Item = f64> {
        let [cos, sin] = [f64::cos, f64::sin].map(|f| rounded(f(self.angle.to_radians())));
        let inside = move |x: f64, y: f64| {
            let (dx, dy) = ((x - self.x) / self.r, (y - self.y) / self.r);
            self.shape.holds(cos * dx + sin * dy, cos * dy - sin * dx)
        };
        let at = |position: usize, part: usize| position as f64 + (part as f64 + 0.5) / SUBSAMPLES as f64;
        (0..SIDE * SIDE).map(move |pixel| {
            let parts = (0..SUBSAMPLES * SUBSAMPLES)
                .filter(|part| inside(at(pixel % SIDE, part % SUBSAMPLES), at(pixel / SIDE, part / SUBSAMPLES)));
            parts.count() as f64 / (SUBSAMPLES * SUBSAMPLES) as f64
        })
    }
}

impl Shape {
    /// Whether a point lies in the shape of radius one around the origin, v downwards.
    fn holds(self, u: f64, v: f64) -> bool {
        match self {
            Self::Circle => u * u + v * v <= 1.0,
            Self::Square => u.abs() <= 0.7 && v.abs() <= 0.7,
            Self::Triangle => v <= 0.5 && 1.7320508 * u.abs() - v <= 1.0,
            Self::Cross => u.abs() <= 0.3 && v.abs() <= 0.95 || v.abs() <= 0.3 && u.abs() <= 0.95,
            Self::Ring => u * u + v * v <= 1.0 && u * u + v * v >= 0.3,
            Self::Star => STAR.iter().filter(|(x, y)| u * x + v * y <= 0.309017).count() >= 4,
        }
    }
}

/// To a multiple of 2⁻²⁰, on which every mathematical library agrees.
fn rounded(x: f64) -> f64 {
    let parts = f64::from(1 << 20);
    (x * parts + 0.5).floor() / parts
}

/// Pseudo-random 32 bits for each index and channel (the finaliser is lowbias32, by Chris Wellons).
pub(super) fn mix(seed: u32, index: u32, channel: u32) -> u32 {
    let h = seed ^ index.wrapping_mul(0x9e37_79b9) ^ channel.wrapping_mul(0x85eb_ca6b);
    let h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
    let h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}
