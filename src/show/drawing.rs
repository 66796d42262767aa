//! Charts as still pictures: what GitHub, print and an untrusted notebook show.

use maud::{Markup, html};

use super::chart::{Chart, Data, Series};
use super::columns::width;
use super::labels::shortened;
use super::palette::{SERIES, hex};
use super::svg::Drawing;
use super::ticks::ticks;
use super::{bars, ends};

/// The frame that data is drawn in, in pixels, and the values at its edges.
pub(super) struct Plane {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Plane {
    pub fn x(&self, value: f64) -> f64 {
        self.left + (value - self.x.0) / (self.x.1 - self.x.0) * (self.right - self.left)
    }

    pub fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.y.0) / (self.y.1 - self.y.0) * (self.bottom - self.top)
    }
}

pub(super) const WIDTH: f64 = 720.0;
const MESH: &str = "#e0e0e0";
pub(super) const PALE: &str = "#888888";

pub(super) fn of(chart: &Chart) -> Drawing {
    match &chart.data {
        Data::Curves(series) => plotted(chart, series, &CURVES),
        Data::Points(series) => plotted(chart, series, &CIRCLES),
        Data::Bars(_) => bars::of(chart),
    }
}

/// How a series is drawn, and its sample in the legend.
struct Marks {
    series: fn(&Plane, usize, &[(f64, f64)]) -> Markup,
    sample: fn(usize, f64, f64) -> Markup,
}

const CURVES: Marks = Marks { series: line, sample: dashes };
const CIRCLES: Marks = Marks { series: circles, sample: |i, x, y| circle(i, x + 12.0, y) };

fn plotted(chart: &Chart, series: &[Series], marks: &Marks) -> Drawing {
    let place = |value: f64| if chart.log { value.log10() } else { value };
    let points = |s| chart.drawn(s).map(|(x, y)| (place(x), place(y))).collect::<Vec<_>>();
    let curves: Vec<Vec<(f64, f64)>> = series.iter().map(points).collect();
    let edge = |(x, (low, high)): (f64, (f64, f64))| (place(x), (place(low), place(high)));
    let bands: Vec<Vec<_>> = (0..series.len()).map(|i| chart.band(i).into_iter().map(edge).collect()).collect();
    let reached = bands.iter().flatten().flat_map(|(_, (low, high))| [*low, *high]);
    let (x, y) = match chart.ends() {
        Some(ends) => [span(ends.map(place).into_iter()); 2].into(),
        None => (span(curves.iter().flatten().map(|p| p.0)), span(curves.iter().flatten().map(|p| p.1).chain(reached))),
    };
    let plane = Plane { left: 80.0, top: 12.0, right: WIDTH - 20.0, bottom: 322.0, x, y };
    let (legend, height) = legend(chart, series, &plane, marks);
    let body = html! {
        (axes(chart, &plane))
        @if chart.ends().is_some() { (diagonal(plane.left, plane.right, plane.bottom, plane.top)) }
        @for (i, band) in bands.iter().enumerate() { (self::band(&plane, i, band)) }
        @for (i, curve) in curves.iter().enumerate() { ((marks.series)(&plane, i, curve)) }
        (legend)
    };
    Drawing { width: WIDTH, height, body }
}

/// The names of what is drawn, below the chart, and how far down they reach.
fn legend(chart: &Chart, series: &[Series], plane: &Plane, marks: &Marks) -> (Markup, f64) {
    let names: Vec<String> = series.iter().map(|series| shortened(&series.name, 80)).collect();
    let names: Vec<String> = names.into_iter().chain(chart.ends().map(|_| "y = x".into())).collect();
    let places: Vec<(f64, f64)> =
        places(&names).into_iter().map(|(x, y)| (plane.left + x, plane.bottom + 60.0 + y)).collect();
    let drawn = html! {
        @for (i, (name, &(x, y))) in names.iter().zip(&places).enumerate() {
            @if i < series.len() { ((marks.sample)(i, x, y)) } @else { (diagonal(x, x + 24.0, y, y)) }
            text x=(x + 30.0) y=(y + 4.0) font-size="12" { (name) }
        }
    };
    (drawn, places.last().map_or(plane.bottom + 40.0, |place| place.1) + 14.0)
}

/// Where the entries of a legend stand: side by side, and further down where there is no more room.
fn places(names: &[String]) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (0.0, 0.0);
    let place = |name: &String| {
        let wide = 50.0 + 7.4 * width(name) as f64;
        if x > 0.0 && x + wide > WIDTH - 90.0 {
            (x, y) = (0.0, y + 20.0);
        }
        x += wide;
        (x - wide, y)
    };
    names.iter().map(place).collect()
}

