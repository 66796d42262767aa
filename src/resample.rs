//! Maps at another size: what lies between two cells, and between their centres.

use candle_core::{D, Tensor};

use crate::tensor::{along_rows_and_columns, floating};
use crate::{Error, Result};

/// What stands between the cells of a map.
///
/// ```
/// # use pellucid::prelude::*;
/// let step = Tensor::new(&[[0.0f64, 1.0]], &Device::Cpu)?;
/// let at = |between| -> Result<Vec<f64>> { Ok(resample(&step, 1, 4, between)?.flatten_all()?.to_vec1()?) };
/// assert_eq!(at(Interpolation::Nearest)?, [0.0, 0.0, 1.0, 1.0]);
/// assert_eq!(at(Interpolation::Bilinear)?, [0.0, 0.25, 0.75, 1.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest cell: every cell stays a rectangle, as it was scored.
    Nearest,
    /// A straight line between neighbours: never beyond them.
    #[default]
    Bilinear,
    /// Cubic convolution with a = −0.75, as torch's and OpenCV's `bicubic`. Smooth, but it swings beyond its neighbours.
    Bicubic,
    /// Cubic convolution with a = −0.5, as Pillow's `BICUBIC`: the spline of Catmull and Rom.
    CatmullRom,
}

impl Interpolation {
    /// How many cells to the left of a point, and to its right, have a say.
    fn reach(self) -> isize {
        match self {
            Self::Nearest | Self::Bilinear => 1,
            Self::Bicubic | Self::CatmullRom => 2,
        }
    }

    /// The say of a cell at a signed distance d from the point (Keys 1981, *Cubic convolution interpolation for digital image
    /// processing*, for the cubic ones).
    fn weight(self, d: f64) -> f64 {
        let cubic = |a: f64| match d.abs() {
            near if near <= 1.0 => ((a + 2.0) * near - (a + 3.0)) * near * near + 1.0,
            far if far < 2.0 => ((far - 5.0) * far + 8.0) * far * a - 4.0 * a,
            _ => 0.0,
        };
        match self {
            Self::Nearest => f64::from(-0.5 < d && d <= 0.5),
            Self::Bilinear => (1.0 - d.abs()).max(0.0),
            Self::Bicubic => cubic(-0.75),
            Self::CatmullRom => cubic(-0.5),
        }
    }

    /// `(to,from)` row by row: the say of each old cell in each new one. Centres of cells lie at half numbers (torch's
    /// `align_corners=False`), and beyond an edge its cell is repeated.
    fn weights(self, from: usize, to: usize) -> Vec<f64> {
        let mut weights = vec![0.0; to * from];
        for (new, row) in weights.chunks_mut(from).enumerate() {
            let at = (new as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let first = at.floor() as isize;
            for cell in first + 1 - self.reach()..=first + self.reach() {
                row[cell.clamp(0, from as isize - 1) as usize] += self.weight(cell as f64 - at);
            }
        }
        weights
    }
}

/// `(h,w)` or `(c,h,w)` → the same with other `height` and `width`.
///
/// It is for enlarging maps: nothing is averaged, so a map made much smaller is a sample of cells.
///
/// Errors: another shape; integers; nothing to begin or to end with.
///
/// ```
/// # use pellucid::prelude::*;
/// let map = Tensor::new(&[[0.0f64, 1.0], [2.0, 3.0]], &Device::Cpu)?;
/// let wide = resample(&map, 2, 4, Interpolation::Bilinear)?;
/// assert_eq!(wide.to_vec2::<f64>()?, [[0.0, 0.25, 0.75, 1.0], [2.0, 2.25, 2.75, 3.0]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn resample(map: &Tensor, height: usize, width: usize, how: Interpolation) -> Result<Tensor> {
    if !matches!(map.rank(), 2 | 3) || map.elem_count() == 0 {
        return Err(Error::shape("the map", "(h, w) or (c, h, w), with at least one cell", map.dims()));
    }
    if height == 0 || width == 0 {
        return Err(Error::argument(format!("a map needs rows and columns, got {height} × {width}")));
    }
    floating(map)?;
    let (rows, columns) = (map.dim(D::Minus2)?, map.dim(D::Minus1)?);
    along_rows_and_columns(map, how.weights(rows, height), how.weights(columns, width))
}
