//! Pictures, as files hold them and as models read them.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage, Rgba32FImage};

use crate::tensor::{finite, numbers};
use crate::{Error, Result};

/// A picture of 8-bit red, green and blue, upright. Cheap to clone.
///
/// Read from PNG, JPEG or WebP: grey and printers' colours (CMYK) become red, green and blue, 16 bits become 8, of a film the first
/// frame is taken, what is transparent is laid on white, and a camera's
/// note about rotation (EXIF) is carried out. (Pillow's `convert("RGB")`, which Python's pipelines use, drops transparency
/// instead, and a model sees whatever colour was hidden under it.)
///
/// ```
/// # use pellucid::prelude::*;
/// let cat = pellucid::zoo::photo("cat")?;
/// let x = cat.pixels()?;    // (3,h,w), between 0 and 1
/// assert_eq!(x.dims(), [3, cat.height(), cat.width()]);
/// assert_eq!(Image::from_pixels(&x)?, cat);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image(Arc<RgbImage>);

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a picture, {} × {} pixels", self.width(), self.height())
    }
}

impl Image {
    /// From a file.
    ///
    /// Errors: no such file; see [`decode`](Self::decode).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let path = std::env::temp_dir().join(format!("pellucid-{}.png", std::process::id()));
    /// let scene = Scene::empty(1).image()?;
    /// scene.save(&path)?;
    /// assert_eq!(Image::open(&path)?, scene);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
        Self::decode(&bytes).map_err(|error| Error::file(path, error))
    }

    /// From the bytes of a file, whatever its name.
    ///
    /// Errors: not PNG, JPEG or WebP; truncated or broken; larger than 512 MiB in memory.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let scene = Scene::empty(1).image()?;
    /// assert_eq!(Image::decode(&scene.png().unwrap())?, scene);
    /// assert!(Image::decode(b"no picture").is_err());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let unreadable = |error: image::ImageError| {
            Error::argument(format!(
                "the picture cannot be read ({error}): pellucid reads PNG, JPEG and WebP. Is the file whole, and not of \
                 another kind under that name?"
            ))
        };
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        let mut decoder = reader.into_decoder().map_err(unreadable)?;
        Limits::default().reserve(decoder.total_bytes()).map_err(unreadable)?;
        let orientation = decoder.orientation().map_err(unreadable)?;
        let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
        picture.apply_orientation(orientation);
        Self::of(if picture.color().has_alpha() { on_white(&picture.into_rgba32f()) } else { picture.into_rgb8() })
    }

    /// From pixels `(3,h,w)` between 0 and 1; what lies beyond is cut off.
    ///
    /// Errors: another shape; no pixels; one that is not finite.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let grey = Image::from_pixels(&Tensor::full(0.5f64, (3, 2, 4), &Device::Cpu)?)?;
    /// assert_eq!((grey.height(), grey.width()), (2, 4));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn from_pixels(pixels: &Tensor) -> Result<Self> {
        let &[3, height, width] = pixels.dims() else {
            return Err(Error::shape("the pixels", "(3, h, w)", pixels.dims()));
        };
        finite("a pixel", &numbers(pixels)?)?;
        let bytes = (pixels.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.clamp(0.0, 1.0)? * 255.0)?
            .round()?
            .to_dtype(DType::U8)?;
        let bytes = bytes.permute((1, 2, 0))?.flatten_all()?.to_vec1::<u8>()?;
        let picture = RgbImage::from_raw(width as u32, height as u32, bytes);
        Self::of(picture.ok_or_else(|| Error::shape("the pixels", "(3, h, w)", pixels.dims()))?)
    }

    pub(crate) fn of(picture: RgbImage) -> Result<Self> {
        match picture.is_empty() {
            true => Err(Error::argument("the picture has no pixels")),
            false => Ok(Self(Arc::new(picture))),
        }
    }

    /// `(3,h,w)`, `f32`, between 0 and 1: what attributions are over.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let grey = Image::from_pixels(&Tensor::full(0.2f64, (3, 2, 4), &Device::Cpu)?)?;
    /// assert_eq!((grey.pixels()? * 255.0)?.i((0, 0, 0))?.to_scalar::<f32>()?.round(), 51.0);    // 8 bits
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn pixels(&self) -> Result<Tensor> {
        self.pixels_in(DType::F32)
    }

    /// The same in another precision.
    pub(crate) fn pixels_in(&self, dtype: DType) -> Result<Tensor> {
        let (width, height) = self.0.dimensions();
        let bytes = Tensor::from_slice(self.0.as_raw(), (height as usize, width as usize, 3), &Device::Cpu)?;
        Ok((bytes.permute((2, 0, 1))?.contiguous()?.to_dtype(dtype)? / 255.0)?)
    }

    /// Columns of pixels.
    pub fn width(&self) -> usize {
        self.0.width() as usize
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.0.height() as usize
    }

    pub(crate) fn rgb(&self) -> &RgbImage {
        &self.0
    }
}

/// What is transparent lets white shine through.
fn on_white(picture: &Rgba32FImage) -> RgbImage {
    let mix = |x: f32, alpha: f32| ((x * alpha + 1.0 - alpha) * 255.0).round() as u8;
    RgbImage::from_fn(picture.width(), picture.height(), |column, row| {
        let [r, g, b, alpha] = picture.get_pixel(column, row).0;
        Rgb([r, g, b].map(|x| mix(x, alpha)))
    })
}
