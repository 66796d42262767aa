//! Pictures and overlays side by side.

use maud::{Markup, html};

use super::Show;
use super::card::card;
use super::columns::across;
use super::labels::{line, shortened};
use super::law::{grouped, laws, listed};
use super::legend::{bar_across, unsigned};
use super::overlay::Overlay;
use super::picture::{fitted, framed, photograph};
use super::svg::{Drawing, room};
use crate::model::Image;
use crate::{Error, Result};

/// What hangs in a gallery.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::show::Panel;
/// let cat = pellucid::zoo::photo("cat")?;
/// let brightness = gradient_x_input(|x| Ok(x.mean((1, 2, 3))?), &cat.pixels()?)?.over_pixels()?;
/// assert!(matches!(cat.panel(), Some(Panel::Picture(_))));
/// assert!(matches!(brightness.panel(), Some(Panel::Overlay(_))));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Panel {
    /// A picture.
    Picture(Image),
    /// A picture with scores over it.
    Overlay(Box<Overlay>),
}

impl Panel {
    fn overlay(&self) -> Option<&Overlay> {
        match self {
            Self::Picture(_) => None,
            Self::Overlay(overlay) => Some(overlay),
        }
    }

    /// A heat map's own scale.
    fn own_scale(&self) -> Option<String> {
        let heat = self.overlay().filter(|overlay| overlay.is_heat())?;
        Some(format!("{}{}", if heat.is_signed() { "±" } else { "" }, unsigned(heat.scale)))
    }

    fn fitted(&self, side: f64) -> (f64, f64) {
        let room = (side, 1.25 * side);
        match self {
            Self::Picture(image) => fitted(image.rgb(), room),
            Self::Overlay(overlay) => overlay.fitted(room),
        }
    }

    fn framed(&self, x: f64, y: f64, size: (f64, f64)) -> Markup {
        match self {
            Self::Picture(image) => framed(x, y, size, &photograph(image.rgb(), size.0.max(size.1))),
            Self::Overlay(overlay) => overlay.framed(x, y, size),
        }
    }
}

/// Titled pictures and overlays: in a row that goes on below where it is too wide, or in a grid with titled rows and columns.
///
/// Every heat map has its own scale, written under it, unless there is [`one_scale`](Self::one_scale) for all.
///
/// ```
/// # use pellucid::prelude::*;
/// let cat = pellucid::zoo::photo("cat")?;
/// let why = gradient_x_input(|x| Ok(x.mean((1, 2, 3))?), &cat.pixels()?)?;
/// let overlay = Overlay::new(&cat, &why)?;
/// let row = Gallery::row(&[("a cat", &cat), ("its brightness", &overlay)])?;
/// let levels: Gallery = [0.2, 0.5].iter().map(|t| Ok((format!("> {t}"), overlay.clone().mask(*t)?))).collect::<Result<_>>()?;
/// let grid = Gallery::grid(&["mask"], &["0.2", "0.5"], |_, column| overlay.clone().mask([0.2, 0.5][column]))?;
/// assert!(row.text().contains("its brightness") && levels.text().contains("> 0.2") && grid.text().contains("mask, 0.5"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gallery {
    /// Titles of rows and columns; none for a row that goes on below.
    grid: Option<(Vec<String>, Vec<String>)>,
    panels: Vec<(String, Panel)>,
    one_scale: bool,
}

impl Gallery {
    /// Figures under their titles, side by side: pictures, overlays, attributions over pixels or patches.
    ///
    /// Many of one kind are collected from an iterator of `(String, Overlay)`.
    ///
    /// Errors: none given; a figure that is no picture.
    pub fn row(figures: &[(&str, &dyn Show)]) -> Result<Self> {
        let hung = |(title, figure): &(&str, &dyn Show)| {
            let panel = figure.panel().ok_or_else(|| {
                Error::argument(format!(
                    "`{title}` is no picture: pictures, overlays and scores over pixels or patches hang in a gallery"
                ))
            })?;
            Ok((title.to_string(), panel))
        };
        match figures.is_empty() {
            true => Err(Error::argument("there is nothing to hang")),
            false => {
                Ok(Self { grid: None, panels: figures.iter().map(hung).collect::<Result<_>>()?, one_scale: false })
            }
        }
    }

