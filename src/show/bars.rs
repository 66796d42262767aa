//! Bars as a still picture.

use maud::{Markup, html};

use super::beside;
use super::chart::Chart;
use super::drawing::{Plane, WIDTH, across};
use super::labels::shortened;
use super::palette::{diverging, hex};
use super::svg::{Drawing, GREY, room};

const ROW: f64 = 22.0;

pub(super) fn of(chart: &Chart) -> Drawing {
    let (bars, more) = chart.bars_drawn();
    let names: Vec<String> = bars.iter().map(|bar| shortened(&bar.0, 40)).collect();
    let (left, right, bottom) = (24.0 + room(&names, 40), WIDTH - 20.0, 12.0 + ROW * bars.len() as f64);
    let plane =
        Plane { left, top: 8.0, right, bottom, x: along(bars, right - left), y: (bars.len().max(1) as f64, 0.0) };
    let scale = scale(bars);
    let body = html! {
        (across(chart, &plane))
        g font-size="12" {
            @for (i, (name, bar)) in names.iter().zip(bars).enumerate() { (self::bar(&plane, i, name, bar.1, scale)) }
            line x1=(plane.x(0.0)) x2=(plane.x(0.0)) y1=(plane.top) y2=(bottom) stroke=(GREY) {}
            @if let Some(more) = &more { text x=(left) y=(bottom + 58.0) { (more) } }
        }
    };
    Drawing { width: WIDTH, height: bottom + if more.is_some() { 68.0 } else { 48.0 }, body }
}

fn finite(bars: &[(String, f64)]) -> impl Iterator<Item = f64> {
    bars.iter().map(|bar| bar.1).filter(|value| value.is_finite())
}

/// The longest bar, which has full colour.
pub(super) fn scale(bars: &[(String, f64)]) -> f64 {
    finite(bars).map(f64::abs).fold(f64::MIN_POSITIVE, f64::max)
}

/// The ends of an axis `pixels` long, with room for the numbers at the bars' ends.
fn along(bars: &[(String, f64)], pixels: f64) -> (f64, f64) {
    const NUMBER: f64 = 68.0;
    let (low, high) = finite(bars).fold((0f64, 0f64), |(low, high), value| (low.min(value), high.max(value)));
    let (below, above) = (if low < 0.0 { NUMBER } else { 0.0 }, if high > 0.0 || low == 0.0 { NUMBER } else { 0.0 });
    let unit = if low < high { (high - low) / (pixels - below - above) } else { 1.0 / pixels };
    (low - below * unit, high + above * unit)
}

/// A bar with its name and its number. What is no number has no length.
fn bar(plane: &Plane, row: usize, name: &str, value: f64, scale: f64) -> Markup {
    let length = if value.is_finite() { value } else { 0.0 };
    let (zero, end, y) = (plane.x(0.0), plane.x(length), plane.y(row as f64));
    let (anchor, place) = if length < 0.0 { ("end", end - 5.0) } else { ("start", end + 5.0) };
    html! {
        rect x=(zero.min(end)) y=(y + 3.0) width=((end - zero).abs()) height="16" fill=(hex(diverging(length / scale))) stroke="#777777" {}
        text x=(plane.left - 8.0) y=(y + 15.0) text-anchor="end" { (name) }
        text x=(place) y=(y + 15.0) text-anchor=(anchor) font-size="11" { (beside(value, scale)) }
    }
}
