//! Superpixels: a picture in pieces that follow its edges.
//!
//! SLIC, Achanta et al. 2012, *SLIC Superpixels Compared to State-of-the-Art Superpixel Methods*, IEEE TPAMI 34(11),
//! algorithm 1 and eq. 3.

use crate::model::Image;
use crate::{Error, Result};

/// Lightness, two colours, column, row: where a pixel is, and a cluster's centre.
type Point = [f64; 5];

/// What a step across a whole superpixel weighs against a step in colour: the paper's m.
const COMPACTNESS: f64 = 10.0;
const ROUNDS: usize = 10;

/// A picture → one id per pixel, row by row, `(h·w,)`: about `count` connected pieces of similar size, numbered from 0.
///
/// Clusters of nearby pixels of like colour: D² = d_lab² + m²·(d_xy/S)², with S the side of a piece and m = 10, and each
/// pixel compared with the centres within S of it. Pieces apart from their cluster join a neighbour. No chance is involved.
///
/// Errors: `count` is zero, or more than there are pixels.
///
/// ```
/// # use pellucid::prelude::*;
/// let cat = pellucid::zoo::photo("cat")?;
/// let segments = Groups::segments(&cat.pixels()?, &superpixels(&cat, 50)?)?;
/// assert!((35..=65).contains(&segments.len()));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn superpixels(picture: &Image, count: usize) -> Result<Vec<usize>> {
    let (width, height) = (picture.width(), picture.height());
    if !(1..=width * height).contains(&count) {
        let pixels = width * height;
        return Err(Error::argument(format!("superpixels must be between 1 and the {pixels} pixels, got {count}")));
    }
    let (rows, columns) = grid(height, width, count);
    let step = (height as f64 / rows as f64).max(width as f64 / columns as f64);
    let points: Vec<Point> = picture.rgb().enumerate_pixels().map(|(x, y, rgb)| point(x, y, rgb.0)).collect();
    let mut centres = seeds(&points, (height, rows), (width, columns));
    let mut ids = vec![0; points.len()];
    for _ in 0..ROUNDS {
        assign(&mut ids, &points, &centres, width, step);
        centres = means(&ids, &points, centres);
    }
    Ok(connected(&ids, width, points.len() / centres.len() / 4))
}

/// Rows and columns of about `count` cells as square as may be.
fn grid(height: usize, width: usize, count: usize) -> (usize, usize) {
    let (short, long) = (height.min(width), height.max(width));
    let few = ((count * short) as f64 / long as f64).sqrt().round().clamp(1.0, short as f64);
    let many = (count as f64 / few).round().clamp(1.0, long as f64);
    if height <= width { (few as usize, many as usize) } else { (many as usize, few as usize) }
}

/// A pixel in CIELAB (D65), and its place.
fn point(x: u32, y: u32, rgb: [u8; 3]) -> Point {
    let [r, g, b] = rgb.map(|byte| match f64::from(byte) / 255.0 {
        dark if dark <= 0.04045 => dark / 12.92,
        light => ((light + 0.055) / 1.055).powf(2.4),
    });
    let root = |t: f64| if t > 216.0 / 24389.0 { t.cbrt() } else { (24389.0 / 27.0 * t + 16.0) / 116.0 };
    let fx = root((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
    let fy = root(0.2126 * r + 0.7152 * g + 0.0722 * b);
    let fz = root((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
    [116.0 * fy - 16.0, 500.0 * (fx - fy), 200.0 * (fy - fz), f64::from(x), f64::from(y)]
}

/// The middles of the cells of a grid.
fn seeds(points: &[Point], (height, rows): (usize, usize), (width, columns): (usize, usize)) -> Vec<Point> {
    let middle = |cell: usize, cells: usize, side: usize| (2 * cell + 1) * side / (2 * cells);
    let seed = |cell: usize| middle(cell / columns, rows, height) * width + middle(cell % columns, columns, width);
    (0..rows * columns).map(|cell| points[seed(cell)]).collect()
}

/// Gives every pixel to the nearest centre whose window it lies in; a pixel in no window stays where it was.
fn assign(ids: &mut [usize], points: &[Point], centres: &[Point], width: usize, step: f64) {
    let mut nearest = vec![f64::INFINITY; points.len()];
    let window =
        |centre: f64, side: usize| (centre - step).max(0.0) as usize..((centre + step).ceil() as usize + 1).min(side);
    for (id, centre) in centres.iter().enumerate() {
        for pixel in
            window(centre[4], points.len() / width).flat_map(|y| window(centre[3], width).map(move |x| y * width + x))
        {
            let square = |axis: usize| (points[pixel][axis] - centre[axis]).powi(2);
            let distance = square(0) + square(1) + square(2) + (COMPACTNESS / step).powi(2) * (square(3) + square(4));
            if distance < nearest[pixel] {
                (nearest[pixel], ids[pixel]) = (distance, id);
            }
        }
    }
}

/// The mean of every cluster; an empty one stays where it was.
fn means(ids: &[usize], points: &[Point], mut centres: Vec<Point>) -> Vec<Point> {
    let mut sums = vec![([0.0; 5], 0.0); centres.len()];
    for (&id, point) in ids.iter().zip(points) {
        sums[id].0.iter_mut().zip(point).for_each(|(sum, value)| *sum += value);
        sums[id].1 += 1.0;
    }
    for (centre, (sum, count)) in centres.iter_mut().zip(sums).filter(|(_, (_, count))| *count > 0.0) {
        *centre = sum.map(|sum| sum / count);
    }
    centres
}

/// Connected pieces, numbered in reading order; one of fewer than `least` pixels joins the piece before it, or above.
fn connected(ids: &[usize], width: usize, least: usize) -> Vec<usize> {
    let mut pieces = vec![usize::MAX; ids.len()];
    let mut count = 0;
    for start in 0..ids.len() {
        if pieces[start] != usize::MAX {
            continue;
        }
        let piece = flood(&mut pieces, count, ids, width, start);
        match if start % width > 0 { start.checked_sub(1) } else { start.checked_sub(width) } {
            Some(before) if piece.len() < least => {
                let host = pieces[before];
                piece.into_iter().for_each(|pixel| pieces[pixel] = host);
            }
            _ => count += 1,
        }
    }
    pieces
}

/// Numbers all pixels that hang together with one and have its id, and says which they are.
fn flood(pieces: &mut [usize], number: usize, ids: &[usize], width: usize, start: usize) -> Vec<usize> {
    let mut piece = vec![start];
    pieces[start] = number;
    let mut at = 0;
    while let Some(&pixel) = piece.get(at) {
        for beside in neighbours(pixel, width, ids.len()) {
            if ids[beside] == ids[start] && pieces[beside] == usize::MAX {
                pieces[beside] = number;
                piece.push(beside);
            }
        }
        at += 1;
    }
    piece
}

/// Left, right, above and below.
fn neighbours(pixel: usize, width: usize, count: usize) -> impl Iterator<Item = usize> {
    let left = (!pixel.is_multiple_of(width)).then(|| pixel - 1);
    let right = (pixel % width + 1 < width).then_some(pixel + 1);
    let below = (pixel + width < count).then_some(pixel + width);
    [left, right, pixel.checked_sub(width), below].into_iter().flatten()
}