    /// A grid: `overlay` makes the one of each row and column, both counted from 0.
    ///
    /// Errors: no rows or no columns; those of `overlay`.
    pub fn grid(rows: &[&str], columns: &[&str], overlay: impl Fn(usize, usize) -> Result<Overlay>) -> Result<Self> {
        if rows.is_empty() || columns.is_empty() {
            return Err(Error::argument("a grid needs rows and columns"));
        }
        let place = |i: usize| (i / columns.len(), i % columns.len());
        let hung = |(row, column): (usize, usize)| {
            let title = format!("{}, {}", rows[row], columns[column]);
            Ok((title, Panel::Overlay(Box::new(overlay(row, column)?))))
        };
        let panels = (0..rows.len() * columns.len()).map(place).map(hung).collect::<Result<_>>()?;
        let owned = |titles: &[&str]| titles.iter().map(|title| title.to_string()).collect();
        Ok(Self { grid: Some((owned(rows), owned(columns))), panels, one_scale: false })
    }

    /// With one colour scale for all heat maps, that of the strongest: a pale map then is one of small scores.
    ///
    /// Errors: there is no heat map.
    pub fn one_scale(self) -> Result<Self> {
        let none = || Error::argument("there is no heat map that could share a scale");
        let scale = self.heats().map(|overlay| overlay.scale).reduce(f64::max).ok_or_else(none)?;
        let scaled = |(title, panel)| match panel {
            Panel::Overlay(overlay) if overlay.is_heat() => {
                Ok((title, Panel::Overlay(Box::new(overlay.scaled(scale)?))))
            }
            other => Ok((title, other)),
        };
        let panels = self.panels.into_iter().map(scaled).collect::<Result<_>>()?;
        Ok(Self { panels, one_scale: true, ..self })
    }

    fn heats(&self) -> impl Iterator<Item = &Overlay> {
        self.overlays().map(|(_, overlay)| overlay).filter(|overlay| overlay.is_heat())
    }

    /// How many panels stand side by side: those of a grid, or as many as fit, in lines of about the same length.
    fn across(&self) -> usize {
        const FIT: usize = 6;
        match &self.grid {
            Some((_, columns)) => columns.len(),
            None => across(self.panels.len(), FIT),
        }
    }

    fn drawing(&self) -> Drawing {
        let across = self.across();
        let left = self.grid.as_ref().map_or(1.0, |(rows, _)| 24.0 + room(rows, 18));
        let side = ((880.0 - left) / across as f64 - GAP).clamp(72.0, 260.0);
        let mut y = 0.0;
        let lines = self.panels.chunks(across).enumerate();
        let lines: Vec<Markup> = lines.map(|(row, panels)| self.line(row, panels, left, side, &mut y)).collect();
        let bars = self.strongest();
        let body = html! {
            @for line in &lines { (line) }
            @for (i, heat) in bars.iter().enumerate() {
                (bar_across(left + BAR * i as f64, y + 4.0, heat.scale, heat.is_signed(), self.one_scale))
            }
        };
        let width = (left + (side + GAP) * across as f64).max(left + BAR * bars.len() as f64);
        Drawing { width, height: y + if bars.is_empty() { 4.0 } else { 30.0 }, body }
    }

    /// Of the heat maps with signs and of those without, the one of the largest scale.
    fn strongest(&self) -> Vec<&Overlay> {
        let of = |is_signed: bool| self.heats().filter(move |heat| heat.is_signed() == is_signed);
        [true, false].into_iter().filter_map(|kind| of(kind).max_by(|a, b| a.scale.total_cmp(&b.scale))).collect()
    }

