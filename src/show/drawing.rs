//! Charts as static SVG pictures: what GitHub, print and an untrusted notebook show.

use maud::{Markup, html};

use super::beside;
use super::chart::{Chart, Data, Series};
use super::palette::{SERIES, diverging, hex};

/// The frame that data is drawn in, in pixels, and the values at its edges.
struct Plane {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x: (f64, f64),
    y: (f64, f64),
}

impl Plane {
    fn x(&self, value: f64) -> f64 {
        self.left + (value - self.x.0) / (self.x.1 - self.x.0) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.y.0) / (self.y.1 - self.y.0) * (self.bottom - self.top)
    }
}

const WIDTH: f64 = 720.0;
const GREY: &str = "#444444";
const MESH: &str = "#e0e0e0";
pub(super) const PALE: &str = "#888888";

/// The chart as an SVG document.
pub(super) fn of(chart: &Chart) -> String {
    let body = match &chart.data {
        Data::Curves(series) => plotted(chart, series, &CURVES),
        Data::Points(series) => plotted(chart, series, &CIRCLES),
        Data::Bars(bars) => self::bars(chart, bars),
    };
    document(
        WIDTH,
        chart.height(),
        html! {
            text x=(WIDTH / 2.0) y="22" text-anchor="middle" font-size="15" font-weight="bold" { (chart.title) }
            (body)
        },
    )
}

/// An SVG document on white, so that it reads in a dark notebook too.
pub(super) fn document(width: f64, height: f64, body: Markup) -> String {
    let view = format!("0 0 {width} {height}");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox=(view) font-family="sans-serif" fill=(GREY) {
            rect width="100%" height="100%" fill="#ffffff" {}
            (body)
        }
    }
    .into_string()
}

/// How a series is drawn, and its sample in the legend.
struct Marks {
    series: fn(&Plane, usize, &[(f64, f64)]) -> Markup,
    sample: fn(usize, f64, f64) -> Markup,
}

const CURVES: Marks = Marks { series: line, sample: dashes };
const CIRCLES: Marks = Marks { series: circles, sample: |i, x, y| circle(i, x + 12.0, y) };

fn plotted(chart: &Chart, series: &[Series], marks: &Marks) -> Markup {
    let place = |value: f64| if chart.log { value.log10() } else { value };
    let points = |s| chart.drawn(s).map(|(x, y)| (place(x), place(y))).collect::<Vec<_>>();
    let curves: Vec<Vec<(f64, f64)>> = series.iter().map(points).collect();
    let edge = |(x, (low, high)): (f64, (f64, f64))| (place(x), (place(low), place(high)));
    let bands: Vec<Vec<_>> = (0..series.len()).map(|i| chart.band(i).into_iter().map(edge).collect()).collect();
    let reached = bands.iter().flatten().flat_map(|(_, (low, high))| [*low, *high]);
    let legend = 10.0 + 7.5 * series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0) as f64 + 30.0;
    let (x, y) = match chart.ends() {
        Some(ends) => [span(ends.map(place).into_iter()); 2].into(),
        None => (span(curves.iter().flatten().map(|p| p.0)), span(curves.iter().flatten().map(|p| p.1).chain(reached))),
    };
    let plane = Plane { left: 80.0, top: 40.0, right: WIDTH - legend - 15.0, bottom: chart.height() - 50.0, x, y };
    html! {
        (axes(chart, &plane))
        @if chart.ends().is_some() { (diagonal(&plane, series.len())) }
        @for (i, band) in bands.iter().enumerate() { (self::band(&plane, i, band)) }
        @for (i, curve) in curves.iter().enumerate() { ((marks.series)(&plane, i, curve)) }
        @for (i, series) in series.iter().enumerate() {
            (legend_entry(&plane, i, &series.name, |x, y| (marks.sample)(i, x, y)))
        }
    }
}

/// The line y = x from corner to corner, as both axes begin and end alike.
fn diagonal(plane: &Plane, entry: usize) -> Markup {
    let line = |x1: f64, x2: f64, y1: f64, y2: f64| {
        html! { line x1=(x1) x2=(x2) y1=(y1) y2=(y2) stroke=(PALE) {} }
    };
    html! {
        (line(plane.left, plane.right, plane.bottom, plane.top))
        (legend_entry(plane, entry, "y = x", |x, y| line(x, x + 24.0, y, y)))
    }
}

