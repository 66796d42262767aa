//! From a picture of any size to the pixels a model reads, as the checkpoint's own processor file says.

use candle_core::{Device, Tensor};
use fast_image_resize::images::Image as Canvas;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use image::imageops::crop_imm;
use serde::Deserialize;
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::image::Image;
use crate::{Error, Result};

/// How pictures become a model's input: resized, cut, and normalised channel by channel.
///
/// Resizing is antialiased and rounds to 8 bits, as Pillow's does: one byte in a hundred may be one step off. Normalisation,
/// (x − mean)/std of x between 0 and 1, is a part of the model's forward here, so that attributions are over the picture's own
/// pixels.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let processor = vit.patches().processor();
/// let picture = processor.fit(&pellucid::zoo::photo("cat")?)?;
/// assert_eq!((picture.height(), picture.width()), (64, 64));
/// assert_eq!(processor.normalisation(), ([0.5; 3], [0.5; 3]));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Processor {
    resize: Option<Resize>,
    filter: ResizeAlg,
    crop: Option<Crop>,
    mean: [f64; 3],
    std: [f64; 3],
}

/// The middle that is cut out of a picture.
#[derive(Clone, Copy, Debug)]
struct Crop {
    /// Height and width.
    size: [usize; 2],
    /// How much is cut off above or on the left, of all that is cut off.
    first: fn(usize) -> usize,
}

/// Half of an odd rest, rounded down, as transformers has it.
fn half(rest: usize) -> usize {
    rest / 2
}

/// Half of an odd rest, rounded to the even neighbour, as torchvision has it, which timm and open_clip use.
fn even_half(rest: usize) -> usize {
    rest / 2 + usize::from(rest % 4 == 3)
}

/// The size a picture is brought to before it is cut.
#[derive(Clone, Copy, Debug)]
enum Resize {
    /// Height and width, whatever the picture's were.
    To([usize; 2]),
    /// The shorter side, the other in proportion.
    Shorter(usize),
    /// Sides that cells of so many pixels fill, as near as can be to the picture's own, and in all not fewer and not more
    /// pixels than these.
    Cells { side: usize, least: usize, most: usize },
}

