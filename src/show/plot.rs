//! Curves, points and bars, shown: alive in JupyterLab by plotly, everywhere else as a still picture.

use super::bars::scale;
use super::card::card;
use super::chart::{Chart, Data, Series};
use super::columns::{Edge, lines, own_line};
use super::labels::{line, shortened};
use super::{Show, blocks, drawing, ends, live, signed};
use crate::agreement::rank_correlation;
use crate::integrated_gradients::Convergence;

impl Show for Convergence {
    fn text(&self) -> String {
        self.chart().text()
    }

    fn html(&self) -> String {
        self.chart().html()
    }

    fn plotly(&self) -> Option<String> {
        self.chart().plotly()
    }

    fn svg(&self) -> Option<String> {
        self.chart().svg()
    }
}

impl Show for Chart {
    fn text(&self) -> String {
        let (names, said): (Vec<String>, Vec<String>) = said(self).into_iter().unzip();
        let names = names.iter().map(|name| shortened(name, 32)).collect();
        let (bars, more) = self.bars_drawn();
        let edge = if bars.is_empty() { Edge::Left } else { Edge::Right };
        let mut columns = vec![(Edge::Right, names), (edge, said)];
        if !bars.is_empty() {
            columns.push((Edge::Left, blocks::bars(&bars.iter().map(|bar| bar.1 / scale(bars)).collect::<Vec<_>>())));
        }
        format!("{}\n{}{}{}", line(&self.title), lines(&columns), own_line(more.as_deref()), self.note)
    }

    fn html(&self) -> String {
        let said: Vec<String> = said(self).into_iter().map(|(name, said)| format!("{name} {said}")).collect();
        let picture = drawing::of(self).picture(&format!("{}: {}", self.title, said.join("; ")));
        card(maud::html! { b dir="auto" { (self.title) } }, picture, std::slice::from_ref(&self.note)).into_string()
    }

    fn plotly(&self) -> Option<String> {
        Some(live::of(self).to_json())
    }

    fn svg(&self) -> Option<String> {
        Some(drawing::of(self).titled(&self.title))
    }
}

/// What is drawn, in words: what it is called, and what is said of it.
fn said(chart: &Chart) -> Vec<(String, String)> {
    match &chart.data {
        Data::Bars(_) => chart.bars_drawn().0.iter().map(|(name, value)| (name.clone(), signed(*value))).collect(),
        Data::Curves(series) => series.iter().enumerate().map(|(i, s)| (s.name.clone(), curve(chart, s, i))).collect(),
        Data::Points(series) => series.iter().map(|s| (s.name.clone(), points(chart.drawn(s)))).collect(),
    }
}

fn curve(chart: &Chart, series: &Series, curve: usize) -> String {
    let band = chart.band(curve);
    let range = |x: f64| band.iter().find(|(at, _)| *at == x).map(|(_, ends)| *ends);
    let range = |x| range(x).map_or(String::new(), |(low, high)| format!(" ({} to {})", short(low), short(high)));
    let points: Vec<_> = chart.drawn(series).map(|(x, y)| format!("{}: {}{}", short(x), short(y), range(x))).collect();
    format!(" {}", points.join("  "))
}

/// How many points there are, where they lie, and whether y rises with x.
fn points(points: impl Iterator<Item = (f64, f64)>) -> String {
    let (x, y): (Vec<f64>, Vec<f64>) = points.unzip();
    let correlation = rank_correlation(&x, &y).map_or(String::new(), |r| format!(", rank correlation {}", short(r)));
    let range = |of: &[f64]| {
        let (low, high) = ends(of.iter().copied());
        format!("from {} to {}", short(low), short(high))
    };
    let ranges = if x.is_empty() { String::new() } else { format!(", x {}, y {}", range(&x), range(&y)) };
    format!(" {} points{ranges}{correlation}", x.len())
}

/// Three significant digits at most, as short as they come.
fn short(x: f64) -> String {
    match x.abs() {
        plain if plain == 0.0 || (1e-3..1e4).contains(&plain) => format!("{}", (x * 1e4).round() / 1e4),
        _ => format!("{x:.2e}"),
    }
    .replace('-', "−")
}
