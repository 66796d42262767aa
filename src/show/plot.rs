//! Curves, points and bars, shown: alive in JupyterLab by plotly, everywhere else as a still picture.

use super::chart::{Chart, Data, Series};
use super::{Show, drawing, live, picture, signed};
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
        let body: String = match &self.data {
            Data::Bars(bars) => bars.iter().map(|(label, value)| format!("{label:>16} {}\n", signed(*value))).collect(),
            Data::Curves(series) => (0..series.len()).map(|curve| curve_text(self, series, curve)).collect(),
            Data::Points(series) => series.iter().map(|series| points_text(series, self.drawn(series))).collect(),
        };
        format!("{}\n{body}{}", self.title, self.note)
    }

    fn html(&self) -> String {
        maud::html! {
            div style="font-family: sans-serif" {
                (picture(&drawing::of(self), &self.title))
                div style="font-size: 80%" { (self.note) }
            }
        }
        .into_string()
    }

    fn plotly(&self) -> Option<String> {
        Some(live::of(self).to_json())
    }

    fn svg(&self) -> Option<String> {
        Some(drawing::of(self))
    }
}

fn curve_text(chart: &Chart, series: &[Series], curve: usize) -> String {
    let (series, band) = (&series[curve], chart.band(curve));
    let range = |x: f64| band.iter().find(|(at, _)| *at == x).map(|(_, ends)| *ends);
    let range = |x| range(x).map_or(String::new(), |(low, high)| format!(" ({} to {})", short(low), short(high)));
    let points: Vec<_> = chart.drawn(series).map(|(x, y)| format!("{}: {}{}", short(x), short(y), range(x))).collect();
    format!("{:>16}  {}\n", series.name, points.join("  "))
}

/// How many points there are, where they lie, and whether y rises with x.
fn points_text(series: &Series, points: impl Iterator<Item = (f64, f64)>) -> String {
    let (x, y): (Vec<f64>, Vec<f64>) = points.unzip();
    let correlation = rank_correlation(&x, &y).map_or(String::new(), |r| format!(", rank correlation {}", short(r)));
    let range = |of: &[f64]| {
        let (low, high) = of.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        format!("from {} to {}", short(low), short(high))
    };
    let ranges = if x.is_empty() { String::new() } else { format!(", x {}, y {}", range(&x), range(&y)) };
    format!("{:>16}  {} points{ranges}{correlation}\n", series.name, x.len())
}

/// Three significant digits at most, as short as they come.
fn short(x: f64) -> String {
    match x.abs() {
        plain if plain == 0.0 || (1e-3..1e4).contains(&plain) => format!("{}", (x * 1e4).round() / 1e4),
        _ => format!("{x:.2e}"),
    }
}
