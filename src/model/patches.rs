//! From pixels to tokens: a picture in square patches, each projected to channels.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};

use super::blocks::{Chain, Linear, Stage};
use super::hook::Clear;
use super::image::Image;
use super::presence::presence;
use super::processor::Processor;
use super::weights::Weights;
use crate::{Error, Result};

/// How a model cuts pictures into patches, and what it puts in front of them.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let patches = vit.patches();
/// let [rows, columns] = patches.grid();
/// assert_eq!([rows * patches.side(), columns * patches.side()], patches.size());
/// assert_eq!(patches.count() + patches.ahead(), vit.readout()?.elem_count());    // all tokens
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Patches {
    processor: Processor,
    /// Height and width of the pictures the model reads, in pixels.
    size: [usize; 2],
    /// A patch's side, in pixels.
    side: usize,
    projection: Chain,
    /// `(1,k,c)`: class token and the like, positions included.
    front: Option<Tensor>,
    /// `(1,t,c)`: the patches' positions, if they have any.
    positions: Option<Tensor>,
    /// A tensor of the weights' precision, on their device.
    like: Tensor,
}

impl Patches {
    /// From the projection's weight `(c,3,p,p)` and bias `(c,)`, the tokens in front `(k,c)`, and positions: none, those of
    /// the patches `(t,c)`, or of all tokens `(k+t,c)`.
    pub(crate) fn new(
        processor: Processor,
        size: [usize; 2],
        [weight, bias]: [Option<Tensor>; 2],
        front: Option<Tensor>,
        positions: Option<Tensor>,
    ) -> Result<Self> {
        let weight = weight.ok_or_else(|| Error::argument("there is no projection of patches"))?;
        let &[_, 3, side, other] = weight.dims() else {
            return Err(Error::shape("the projection of patches", "(c, 3, p, p)", weight.dims()));
        };
        if side != other || side == 0 || size.iter().any(|length| *length < side) {
            return Err(Error::argument(format!("patches of {side} × {other} pixels do not cut {size:?} pixels")));
        }
        let projection = Chain::new(vec![Stage::Linear(of_pixels(&processor, &weight, bias)?)]);
        let patches = Self { processor, size, side, projection, front: None, positions: None, like: weight };
        let batched = |x: Tensor| x.unsqueeze(0);
        let Some(positions) = positions else {
            return Ok(Self { front: front.map(batched).transpose()?, ..patches });
        };
        if positions.rank() != 2 {
            return Err(Error::shape("the position embeddings", "(t, c)", positions.dims()));
        }
        let (count, ahead) = (patches.count(), front.as_ref().map_or(0, |front| front.dims()[0]));
        let (front, positions) = match positions.dims()[0].checked_sub(count) {
            Some(0) => (front, positions),
            Some(k) if k == ahead => (
                front.map(|front| &front + positions.narrow(0, 0, k)?).transpose()?,
                positions.narrow(0, k, count)?.contiguous()?,
            ),
            _ => {
                let wanted = format!("({count}, c) for patches, or ({}, c) for all tokens", count + ahead);
                return Err(Error::shape("the position embeddings", wanted, positions.dims()));
            }
        };
        Ok(Self { front: front.map(batched).transpose()?, positions: Some(batched(positions)?), ..patches })
    }

    /// How pictures are brought to the model's size and colours.
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.size.map(|length| length / self.side)
    }

    /// Height and width of the pictures the model reads, in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// A patch's side, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// How many tokens stand in front of the patches: class token, distillation token, registers.
    pub fn ahead(&self) -> usize {
        self.front.as_ref().map_or(0, |front| front.dims()[1])
    }

    /// How many patches there are.
    pub fn count(&self) -> usize {
        self.grid().iter().product()
    }

    /// Pixels `(n,3,h,w)` between 0 and 1 → tokens `(n,k+t,c)`, differentiable.
    pub(crate) fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        self.embed_patches(&self.cut(pixels)?)
    }

    /// Patches `(n,t,3·p·p)` → tokens `(n,k+t,c)`, differentiable.
    pub(crate) fn embed_patches(&self, patches: &Tensor) -> Result<Tensor> {
        let x = self.projection.forward(patches, None, &mut Clear)?;
        let x = match &self.positions {
            Some(positions) => x.broadcast_add(positions)?,
            None => x,
        };
        match &self.front {
            Some(front) => {
                let (n, _, c) = x.dims3()?;
                Ok(Tensor::cat(&[&front.broadcast_as((n, front.dims()[1], c))?.contiguous()?, &x], 1)?)
            }
            None => Ok(x),
        }
    }

    /// The tokens `(1,k+t,c)` of one picture's pixels `(3,h,w)`, and which of them each of n variants keeps if it has the patches
    /// that `present`, `(n,t)`, has ones for: those in front always stay.
    ///
    /// Errors: shapes that differ from these; numbers in `present` other than 0 and 1.
    pub(super) fn variants(&self, pixels: &Tensor, present: &Tensor) -> Result<(Tensor, Vec<Vec<bool>>)> {
        let kept = presence(present, self.count())?;
        let kept = kept.into_iter().map(|patches| [vec![true; self.ahead()], patches].concat()).collect();
        Ok((self.embed(&pixels.unsqueeze(0)?)?, kept))
    }

    /// Pixels `(n,3,h,w)` → patches `(n,t,3·p·p)`, row by row; what does not fill a patch is left out.
    pub(crate) fn cut(&self, pixels: &Tensor) -> Result<Tensor> {
        let ([height, width], [rows, columns], p) = (self.size, self.grid(), self.side);
        let n = match *pixels.dims() {
            [n, 3, h, w] if [h, w] == self.size => n,
            _ => return Err(Error::shape("the pixels", format!("(n, 3, {height}, {width})"), pixels.dims())),
        };
        let x = pixels.narrow(2, 0, rows * p)?.narrow(3, 0, columns * p)?;
        let x = x.reshape(&[n, 3, rows, p, columns, p][..])?.permute([0, 2, 4, 1, 3, 5])?;
        Ok(x.reshape((n, rows * columns, 3 * p * p))?)
    }

    /// Patches `(n,t,3·p·p)` → pixels `(n,3,h,w)`; 0 where no patch was.
    pub(crate) fn put_together(&self, patches: &Tensor) -> Result<Tensor> {
        let ([height, width], [rows, columns], p, n) = (self.size, self.grid(), self.side, patches.dim(0)?);
        let x = patches.reshape(&[n, rows, columns, 3, p, p][..])?.permute([0, 3, 1, 4, 2, 5])?;
        let x = x.reshape((n, 3, rows * p, columns * p))?;
        Ok(x.pad_with_zeros(2, 0, height - rows * p)?.pad_with_zeros(3, 0, width - columns * p)?)
    }
}

