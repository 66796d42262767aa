//! Scores laid over the picture they explain.

use std::borrow::Cow;

use candle_core::Tensor;
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};
use maud::{Markup, html};

use super::blocks::blocks;
use super::card::{card, title};
use super::contour::{Field, Line, engrave};
use super::heat::{full_colour, heat, minuses};
use super::labels::{headline, strongest};
use super::law::law;
use super::legend::{bar, colour, colours, low, number, unsigned};
use super::mask::red_mask;
use super::palette::{hex, outline};
use super::picture::{ROOM, at_most, fitted, framed, photograph, png};
use super::svg::Drawing;
use super::{Panel, Show, beside, ends};
use crate::attribution::{Attribution, Features};
use crate::baseline::blurred;
use crate::model::Image;
use crate::resample::{Interpolation, resample};
use crate::tensor::numbers;
use crate::{Error, Result};

/// An attribution over pixels or patches, laid over its picture.
///
/// As it comes, a heat map: the picture is greyed, blue supports the target, orange and marked − speaks against it, and the more
/// a place matters, the deeper its colour; scores that have no negative ones among them are purple. Full colour begins where 99 % of
/// |scores| end, so that a few single pixels do not wash out all others. [`mask`](Self::mask) and
/// [`contours`](Self::contours) are other looks of the same. Nothing is stretched.
///
/// ```
/// # use pellucid::prelude::*;
/// let cat = pellucid::zoo::photo("cat")?;
/// let brightness = |x: &Tensor| Ok(x.mean((1, 2, 3))?);
/// let why = gradient_x_input(brightness, &cat.pixels()?)?;
/// let figure = Overlay::new(&cat, &why)?;
/// assert!(figure.html().contains("the deeper the purple, the higher the score"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The picture, or none where the map stands alone.
    ground: Option<Image>,
    pub(super) attribution: Attribution,
    style: Style,
    interpolation: Interpolation,
    /// The |score| of full colour.
    pub(super) scale: f64,
    drawn: RgbImage,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
enum Style {
    Heat,
    Mask(f64),
    Contours(Vec<f64>),
}

impl Overlay {
    /// Lays scores over a picture: scores over its pixels or its patches, or over the elements of `(c,h,w)`, which are summed
    /// over channels. Patches are enlarged to the picture.
    ///
    /// Errors: scores over something else; a map whose sides are not in the picture's proportion, as when the model saw a
    /// square cut out of it.
    pub fn new(picture: &Image, attribution: &Attribution) -> Result<Self> {
        let attribution = over_a_picture(attribution)?;
        proportionate(picture, &attribution)?;
        Self::drawn(Some(picture.clone()), attribution)
    }

    /// The map by itself, on white.
    pub(super) fn alone(attribution: &Attribution) -> Result<Self> {
        Self::drawn(None, over_a_picture(attribution)?)
    }

    fn drawn(ground: Option<Image>, attribution: Attribution) -> Result<Self> {
        let scale = full_colour(&attribution.scores);
        let (style, interpolation) = (Style::Heat, Interpolation::default());
        Self { ground, attribution, style, interpolation, scale, drawn: RgbImage::new(1, 1), lines: Vec::new() }
            .redrawn()
    }

    /// The picture in its colours, reddened where the map, brought to between 0 and 1, is strictly above `threshold`: see
    /// [`red_mask`]. A threshold of 0.2 is usual for attention.
    ///
    /// Errors: a threshold outside `[0, 1)`.
    pub fn mask(self, threshold: f64) -> Result<Self> {
        match (0.0..1.0).contains(&threshold) {
            true => Self { style: Style::Mask(threshold), ..self }.redrawn(),
            false => Err(Error::argument(format!("a mask's threshold lies in [0, 1), got {threshold}"))),
        }
    }

    /// The picture in its colours, with lines where the map has these levels, given as shares, with a sign, of its largest
    /// |score|: `&[-0.5, 0.5]`. Lines of negative levels are orange and dashed. A map of single pixels is smoothed first, by a
    /// Gaussian of σ = 2 % of the longer side.
    ///
    /// Errors: no level; one outside `[−1, 1]`.
    pub fn contours(self, levels: &[f64]) -> Result<Self> {
        match !levels.is_empty() && levels.iter().all(|level| (-1.0..=1.0).contains(level)) {
            true => Self { style: Style::Contours(levels.to_vec()), ..self }.redrawn(),
            false => Err(Error::argument(format!(
                "contours need levels between −1 and 1, shares of the largest |score|, such as &[-0.5, 0.5]; got {levels:?}"
            ))),
        }
    }

    /// With something else between the cells of the map than a straight line: [`Interpolation::Nearest`] shows every patch as
    /// the square that it is.
    pub fn interpolation(self, interpolation: Interpolation) -> Result<Self> {
        Self { interpolation, ..self }.redrawn()
    }