impl Processor {
    /// Of a checkpoint in the Hugging Face layout: `preprocessor_config.json`, or what `processor_config.json` says of images.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Result<Self> {
        const FILES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
        for file in FILES {
            let Some(bytes) = checkpoint.file(file)? else { continue };
            let broken = |error: &dyn std::fmt::Display| Error::file(checkpoint.place(file), error);
            let json: Value = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
            let json = json.get("image_processor").cloned().unwrap_or(json);
            let config: HuggingFace = serde_json::from_value(json).map_err(|error| broken(&error))?;
            return config.processor().map_err(|error| broken(&error));
        }
        Err(checkpoint.lacks(
            FILES[0],
            "but without it nobody knows which size, cut and colours the model was trained with. Copy it from where the weights \
             came from",
        ))
    }

    /// Of a timm checkpoint's `pretrained_cfg`.
    pub(crate) fn timm(config: &Value) -> Result<Self> {
        let Timm { input_size: [_, height, width], interpolation, crop_pct, crop_mode, mean, std } =
            Timm::deserialize(config)?;
        let scaled = |side: usize| (side as f64 / crop_pct).floor() as usize;
        let resize = match crop_mode.as_str() {
            "squash" => Resize::To([scaled(height), scaled(width)]),
            "center" if height == width => Resize::Shorter(scaled(height)),
            other => return Err(Error::argument(format!("the crop mode `{other}` is not known for this size"))),
        };
        let crop = Some(Crop { size: [height, width], first: even_half });
        Self { resize: Some(resize), filter: filter(&interpolation)?, crop, mean, std }.checked()
    }

    /// Of open_clip's `preprocess_cfg`, for a square of this side.
    pub(crate) fn open_clip(config: &Value, side: usize) -> Result<Self> {
        let config = OpenClip::deserialize(config)?;
        let resize = match config.resize_mode.as_str() {
            "shortest" => Resize::Shorter(side),
            "squash" => Resize::To([side, side]),
            other => return Err(Error::argument(format!("the resize mode `{other}` is not known"))),
        };
        let (filter, crop) = (filter(&config.interpolation)?, Some(Crop { size: [side, side], first: even_half }));
        Self { resize: Some(resize), filter, crop, mean: config.mean, std: config.std }.checked()
    }

    /// With pictures of at most so many pixels, where they are read in cells.
    pub(crate) fn at_most(mut self, pixels: Option<usize>) -> Self {
        if let (Some(Resize::Cells { least, most, .. }), Some(pixels)) = (&mut self.resize, pixels) {
            (*least, *most) = ((*least).min(pixels), (*most).min(pixels));
        }
        self
    }

    /// The side of the cells that pictures are brought to fill; `None` if they are brought to one size.
    pub(crate) fn cell(&self) -> Option<usize> {
        match self.resize {
            Some(Resize::Cells { side, .. }) => Some(side),
            _ => None,
        }
    }

    /// Errors if normalisation would divide by nothing.
    fn checked(self) -> Result<Self> {
        let (means, stds) = (self.mean, self.std);
        match means.iter().all(|x| x.is_finite()) && stds.iter().all(|x| x.is_finite() && *x > 0.0) {
            true => Ok(self),
            false => Err(Error::argument(format!(
                "mean {means:?} and std {stds:?} do not normalise colours: stds are above 0"
            ))),
        }
    }

    /// A picture of any size → the same resized and cut, still in its own colours.
    ///
    /// Errors: a picture too small to be cut; one so long and thin that resizing it would fill the memory.
    pub fn fit(&self, picture: &Image) -> Result<Image> {
        let resized = match self.resize {
            Some(resize) => resized(picture.rgb(), resize.target(picture)?, self.filter)?,
            None => picture.rgb().clone(),
        };
        Image::of(match self.crop {
            Some(crop) => middle(&resized, crop)?,
            None => resized,
        })
    }

    /// Pixels `(3,h,w)` or `(n,3,h,w)` between 0 and 1 → (x − mean)/std channel by channel: what the network was trained on,
    /// and what its first matrix does here by itself.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let white = vit.patches().processor().normalise(&Tensor::ones((3, 1, 1), DType::F64, &Device::Cpu)?)?;
    /// assert_eq!(white.flatten_all()?.to_vec1::<f64>()?, [1.0; 3]);    // (1 − ½)/½
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn normalise(&self, pixels: &Tensor) -> Result<Tensor> {
        let channelwise = |x: [f64; 3]| {
            Tensor::new(&x, &Device::Cpu)?.reshape((3, 1, 1))?.to_dtype(pixels.dtype())?.to_device(pixels.device())
        };
        Ok(pixels.broadcast_sub(&channelwise(self.mean)?)?.broadcast_div(&channelwise(self.std)?)?)
    }

    /// (mean, std) of each channel, of pixels between 0 and 1.
    pub fn normalisation(&self) -> ([f64; 3], [f64; 3]) {
        (self.mean, self.std)
    }
}

impl Resize {
    /// Height and width to resize a picture to; the longer side is rounded down, as torchvision does.
    fn target(self, picture: &Image) -> Result<[usize; 2]> {
        const MOST: usize = 1 << 26;
        let (height, width) = (picture.height(), picture.width());
        let [tall, wide] = match self {
            Self::To(size) => size,
            Self::Shorter(side) if height <= width => [side, side.saturating_mul(width) / height],
            Self::Shorter(side) => [side.saturating_mul(height) / width, side],
            Self::Cells { side, least, most } => in_cells([height, width], side, [least, most])?,
        };
        // rows are made shorter first, so as many rows as the picture has are in between
        match (tall.saturating_mul(wide).max(wide.saturating_mul(height)), tall.max(wide)) {
            (0..=MOST, 0..=MOST) => Ok([tall, wide]),
            _ => Err(Error::argument(format!(
                "the picture is {width} × {height} pixels; resized as this model wants it, it would be {wide} × {tall}: cut \
                 out a part that is less long and thin"
            ))),
        }
    }
}