/// The line y = x: from corner to corner, as both axes begin and end alike.
fn diagonal(x1: f64, x2: f64, y1: f64, y2: f64) -> Markup {
    html! { line x1=(x1) x2=(x2) y1=(y1) y2=(y2) stroke=(PALE) {} }
}

/// Ticks, mesh and label of either axis.
fn axes(chart: &Chart, plane: &Plane) -> Markup {
    let up = (plane.top + plane.bottom) / 2.0;
    html! {
        (across(chart, plane))
        g font-size="12" {
            @for (tick, label) in ticks(plane.y, chart.log) {
                line x1=(plane.left) x2=(plane.right) y1=(plane.y(tick)) y2=(plane.y(tick)) stroke=(MESH) {}
                text x=(plane.left - 8.0) y=(plane.y(tick) + 4.0) text-anchor="end" { (label) }
            }
            text x="18" y=(up) text-anchor="middle" transform=(format!("rotate(-90 18 {up})")) { (shortened(&chart.y, 40)) }
        }
    }
}

/// The same of the lower axis alone.
pub(super) fn across(chart: &Chart, plane: &Plane) -> Markup {
    html! {
        g font-size="12" text-anchor="middle" {
            @for (tick, label) in ticks(plane.x, chart.log) {
                line x1=(plane.x(tick)) x2=(plane.x(tick)) y1=(plane.top) y2=(plane.bottom) stroke=(MESH) {}
                text x=(plane.x(tick)) y=(plane.bottom + 18.0) { (label) }
            }
            text x=((plane.left + plane.right) / 2.0) y=(plane.bottom + 38.0) { (shortened(&chart.x, 80)) }
        }
    }
}

/// Curves are told apart by their dashes as well as by their colours.
fn line(plane: &Plane, i: usize, curve: &[(f64, f64)]) -> Markup {
    let at = |&(x, y): &(f64, f64)| format!("{:.1},{:.1}", plane.x(x), plane.y(y));
    let points = curve.iter().map(at).collect::<Vec<_>>().join(" ");
    html! {
        polyline points=(points) fill="none" stroke=(colour(i)) stroke-width="2" stroke-dasharray=(dash(i)) {}
        @for &(x, y) in curve { circle cx=(plane.x(x)) cy=(plane.y(y)) r="2.5" fill=(colour(i)) {} }
    }
}

/// A pale band in the curve's colour, there along its upper edge and back along its lower one.
fn band(plane: &Plane, i: usize, band: &[(f64, (f64, f64))]) -> Markup {
    let upper = band.iter().map(|(x, (_, high))| (*x, *high));
    let edge = upper.chain(band.iter().rev().map(|(x, (low, _))| (*x, *low)));
    let points = edge.map(|(x, y)| format!("{:.1},{:.1}", plane.x(x), plane.y(y))).collect::<Vec<_>>().join(" ");
    html! { @if !band.is_empty() { polygon points=(points) fill=(colour(i)) fill-opacity="0.15" {} } }
}

fn dashes(i: usize, x: f64, y: f64) -> Markup {
    html! { line x1=(x) x2=(x + 24.0) y1=(y) y2=(y) stroke=(colour(i)) stroke-width="2" stroke-dasharray=(dash(i)) {} }
}

fn circles(plane: &Plane, i: usize, points: &[(f64, f64)]) -> Markup {
    html! { @for &(x, y) in points { (circle(i, plane.x(x), plane.y(y))) } }
}

/// Points are told apart by being full or hollow as well as by their colours, and show through each other.
fn circle(i: usize, x: f64, y: f64) -> Markup {
    let full = if i.is_multiple_of(2) { "0.5" } else { "0" };
    html! { circle cx=(x) cy=(y) r="4" fill=(colour(i)) fill-opacity=(full) stroke=(colour(i)) {} }
}

fn colour(i: usize) -> String {
    hex(SERIES[i % SERIES.len()])
}

fn dash(i: usize) -> &'static str {
    ["none", "7 4", "2 3", "9 3 2 3", "14 4"][i % 5]
}

/// The least and the greatest value, with a little room.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = ends(values);
    let room = 0.05 * (high - low);
    match low {
        f64::MAX => (0.0, 1.0),
        _ if low < high => (low - room, high + room),
        _ => (low - low.abs().max(1.0), low + low.abs().max(1.0)),
    }
}