    /// With full colour from another |score| on.
    pub(super) fn scaled(self, scale: f64) -> Result<Self> {
        Self { scale, ..self }.redrawn()
    }

    fn redrawn(self) -> Result<Self> {
        let ground = self.ground();
        let (drawn, lines) = match &self.style {
            Style::Heat => (heat(&ground, &self.map(&ground)?, self.scale, self.is_signed())?, Vec::new()),
            Style::Mask(threshold) => {
                let pixels = Image::of(ground.clone().into_owned())?.pixels()?;
                (Image::from_pixels(&red_mask(&pixels, &self.map(&ground)?, *threshold)?)?.rgb().clone(), Vec::new())
            }
            Style::Contours(levels) => (ground.clone().into_owned(), self.iso_lines(levels, &ground)?),
        };
        Ok(Self { drawn, lines, ..self })
    }

    /// The picture, not much larger than it will be shown, and no smaller than the map.
    fn ground(&self) -> Cow<'_, RgbImage> {
        const LONGEST: u32 = 1024;
        let (height, width) = self.cells();
        let blank = || Cow::Owned(RgbImage::from_pixel(width as u32, height as u32, Rgb([255; 3])));
        let ground = self.ground.as_ref().map_or_else(blank, |picture| at_most(picture.rgb(), LONGEST));
        let (wide, high) = (ground.width().max(width as u32), ground.height().max(height as u32));
        match (wide, high) == ground.dimensions() {
            true => ground,
            false => Cow::Owned(resize(&*ground, wide, high, FilterType::Triangle)),
        }
    }

    /// `(h,w)` of the scores.
    fn cells(&self) -> (usize, usize) {
        self.attribution.features.map().unwrap_or((1, self.attribution.scores.len()))
    }

    /// The map at the size of a picture.
    fn map(&self, ground: &RgbImage) -> Result<Tensor> {
        let (width, height) = ground.dimensions();
        resample(&self.attribution.tensor()?, height as usize, width as usize, self.interpolation)
    }

    pub(super) fn is_signed(&self) -> bool {
        self.attribution.scores.iter().any(|score| *score < 0.0)
    }

    pub(super) fn is_heat(&self) -> bool {
        matches!(self.style, Style::Heat)
    }

    fn iso_lines(&self, levels: &[f64], ground: &RgbImage) -> Result<Vec<Line>> {
        let map = self.smooth()?;
        let (rows, columns) = map.dims2()?;
        let values = numbers(&map)?;
        let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let field = Field { values: &values, rows, columns, picture: ground.dimensions() };
        Ok(levels.iter().flat_map(|level| field.lines(level * largest)).collect())
    }

    /// The map for contours: smoothed if it is of single pixels, and of about a hundred cells a side.
    fn smooth(&self) -> Result<Tensor> {
        const CELLS: f64 = 128.0;
        let (height, width) = self.cells();
        let longest = height.max(width) as f64;
        let part = |side: usize| (side as f64 * CELLS / longest).round().max(1.0) as usize;
        let map = self.attribution.tensor()?;
        let map = match self.attribution.features {
            Features::Pixels { .. } => blurred(&map.unsqueeze(0)?, 0.02 * longest)?.squeeze(0)?,
            _ => map,
        };
        resample(&map, part(height), part(width), self.interpolation)
    }

    /// The picture and its lines, in an SVG.
    pub(super) fn framed(&self, x: f64, y: f64, size: (f64, f64)) -> Markup {
        let scale = size.0 / f64::from(self.drawn.width());
        let at = |&(px, py): &(f64, f64)| format!("{:.1},{:.1}", x + px * scale, y + py * scale);
        let points = |line: &Line| line.points.iter().map(at).collect::<Vec<_>>().join(" ");
        let dash = |line: &Line| if line.level < 0.0 { "5 3" } else { "none" };
        html! {
            (framed(x, y, size, &photograph(&self.drawn, size.0.max(size.1))))
            @for line in &self.lines {
                polyline points=(points(line)) fill="none" stroke="#ffffff" stroke-width="3.5" stroke-opacity="0.8" {}
                polyline points=(points(line)) fill="none" stroke=(hex(outline(line.level >= 0.0))) stroke-width="1.6" stroke-dasharray=(dash(line)) {}
            }
            @if self.is_heat() && self.is_signed() {
                path d=(minuses(&self.attribution.scores, self.cells().1, (x, y), size)) fill="none" stroke="#111111" stroke-width="1.3" {}
            }
        }
    }

    /// How large it is shown, given the room.
    pub(super) fn fitted(&self, room: (f64, f64)) -> (f64, f64) {
        fitted(&self.drawn, room)
    }

    /// What the colours and lines mean.
    pub(super) fn legend(&self) -> String {
        match &self.style {
            Style::Heat => format!("{}; {}", colours(self.is_signed()), self.full()),
            Style::Mask(_) => {
                let (low, high) = ends(self.attribution.scores.iter().copied());
                let largest = high.max(-low);
                format!("{}, which go from {} to {}", self.rule(), beside(low, largest), beside(high, largest))
            }
            Style::Contours(_) => self.rule(),
        }
    }

    /// The same in words that are true of every map of this look.
    pub(super) fn rule(&self) -> String {
        match &self.style {
            Style::Heat => colours(self.is_signed()).into(),
            Style::Mask(threshold) => {
                let share = (threshold * 1000.0).round() / 10.0;
                format!("red: above {share} % of the way from the lowest to the highest of the scores")
            }
            Style::Contours(levels) => {
                let smooth = match self.attribution.features {
                    Features::Pixels { .. } => " of the map, smoothed by a Gaussian of σ = 2 % of the longer side",
                    _ => "",
                };
                let below = levels.iter().any(|level| *level < 0.0);
                let dashed = if below { "; orange and dashed where negative" } else { "" };
                let levels: Vec<String> = levels.iter().map(|level| signed_percent(*level)).collect();
                format!("lines at {} of the largest |score|{smooth}{dashed}", levels.join(", "))
            }
        }
    }

    /// Where full colour begins.
    fn full(&self) -> String {
        let (low, high) = ends(self.attribution.scores.iter().copied());
        let largest = high.max(-low);
        match self.scale {
            _ if largest == 0.0 => "all scores are 0".into(),
            scale if scale < largest => format!(
                "full colour from |score| {} on, which 99 % do not exceed (the largest: {})",
                unsigned(scale),
                unsigned(largest)
            ),
            scale => format!("full colour at |score| {}", unsigned(scale)),
        }
    }

    /// The scores as blocks.
    pub(super) fn blocks(&self) -> String {
        blocks(&self.attribution.scores, self.cells().1)
    }
}

