//! Maps whose rows and columns have names.

use image::{Rgb, RgbImage};
use maud::{Markup, html};

use super::card::DIM;
use super::labels::shortened;
use super::palette;
use super::picture::{at_most, exact, framed};
use super::svg::room;

/// Names of more places are cut.
const NAME: usize = 18;

/// Where the cells of a map lie, in pixels, and what stands at its rows and columns.
pub(super) struct Grid<'a> {
    pub rows: &'a [String],
    pub columns: &'a [String],
    /// Which columns' names are dimmed.
    pub dimmed: &'a [bool],
    pub cell: (f64, f64),
}

impl Grid<'_> {
    pub fn x(&self, column: usize) -> f64 {
        20.0 + room(self.rows, NAME) + self.cell.0 * column as f64
    }

    pub fn y(&self, row: usize) -> f64 {
        14.0 + 0.88 * room(self.columns, NAME) + self.cell.1 * row as f64
    }

    /// How much room the map takes with its names, which are slanted to the right.
    pub fn size(&self) -> (f64, f64) {
        let slanted = 0.5 * room(self.columns, NAME) - self.cell.0 / 2.0 + 12.0;
        (self.x(self.columns.len()) + slanted.max(12.0), self.y(self.rows.len()) + 14.0)
    }

    /// The map and its names; where cells are small, names of every second or third.
    pub fn drawn(&self, colour: impl Fn(usize, usize) -> palette::Rgb) -> Markup {
        let (rows, columns) = (self.rows.len(), self.columns.len());
        let cells = RgbImage::from_fn(columns as u32, rows as u32, |x, y| Rgb(colour(y as usize, x as usize)));
        let size = (self.cell.0 * columns as f64, self.cell.1 * rows as f64);
        html! {
            g font-size="12" {
                (self.names())
                (framed(self.x(0), self.y(0), size, &exact(&at_most(&cells, 1024))))
                @if self.cell.0 >= 10.0 { path d=(self.mesh()) stroke="#e4e4e4" fill="none" {} }
            }
        }
    }

    fn names(&self) -> Markup {
        const LINE: f64 = 13.0;
        let every = |cell: f64| (LINE / cell).ceil() as usize;
        let ink = |column: usize| if self.dimmed[column] { DIM } else { "#333333" };
        html! {
            @for (row, name) in self.rows.iter().enumerate().step_by(every(self.cell.1)) {
                text x=(self.x(0) - 8.0) y=(self.y(row) + self.cell.1 / 2.0 + 4.0) text-anchor="end" { (shortened(name, NAME)) }
            }
            @for (column, name) in self.columns.iter().enumerate().step_by(every(self.cell.0)) {
                @let (x, y) = (self.x(column) + self.cell.0 / 2.0 + 4.0, self.y(0) - 6.0);
                text transform=(format!("translate({x:.1} {y:.1}) rotate(-60)")) fill=(ink(column)) { (shortened(name, NAME)) }
            }
        }
    }

    /// Pale lines between the cells.
    fn mesh(&self) -> String {
        let (right, bottom) = (self.x(self.columns.len()), self.y(self.rows.len()));
        let across = (1..self.rows.len()).map(|row| format!("M{:.1} {:.1}H{right:.1}", self.x(0), self.y(row)));
        let down = (1..self.columns.len()).map(|column| format!("M{:.1} {:.1}V{bottom:.1}", self.x(column), self.y(0)));
        across.chain(down).collect()
    }
}