/// The tensor with the places of patches, in whatever shape it has.
pub(crate) fn places(weights: &Weights, name: &str) -> Result<Tensor> {
    let missing = || Error::argument(format!("there is no tensor `{name}`, and patches need places"));
    weights.whole(name)?.ok_or_else(missing)
}

/// Normalising pixels, (x − mean)/std, and projecting patches are one linear map: W/std, and b − W·(mean/std).
pub(super) fn of_pixels(processor: &Processor, weight: &Tensor, bias: Option<Tensor>) -> Result<Linear> {
    let (mean, std) = processor.normalisation();
    let channelwise = |x: [f64; 3]| Tensor::new(&x, &Device::Cpu)?.reshape((1, 3, 1, 1));
    let exact = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.broadcast_div(&channelwise(std)?)?;
    let shift = exact.broadcast_mul(&channelwise(mean)?)?.flatten_from(1)?.sum(D::Minus1)?;
    let alike = |x: Tensor| x.to_dtype(weight.dtype())?.to_device(weight.device());
    let shifted = match bias {
        Some(bias) => (bias.to_device(&Device::Cpu)?.to_dtype(DType::F64)? - shift)?,
        None => shift.neg()?,
    };
    Linear::new(alike(exact.flatten_from(1)?)?, Some(alike(shifted)?))
}

/// What models that see have in common: pictures of any size become pixels of theirs, and tokens have places.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let picture = vit.fit(&pellucid::zoo::photo("cat")?)?;
/// assert_eq!(vit.pixels(&picture)?.dims(), [3, 64, 64]);
/// let rolled = rollout_row(&vit.attention(&picture)?, &vit.readout()?, &Rollout::default())?.squeeze(0)?;
/// assert_eq!(vit.on_grid(&rolled)?.dims(), vit.patches().grid());    // without the class token
/// # Ok::<(), pellucid::Error>(())
/// ```
pub trait Vision {
    /// How the model cuts pictures into patches.
    fn patches(&self) -> &Patches;

    /// A picture as the model reads it: resized and cut as its checkpoint says, still in its own colours.
    ///
    /// Errors: those of [`Image::open`] and [`Processor::fit`].
    fn read(&self, path: impl AsRef<Path>) -> Result<Image>
    where
        Self: Sized,
    {
        self.fit(&Image::open(path)?)
    }

    /// The same of a picture in memory.
    ///
    /// Errors: those of [`Processor::fit`].
    fn fit(&self, picture: &Image) -> Result<Image> {
        self.patches().processor().fit(picture)
    }

    /// The pixels `(3,h,w)` of a picture of the model's size, between 0 and 1: what attributions are over. The forward
    /// normalises them.
    ///
    /// Errors: a picture of another size.
    fn pixels(&self, picture: &Image) -> Result<Tensor> {
        let [height, width] = self.patches().size();
        if [picture.height(), picture.width()] != [height, width] {
            return Err(Error::argument(format!(
                "the picture is {} × {} pixels and the model reads {width} × {height}: bring it to that size with `fit`, or \
                 open it with `read`",
                picture.width(),
                picture.height()
            )));
        }
        let like = &self.patches().like;
        Ok(picture.pixels_in(like.dtype())?.to_device(like.device())?)
    }

    /// One number per token `(t,)` → those of the patches, `(rows,columns)`: a class token and others in front are left out.
    ///
    /// Errors: not one number per token.
    fn on_grid(&self, tokens: &Tensor) -> Result<Tensor> {
        let (ahead, count) = (self.patches().ahead(), self.patches().count());
        if tokens.dims() != [ahead + count] {
            return Err(Error::shape("the tokens' numbers", format!("({},)", ahead + count), tokens.dims()));
        }
        Ok(tokens.narrow(0, ahead, count)?.reshape(&self.patches().grid()[..])?)
    }
}