/// Ticks, mesh and labels of both axes.
fn axes(chart: &Chart, plane: &Plane) -> Markup {
    let (across, up) = ((plane.left + plane.right) / 2.0, (plane.top + plane.bottom) / 2.0);
    html! {
        g font-size="12" {
            @for tick in ticks(plane.x, chart.log) {
                line x1=(plane.x(tick)) x2=(plane.x(tick)) y1=(plane.top) y2=(plane.bottom) stroke=(MESH) {}
                text x=(plane.x(tick)) y=(plane.bottom + 18.0) text-anchor="middle" { (tick_label(tick, chart.log)) }
            }
            @for tick in ticks(plane.y, chart.log) {
                line x1=(plane.left) x2=(plane.right) y1=(plane.y(tick)) y2=(plane.y(tick)) stroke=(MESH) {}
                text x=(plane.left - 8.0) y=(plane.y(tick) + 4.0) text-anchor="end" { (tick_label(tick, chart.log)) }
            }
            text x=(across) y=(plane.bottom + 40.0) text-anchor="middle" { (chart.x) }
            text x="18" y=(up) text-anchor="middle" transform=(format!("rotate(-90 18 {up})")) { (chart.y) }
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

fn legend_entry(plane: &Plane, i: usize, name: &str, sample: impl Fn(f64, f64) -> Markup) -> Markup {
    let (x, y) = (plane.right + 12.0, plane.top + 10.0 + 20.0 * i as f64);
    html! {
        (sample(x, y))
        text x=(x + 30.0) y=(y + 4.0) font-size="12" { (name) }
    }
}

fn colour(i: usize) -> String {
    hex(SERIES[i % SERIES.len()])
}

fn dash(i: usize) -> &'static str {
    ["none", "7 4", "2 3", "9 3 2 3", "14 4"][i % 5]
}

fn bars(chart: &Chart, bars: &[(String, f64)]) -> Markup {
    let longest = bars.iter().map(|bar| bar.0.chars().count()).max().unwrap_or(0).min(28);
    let scale = bars.iter().map(|bar| bar.1.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let (low, high) = bars.iter().fold((0f64, 0f64), |(low, high), bar| (low.min(bar.1), high.max(bar.1)));
    let room = 0.14 * (high - low).max(f64::MIN_POSITIVE);
    let x = (if low < 0.0 { low - room } else { 0.0 }, if high > 0.0 || low == 0.0 { high + room } else { 0.0 });
    let bottom = chart.height() - 50.0;
    let y = (bars.len().max(1) as f64, 0.0);
    let plane = Plane { left: 24.0 + 8.0 * longest as f64, top: 40.0, right: WIDTH - 20.0, bottom, x, y };
    html! {
        g font-size="12" {
            @for tick in ticks(plane.x, false) {
                line x1=(plane.x(tick)) x2=(plane.x(tick)) y1=(plane.top) y2=(bottom) stroke=(MESH) {}
                text x=(plane.x(tick)) y=(bottom + 18.0) text-anchor="middle" { (tick_label(tick, false)) }
            }
            text x=((plane.left + plane.right) / 2.0) y=(bottom + 38.0) text-anchor="middle" { (chart.x) }
            @for (i, (label, value)) in bars.iter().enumerate() { (bar(&plane, i, label, *value, scale)) }
            line x1=(plane.x(0.0)) x2=(plane.x(0.0)) y1=(plane.top) y2=(bottom) stroke=(GREY) {}
        }
    }
}

fn bar(plane: &Plane, row: usize, label: &str, value: f64, scale: f64) -> Markup {
    let (zero, end, y) = (plane.x(0.0), plane.x(value), plane.y(row as f64));
    let (anchor, place) = if value < 0.0 { ("end", end - 5.0) } else { ("start", end + 5.0) };
    html! {
        rect x=(zero.min(end)) y=(y + 3.0) width=((end - zero).abs()) height="16" fill=(hex(diverging(value / scale))) stroke="#777777" {}
        text x=(plane.left - 8.0) y=(y + 15.0) text-anchor="end" { (shortened(label, 28)) }
        text x=(place) y=(y + 15.0) text-anchor=(anchor) font-size="11" { (beside(value, scale)) }
    }
}

/// At most `most` characters, the last an ellipsis if some were left out.
pub(super) fn shortened(label: &str, most: usize) -> String {
    match label.chars().count() > most {
        true => label.chars().take(most - 1).chain(['…']).collect(),
        false => label.into(),
    }
}

/// The least and the greatest value, with a little room.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let room = 0.05 * (high - low);
    match low {
        f64::MAX => (0.0, 1.0),
        _ if low < high => (low - room, high + room),
        _ => (low - low.abs().max(1.0), low + low.abs().max(1.0)),
    }
}

/// Round numbers within a span.
fn ticks((low, high): (f64, f64), log: bool) -> Vec<f64> {
    if log {
        return decades(low, high);
    }
    let rough = (high - low) / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil();
    (0..12).map(|k| (first + f64::from(k)) * step).take_while(|tick| *tick <= high).collect()
}

/// Powers of ten, every second or third if there are many, and 2 and 5 times them if there are few.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let every = ((high - low) / 7.0).ceil().max(1.0) as i64;
    let powers = (low.floor() as i64..=high.ceil() as i64).filter(|power| power.rem_euclid(every) == 0);
    let between: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let all = powers.flat_map(|power| between.iter().map(move |m| power as f64 + m.log10()));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

fn tick_label(tick: f64, log: bool) -> String {
    match log {
        true if (-1e-9..5.0).contains(&tick) => format!("{}", 10f64.powf(tick).round()),
        true => {
            let power = (tick + 1e-9).floor();
            format!("{:.0}e{power:.0}", 10f64.powf(tick - power))
        }
        false if tick != 0.0 && !(1e-3..1e5).contains(&tick.abs()) => format!("{tick:.1e}"),
        false => format!("{tick:.4}").trim_end_matches('0').trim_end_matches('.').to_string(),
    }
    .replace('-', "−")
}