fn signed_percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0).replace('-', "−")
}

/// The scores over pixels or patches.
fn over_a_picture(attribution: &Attribution) -> Result<Attribution> {
    attribution.consistent()?;
    match (&attribution.features, attribution.features.map()) {
        (_, Some((0, _) | (_, 0))) => Err(Error::argument("there are no scores to lay over a picture")),
        (_, Some(_)) => Ok(attribution.clone()),
        (Features::Elements { .. }, None) => attribution.clone().over_pixels(),
        _ => Err(Error::argument(
            "scores over a text cannot be laid over a picture: look at them with `HeatStrip`, or explain the pixels",
        )),
    }
}

/// Errors unless one side of the map is what the other side's proportion asks for, to the nearest cell.
fn proportionate(picture: &Image, attribution: &Attribution) -> Result<()> {
    let Some((rows, columns)) = attribution.features.map() else { return Ok(()) };
    let (width, height) = (picture.width(), picture.height());
    let near = |cells: usize, side: usize, other: usize, others: usize| {
        let wanted = others as f64 * side as f64 / other as f64;
        (wanted - cells as f64).abs() <= 0.5
    };
    match near(columns, width, height, rows) || near(rows, height, width, columns) {
        true => Ok(()),
        false => Err(Error::argument(format!(
            "a map of {rows} rows and {columns} columns does not fit a picture {width} pixels wide and {height} high without \
             being stretched: lay it over the picture the model saw, cut and resized"
        ))),
    }
}

impl Show for Overlay {
    fn text(&self) -> String {
        let a = &self.attribution;
        format!("{}\n{}{}\n{}", headline(a), self.blocks(), self.legend(), law(a))
    }

    fn html(&self) -> String {
        let a = &self.attribution;
        let words = format!("{}: {}", headline(a), strongest(a));
        card(title(a), self.drawing().picture(&words), &[self.legend(), law(a)]).into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.drawing().titled(&headline(&self.attribution)))
    }

    fn png(&self) -> Option<Vec<u8>> {
        let mut picture = self.drawn.clone();
        engrave(&mut picture, &self.lines);
        png(&picture).ok()
    }

    fn json(&self) -> Option<String> {
        self.attribution.to_json().ok()
    }

    fn panel(&self) -> Option<Panel> {
        Some(Panel::Overlay(Box::new(self.clone())))
    }
}

impl Overlay {
    fn drawing(&self) -> Drawing {
        let (wide, high) = self.fitted(ROOM);
        let signed = self.is_signed();
        let number = |share: f64| number(share, self.scale, signed);
        let body = html! {
            (self.framed(1.0, 1.0, (wide, high)))
            @if self.is_heat() { (bar(wide + 16.0, 6.0, low(signed), colour(signed), number)) }
        };
        let beside = if self.is_heat() { (112.0, 132.0) } else { (2.0, 0.0) };
        Drawing { width: wide + beside.0, height: 2.0 + high.max(beside.1), body }
    }
}