/// Height and width in whole cells, as Qwen2-VL's processor rounds them: half to even, and then larger or smaller in proportion.
fn in_cells(size: [usize; 2], side: usize, [least, most]: [usize; 2]) -> Result<[usize; 2]> {
    let [height, width] = size.map(|length| length as f64);
    let (cell, ratio) = (side as f64, height.max(width) / height.min(width));
    if ratio > 200.0 {
        return Err(Error::argument(format!(
            "the picture is {width} × {height} pixels, one side {ratio:.0} times the other; this model's processor refuses \
             more than 200: cut out a part that is less long and thin"
        )));
    }
    let near = size.map(|length| (length as f64 / cell).round_ties_even() * cell);
    let [tall, wide] = match near[0] * near[1] {
        area if area > most as f64 => {
            let smaller = (height * width / most as f64).sqrt();
            [height, width].map(|length| ((length / smaller / cell).floor() * cell).max(cell))
        }
        area if area < least as f64 => {
            let larger = (least as f64 / (height * width)).sqrt();
            [height, width].map(|length| (length * larger / cell).ceil() * cell)
        }
        _ => near,
    };
    Ok([tall as usize, wide as usize])
}

/// Resized as Pillow does it: the filter grows with the reduction, rows are made shorter before columns, and what is in
/// between has 8 bits. By itself, fast_image_resize would begin with the columns.
fn resized(picture: &RgbImage, [height, width]: [usize; 2], filter: ResizeAlg) -> Result<RgbImage> {
    let between = pass(picture, [picture.height() as usize, width], filter)?;
    pass(&between, [height, width], filter)
}

/// Resized along one axis.
fn pass(picture: &RgbImage, [height, width]: [usize; 2], filter: ResizeAlg) -> Result<RgbImage> {
    let wrong = |error: &dyn std::fmt::Display| Error::argument(format!("the picture cannot be resized: {error}"));
    let (tall, wide) = (height as u32, width as u32);
    let from = Canvas::from_vec_u8(picture.width(), picture.height(), picture.as_raw().clone(), PixelType::U8x3)
        .map_err(|error| wrong(&error))?;
    let mut to = Canvas::new(wide, tall, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(filter);
    Resizer::new().resize(&from, &mut to, &options).map_err(|error| wrong(&error))?;
    RgbImage::from_raw(wide, tall, to.into_vec()).ok_or_else(|| wrong(&"sizes differ"))
}

/// The middle of a picture.
fn middle(picture: &RgbImage, Crop { size: [height, width], first }: Crop) -> Result<RgbImage> {
    let (tall, wide) = (picture.height() as usize, picture.width() as usize);
    if tall < height || wide < width {
        return Err(Error::argument(format!("{width} × {height} pixels cannot be cut from {wide} × {tall}")));
    }
    let (left, top) = (first(wide - width), first(tall - height));
    Ok(crop_imm(picture, left as u32, top as u32, width as u32, height as u32).to_image())
}

/// A filter by the name timm and open_clip use.
fn filter(name: &str) -> Result<ResizeAlg> {
    Ok(ResizeAlg::Convolution(match name {
        "bilinear" => FilterType::Bilinear,
        "bicubic" => FilterType::CatmullRom,
        "lanczos" => FilterType::Lanczos3,
        other => return Err(Error::argument(format!("the interpolation `{other}` is not known"))),
    }))
}

/// Hugging Face's processor file, as far as it decides pixels. What an old file leaves out is its type's default.
#[derive(Deserialize)]
struct HuggingFace {
    #[serde(default, alias = "feature_extractor_type")]
    image_processor_type: String,
    #[serde(default = "yes")]
    do_resize: bool,
    #[serde(default)]
    size: Option<Size>,
    #[serde(default)]
    resample: Option<u8>,
    #[serde(default)]
    do_center_crop: Option<bool>,
    #[serde(default)]
    crop_size: Option<Size>,
    #[serde(default = "yes")]
    do_rescale: bool,
    #[serde(default = "of_bytes")]
    rescale_factor: f64,
    #[serde(default = "yes")]
    do_normalize: bool,
    #[serde(default)]
    image_mean: Option<[f64; 3]>,
    #[serde(default)]
    image_std: Option<[f64; 3]>,
    /// Of those that read pictures of any size.
    #[serde(default)]
    patch_size: Option<usize>,
    #[serde(default)]
    merge_size: Option<usize>,
    #[serde(default)]
    min_pixels: Option<usize>,
    #[serde(default)]
    max_pixels: Option<usize>,
}

/// A side alone means a square, or for CLIP the shorter side.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Sides {
        height: usize,
        width: usize,
    },
    /// The least and the most pixels, of those that read pictures of any size.
    Edges {
        shortest_edge: usize,
        longest_edge: usize,
    },
    Shorter {
        shortest_edge: usize,
    },
}

