//! Whether scores lie where they should, for pictures whose right pixels are known.
//!
//! Arras, Osman & Samek, *CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network explanations*, 2022,
//! arXiv 2003.07258, measure relevance mass and rank.

use candle_core::Tensor;

use crate::attribution::{Attribution, Features};
use crate::resample::{Interpolation, resample};
use crate::tensor::numbers;
use crate::{Error, Result};

/// Scores over `(h,w)` pixels or over patches, mask `(h,w)` of ones and zeros → whether the highest score lies on a one: the
/// pointing game (Zhang et al. 2018, arXiv 1608.00507, without its margin of 15 pixels). Of several highest scores, most must.
///
/// Errors: scores over something else; a mask of another size, or without ones or zeros.
///
/// **When it misleads**: it looks at one pixel and no other, and the larger the object, the easier it is hit by chance. It asks
/// where a person would look: a model that decides by the background is explained rightly by a map that misses.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::pointing_game;
/// let why = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &Tensor::new(&[[[0.1f64, 0.9]]], &Device::Cpu)?)?;
/// assert!(pointing_game(&why, &Tensor::new(&[[0u8, 1]], &Device::Cpu)?)?);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn pointing_game(why: &Attribution, mask: &Tensor) -> Result<bool> {
    let ranked = Ranked::new(why, mask)?;
    let top = ranked.pixels[0].0;
    let best: Vec<bool> =
        ranked.pixels.iter().take_while(|(score, _)| *score == top).map(|(_, inside)| *inside).collect();
    Ok(2 * best.iter().filter(|inside| **inside).count() > best.len())
}

/// Scores, mask → the mean precision of the pixels above every threshold, weighted by how much recall it adds: the area under
/// the curve of precision over recall, in steps. 1 if all pixels inside score higher than all outside; the share of ones if
/// scores know nothing.
///
/// Errors: those of [`pointing_game`].
///
/// **When it misleads**: chance has the share of ones, so objects of different size are not comparable; how far scores are
/// apart does not count. And as [`pointing_game`], it knows where the object is, not what the model used.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::average_precision;
/// let scores = Tensor::new(&[[[0.9f64, 0.5, 0.4, 0.1]]], &Device::Cpu)?;
/// let why = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &scores)?;
/// let mask = Tensor::new(&[[1u8, 0, 1, 0]], &Device::Cpu)?;
/// assert!((average_precision(&why, &mask)? - (0.5 * 1.0 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn average_precision(why: &Attribution, mask: &Tensor) -> Result<f64> {
    let Ranked { pixels, inside } = Ranked::new(why, mask)?;
    let (mut seen, mut hits, mut area) = (0.0, 0.0, 0.0);
    for tied in pixels.chunk_by(|a, b| a.0 == b.0) {
        let gained = tied.iter().filter(|(_, inside)| *inside).count() as f64;
        (seen, hits) = (seen + tied.len() as f64, hits + gained);
        area += gained / inside as f64 * hits / seen;
    }
    Ok(area)
}

/// Scores, mask → the share of all positive scores that lies on ones (relevance mass accuracy, CLEVR-XAI). 0 if no score
/// is positive.
///
/// Errors: those of [`pointing_game`].
///
/// **When it misleads**: negative scores do not count, so a map that is right where it is positive and wild elsewhere is
/// perfect; and a little everywhere outside outweighs much inside. Otherwise as [`average_precision`].
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{relevance_mass, relevance_rank};
/// let scores = Tensor::new(&[[[3.0f64, 1.0, -2.0]]], &Device::Cpu)?;
/// let why = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &scores)?;
/// let mask = Tensor::new(&[[1u8, 0, 1]], &Device::Cpu)?;
/// assert_eq!((relevance_mass(&why, &mask)?, relevance_rank(&why, &mask)?), (0.75, 0.5));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn relevance_mass(why: &Attribution, mask: &Tensor) -> Result<f64> {
    let Ranked { pixels, .. } = Ranked::new(why, mask)?;
    let sum = |of: &dyn Fn(bool) -> bool| {
        pixels.iter().filter(|(_, inside)| of(*inside)).map(|(score, _)| score.max(0.0)).sum::<f64>()
    };
    let all = sum(&|_| true);
    Ok(if all > 0.0 { sum(&|inside| inside) / all } else { 0.0 })
}

/// Scores, mask of k ones → the share of ones among the k pixels of highest score (relevance rank accuracy, CLEVR-XAI).
/// Where scores tie at the k-th place, ones and zeros among them count in proportion.
///
/// Errors: those of [`pointing_game`].
///
/// **When it misleads**: a model that needs a part of the object alone cannot have 1; what lies behind the k-th place does not
/// count. Otherwise as [`average_precision`].
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::relevance_rank;
/// let scores = Tensor::new(&[[[3.0f64, 1.0, -2.0]]], &Device::Cpu)?;
/// let why = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &scores)?;
/// assert_eq!(relevance_rank(&why, &Tensor::new(&[[1u8, 0, 1]], &Device::Cpu)?)?, 0.5);    // 3 is in it, 1 is not
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn relevance_rank(why: &Attribution, mask: &Tensor) -> Result<f64> {
    let Ranked { pixels, inside } = Ranked::new(why, mask)?;
    let (mut left, mut hits) = (inside as f64, 0.0);
    for tied in pixels.chunk_by(|a, b| a.0 == b.0) {
        let (taken, gained) = (left.min(tied.len() as f64), tied.iter().filter(|(_, inside)| *inside).count() as f64);
        (left, hits) = (left - taken, hits + gained * taken / tied.len() as f64);
    }
    Ok(hits / inside as f64)
}

/// Every pixel's score and whether it should be high, highest score first.
struct Ranked {
    pixels: Vec<(f64, bool)>,
    /// How many pixels should be high.
    inside: usize,
}

impl Ranked {
    fn new(why: &Attribution, mask: &Tensor) -> Result<Self> {
        let &[height, width] = mask.dims() else { return Err(Error::shape("the mask", "(h, w)", mask.dims())) };
        let scores = numbers(&map(why, height, width)?)?;
        let ones = numbers(mask)?;
        if let Some(other) = ones.iter().find(|one| **one != 0.0 && **one != 1.0) {
            return Err(Error::argument(format!("a mask is made of ones and zeros, and this one holds {other}")));
        }
        let right: Vec<bool> = ones.into_iter().map(|one| one == 1.0).collect();
        let inside = right.iter().filter(|right| **right).count();
        if inside == 0 || inside == right.len() {
            return Err(Error::argument("a mask needs ones, where scores should be high, and zeros"));
        }
        let mut pixels: Vec<(f64, bool)> = scores.into_iter().zip(right).collect();
        pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(Self { pixels, inside })
    }
}

/// The scores as `(h,w)`: those of patches enlarged as a figure shows them.
fn map(why: &Attribution, height: usize, width: usize) -> Result<Tensor> {
    match &why.features {
        Features::Elements { .. } => map(&why.clone().over_pixels()?, height, width),
        Features::Patches { rows, columns } if rows * width == columns * height => {
            resample(&why.tensor()?, height, width, Interpolation::Bilinear)
        }
        Features::Patches { rows, columns } => {
            Err(Error::shape("the mask", format!("one of {rows} : {columns}, as the patches"), &[height, width]))
        }
        Features::Pixels { height: rows, width: columns } if (*rows, *columns) == (height, width) => why.tensor(),
        Features::Pixels { height: rows, width: columns } => {
            Err(Error::shape("the mask", format!("({rows}, {columns}), as the scores"), &[height, width]))
        }
        _ => Err(Error::argument("scores over a text have no place in a picture")),
    }
}
