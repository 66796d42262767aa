//! Charts as the plotly crate builds them, for JupyterLab's renderer.

use plotly::color::Rgba;
use plotly::common::{DashType, Fill, HoverInfo, Label, Line, Marker, MarkerSymbol, Mode, Orientation, Title};
use plotly::layout::{Axis, AxisType, Margin};
use plotly::{Bar, Layout, Plot, Scatter};

use super::bars::scale;
use super::chart::{Chart, Data, Series};
use super::drawing::PALE;
use super::palette::{SERIES, diverging, hex};

/// The chart as a plotly plot.
pub(super) fn of(chart: &Chart) -> Plot {
    let mut plot = Plot::new();
    match &chart.data {
        Data::Curves(series) => {
            (0..chart.bands.len()).for_each(|i| plot.add_trace(band(chart, i)));
            series.iter().enumerate().for_each(|(i, s)| plot.add_trace(curve(chart, i, s)));
        }
        Data::Points(series) => series.iter().enumerate().for_each(|(i, s)| plot.add_trace(points(chart, i, s))),
        Data::Bars(_) => plot.add_trace(bar(chart)),
    }
    diagonal(chart).into_iter().for_each(|line| plot.add_trace(line));
    plot.set_layout(layout(chart));
    plot
}

/// A text as plotly is to show it, which reads `<b>` as markup, `&lt;` as a sign and what stands between dollars as a formula.
fn literal(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('$', "&#36;")
}

/// Curves are told apart by their dashes as well as by their colours.
fn curve(chart: &Chart, i: usize, series: &Series) -> Box<Scatter<f64, f64>> {
    const DASHES: [DashType; 5] =
        [DashType::Solid, DashType::Dash, DashType::Dot, DashType::DashDot, DashType::LongDash];
    let (x, y): (Vec<_>, Vec<_>) = chart.drawn(series).unzip();
    let line = Line::new().color(hex(SERIES[i % SERIES.len()])).dash(DASHES[i % DASHES.len()].clone());
    Scatter::new(x, y).name(literal(&series.name)).mode(Mode::LinesMarkers).line(line)
}

/// A pale band in the curve's colour, there along its upper edge and back along its lower one.
fn band(chart: &Chart, i: usize) -> Box<Scatter<f64, f64>> {
    let (band, [r, g, b]) = (chart.band(i), SERIES[i % SERIES.len()]);
    let upper = band.iter().map(|(x, (_, high))| (*x, *high));
    let (x, y): (Vec<_>, Vec<_>) = upper.chain(band.iter().rev().map(|(x, (low, _))| (*x, *low))).unzip();
    let edge = Line::new().width(0.0);
    let band = Scatter::new(x, y).mode(Mode::Lines).line(edge).fill(Fill::ToSelf).fill_color(Rgba::new(r, g, b, 0.15));
    band.show_legend(false).hover_info(HoverInfo::Skip)
}

/// Circles, of every second series hollow.
fn points(chart: &Chart, i: usize, series: &Series) -> Box<Scatter<f64, f64>> {
    const SYMBOLS: [MarkerSymbol; 2] = [MarkerSymbol::Circle, MarkerSymbol::CircleOpen];
    let (x, y): (Vec<_>, Vec<_>) = chart.drawn(series).unzip();
    let marker = Marker::new().color(hex(SERIES[i % SERIES.len()])).symbol(SYMBOLS[i % 2].clone()).size(8).opacity(0.7);
    Scatter::new(x, y).name(literal(&series.name)).mode(Mode::Markers).marker(marker)
}

/// The line y = x over all that is drawn, if it was asked for.
fn diagonal(chart: &Chart) -> Option<Box<Scatter<f64, f64>>> {
    let ends = chart.ends()?;
    let line = Line::new().color(PALE).width(1.0);
    Some(Scatter::new(ends.to_vec(), ends.to_vec()).name("y = x").mode(Mode::Lines).line(line))
}

/// Bars at numbered rows, because labels may repeat.
fn bar(chart: &Chart) -> Box<Bar<f64, usize>> {
    let (bars, scale) = (chart.bars_drawn().0, scale(chart.bars_drawn().0));
    let colours: Vec<_> = bars.iter().map(|bar| hex(diverging(bar.1 / scale))).collect();
    let outline = Line::new().color("#555555").width(1.0);
    Bar::new(bars.iter().map(|bar| bar.1).collect(), (0..bars.len()).collect())
        .orientation(Orientation::Horizontal)
        .marker(Marker::new().color_array(colours).line(outline))
}

/// Names are whole where a pointer rests: cut short, «…, most first» and «…, least first» would be one.
fn layout(chart: &Chart) -> Layout {
    let title = |text: &str| Title::with_text(literal(text));
    let axis = |label: &str| Axis::new().title(title(label)).auto_margin(true);
    let layout = Layout::new().title(title(&chart.title)).margin(Margin::new().bottom(50).top(50));
    let layout = layout.hover_label(Label::new().name_length(-1));
    match &chart.data {
        Data::Curves(_) | Data::Points(_) => {
            let kind = || if chart.log { AxisType::Log } else { AxisType::Linear };
            layout.x_axis(axis(&chart.x).type_(kind())).y_axis(axis(&chart.y).type_(kind()))
        }
        Data::Bars(_) => {
            let bars = chart.bars_drawn().0;
            let rows = axis("")
                .range(vec![bars.len() as f64 - 0.5, -0.5])
                .tick_values((0..bars.len()).map(|i| i as f64).collect());
            let rows = rows.tick_text(bars.iter().map(|bar| literal(&bar.0)).collect());
            layout.x_axis(axis(&chart.x)).y_axis(rows).height(150 + 22 * bars.len())
        }
    }
}