/// What transformers takes for a type whose file does not say: size, crop, filter, mean and std.
struct Defaults {
    size: Size,
    crop: Option<usize>,
    resample: u8,
    mean: [f64; 3],
    std: [f64; 3],
}

const HALF: [f64; 3] = [0.5; 3];
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Whether a type of processor brings pictures to whole cells instead of to one size.
fn reads_any_size(kind: &str) -> bool {
    kind.starts_with("Qwen2VL") || kind.starts_with("Qwen2_5_VL")
}

fn defaults(kind: &str) -> Defaults {
    let square = |side| Size::Sides { height: side, width: side };
    let (clip, deit) = (kind.starts_with("CLIP"), kind.starts_with("DeiT"));
    match (clip, deit) {
        _ if reads_any_size(kind) => {
            Defaults { size: square(0), crop: None, resample: 3, mean: CLIP_MEAN, std: CLIP_STD }
        }
        (true, _) => Defaults {
            size: Size::Shorter { shortest_edge: 224 },
            crop: Some(224),
            resample: 3,
            mean: CLIP_MEAN,
            std: CLIP_STD,
        },
        (_, true) => Defaults { size: square(256), crop: Some(224), resample: 3, mean: HALF, std: HALF },
        _ => Defaults { size: square(224), crop: None, resample: 2, mean: HALF, std: HALF },
    }
}

impl HuggingFace {
    fn processor(self) -> Result<Processor> {
        let defaults = defaults(&self.image_processor_type);
        let crop = match (self.do_center_crop.unwrap_or(defaults.crop.is_some()), self.crop_size) {
            (true, size) => Some(size.or(defaults.crop.map(Size::Side)).ok_or_else(|| {
                Error::argument("`do_center_crop` is true, but no `crop_size` says how much of the picture to keep")
            })?),
            (false, _) => None,
        };
        let crop = crop.map(|size| Crop { size: size.square(), first: half });
        let size = match (self.size.unwrap_or(defaults.size), defaults.size) {
            (Size::Side(side), Size::Shorter { .. }) => Size::Shorter { shortest_edge: side },
            (size, _) => size,
        };
        let (mean, std) = match self.do_normalize {
            true => (self.image_mean.unwrap_or(defaults.mean), self.image_std.unwrap_or(defaults.std)),
            false => ([0.0; 3], [1.0; 3]),
        };
        // the file's mean and std are of rescaled bytes; ours, of bytes divided by 255
        let unit = 255.0 * if self.do_rescale { self.rescale_factor } else { 1.0 };
        let resize = match reads_any_size(&self.image_processor_type) || self.merge_size.is_some() {
            true => self.cells(),
            false => size.resize(),
        };
        Processor {
            resize: self.do_resize.then_some(resize),
            filter: pillow(self.resample.unwrap_or(defaults.resample))?,
            crop,
            mean: mean.map(|x| x / unit),
            std: std.map(|x| x / unit),
        }
        .checked()
    }
}