    /// One line of panels, with their titles above and their scales underneath; y moves below it.
    fn line(&self, row: usize, panels: &[(String, Panel)], left: f64, side: f64, y: &mut f64) -> Markup {
        let titled = self.grid.is_none() || row == 0;
        let top = *y + if titled { 20.0 } else { 0.0 };
        let sizes: Vec<(f64, f64)> = panels.iter().map(|(_, panel)| panel.fitted(side)).collect();
        let tallest = sizes.iter().map(|size| size.1).fold(0.0, f64::max);
        let written = !self.one_scale && panels.iter().any(|(_, panel)| panel.own_scale().is_some());
        let x = |i: usize| left + (side + GAP) * i as f64;
        *y = top + tallest + if written { 18.0 } else { 0.0 } + GAP;
        html! {
            g font-size="12" {
                @if let Some((rows, _)) = &self.grid {
                    text x=(left - 8.0) y=(top + tallest / 2.0 + 4.0) text-anchor="end" { (shortened(&rows[row], 18)) }
                }
                @for (i, ((title, panel), size)) in panels.iter().zip(&sizes).enumerate() {
                    @if titled {
                        text x=(x(i) + side / 2.0) y=(top - 7.0) text-anchor="middle" { (shortened(self.title(title, i), (side / 7.0) as usize)) }
                    }
                    (panel.framed(x(i) + (side - size.0) / 2.0, top, *size))
                    @if let Some(scale) = panel.own_scale().filter(|_| written) {
                        text x=(x(i) + side / 2.0) y=(top + size.1 + 14.0) text-anchor="middle" font-size="11" { (scale) }
                    }
                }
            }
        }
    }

    /// What stands over a panel.
    fn title<'a>(&'a self, title: &'a str, column: usize) -> &'a str {
        self.grid.as_ref().map_or(title, |(_, columns)| &columns[column])
    }

    /// What the colours and lines mean, each look once, and whose scale is whose.
    fn legend(&self) -> Vec<String> {
        let rules = grouped(self.overlays().map(|(title, overlay)| ((overlay.rule(), overlay.is_heat()), title)));
        let alone = rules.len() == 1;
        let line = |((rule, is_heat), titles): ((String, bool), Vec<&str>)| match is_heat || alone {
            true => rule,
            false => format!("{}: {rule}", listed(&titles)),
        };
        let scales = match self.one_scale {
            true => "one colour scale for all",
            false => "each has its own colour scale: under it, the |score| of full colour",
        };
        let scales = self.heats().next().map(|_| scales.to_string());
        rules.into_iter().map(line).chain(scales).collect()
    }

    fn overlays(&self) -> impl Iterator<Item = (&str, &Overlay)> {
        self.panels.iter().filter_map(|(title, panel)| Some((title.as_str(), panel.overlay()?)))
    }

    fn laws(&self) -> Vec<String> {
        laws(&self.overlays().map(|(title, overlay)| (title, &overlay.attribution)).collect::<Vec<_>>())
    }
}

const GAP: f64 = 10.0;
/// How much room a bar of colours takes, with its words.
const BAR: f64 = 240.0;

impl FromIterator<(String, Overlay)> for Gallery {
    /// A row of titled overlays.
    fn from_iter<I: IntoIterator<Item = (String, Overlay)>>(overlays: I) -> Self {
        let hung = |(title, overlay)| (title, Panel::Overlay(Box::new(overlay)));
        Self { grid: None, panels: overlays.into_iter().map(hung).collect(), one_scale: false }
    }
}

impl Show for Gallery {
    fn text(&self) -> String {
        let panel = |(title, panel): &(String, Panel)| match panel {
            Panel::Picture(image) => format!("{}: {}", line(title), image.text()),
            Panel::Overlay(overlay) => format!("{}\n{}", line(title), overlay.blocks()),
        };
        let panels: String = self.panels.iter().map(panel).collect();
        format!("{panels}{}", [self.legend(), self.laws()].concat().join("\n"))
    }

    fn html(&self) -> String {
        let titles: Vec<&str> = self.panels.iter().map(|(title, _)| title.as_str()).collect();
        let notes = [self.legend(), self.laws()].concat();
        card(html! {}, self.drawing().picture(&format!("pictures: {}", titles.join("; "))), &notes).into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.drawing().svg())
    }
}
