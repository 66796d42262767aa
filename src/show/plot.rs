//! Curves and bars, shown: alive in JupyterLab by plotly, everywhere else as a still picture.

use super::chart::{Chart, Data, Series};
use super::{Show, drawing, live, picture, signed};
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
            Data::Curves(series) => series.iter().map(|series| curve_text(series, self.drawn(series))).collect(),
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

fn curve_text(series: &Series, points: impl Iterator<Item = (f64, f64)>) -> String {
    let points: Vec<_> = points.map(|(x, y)| format!("{}: {}", short(x), short(y))).collect();
    format!("{:>16}  {}\n", series.name, points.join("  "))
}

/// Three significant digits at most, as short as they come.
fn short(x: f64) -> String {
    match x.abs() {
        plain if plain == 0.0 || (1e-3..1e4).contains(&plain) => format!("{}", (x * 1e4).round() / 1e4),
        _ => format!("{x:.2e}"),
    }
}