impl HuggingFace {
    /// How Qwen2-VL's processor resizes: what its file leaves out is transformers' default.
    fn cells(&self) -> Resize {
        let sized = match self.size {
            Some(Size::Edges { shortest_edge, longest_edge }) => [Some(shortest_edge), Some(longest_edge)],
            _ => [None, None],
        };
        Resize::Cells {
            side: self.patch_size.unwrap_or(14) * self.merge_size.unwrap_or(2),
            least: self.min_pixels.or(sized[0]).unwrap_or(56 * 56),
            most: self.max_pixels.or(sized[1]).unwrap_or(28 * 28 * 1280),
        }
    }
}

impl Size {
    fn square(self) -> [usize; 2] {
        match self {
            Self::Side(side) | Self::Shorter { shortest_edge: side } => [side, side],
            Self::Edges { shortest_edge, longest_edge } => [shortest_edge, longest_edge],
            Self::Sides { height, width } => [height, width],
        }
    }

    fn resize(self) -> Resize {
        match self {
            Self::Shorter { shortest_edge } | Self::Edges { shortest_edge, .. } => Resize::Shorter(shortest_edge),
            size => Resize::To(size.square()),
        }
    }
}

/// A filter by the number Pillow gives it.
fn pillow(number: u8) -> Result<ResizeAlg> {
    Ok(match number {
        0 => ResizeAlg::Nearest,
        1 => ResizeAlg::Convolution(FilterType::Lanczos3),
        2 => ResizeAlg::Convolution(FilterType::Bilinear),
        3 => ResizeAlg::Convolution(FilterType::CatmullRom),
        4 => ResizeAlg::Convolution(FilterType::Box),
        5 => ResizeAlg::Convolution(FilterType::Hamming),
        other => return Err(Error::argument(format!("`resample` is {other}, but Pillow's filters are 0 to 5"))),
    })
}

/// timm's `pretrained_cfg`.
#[derive(Deserialize)]
struct Timm {
    input_size: [usize; 3],
    #[serde(default = "bicubic")]
    interpolation: String,
    #[serde(default = "seven_eighths")]
    crop_pct: f64,
    #[serde(default = "center")]
    crop_mode: String,
    #[serde(default = "imagenet_mean")]
    mean: [f64; 3],
    #[serde(default = "imagenet_std")]
    std: [f64; 3],
}

/// open_clip's `preprocess_cfg`.
#[derive(Deserialize)]
struct OpenClip {
    #[serde(default = "clip_mean")]
    mean: [f64; 3],
    #[serde(default = "clip_std")]
    std: [f64; 3],
    #[serde(default = "bicubic")]
    interpolation: String,
    #[serde(default = "shortest")]
    resize_mode: String,
}

fn yes() -> bool {
    true
}

fn of_bytes() -> f64 {
    1.0 / 255.0
}

fn bicubic() -> String {
    "bicubic".into()
}

fn center() -> String {
    "center".into()
}

fn shortest() -> String {
    "shortest".into()
}

fn seven_eighths() -> f64 {
    0.875
}

fn imagenet_mean() -> [f64; 3] {
    [0.485, 0.456, 0.406]
}

fn imagenet_std() -> [f64; 3] {
    [0.229, 0.224, 0.225]
}

fn clip_mean() -> [f64; 3] {
    CLIP_MEAN
}

fn clip_std() -> [f64; 3] {
    CLIP_STD
}
