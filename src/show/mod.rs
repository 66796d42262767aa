//! Results as figures: in a notebook cell, in a terminal, in a file.
//!
//! In a notebook the last expression of a cell is shown by itself, because evcxr looks for `evcxr_display`. Every figure is
//! HTML that needs no script and no network, with a text twin; curves and bars are, besides, charts of the plotly crate,
//! which JupyterLab brings to life.
//!
//! All figures stand on the same card: a title, the figure, then in small print what its colours mean and the law it promises.
//! The card is light in a dark notebook too, because a scale that goes through white can be read on nothing else. What is
//! wider than the page scrolls within the card. Blue supports, orange speaks against and is marked besides (underlined, −,
//! dashed or to the left), purple is what has no sign.

mod bars;
mod blocks;
mod card;
mod chart;
mod columns;
mod comparison;
mod contour;
mod curves;
mod drawing;
mod gallery;
mod grid;
mod heads;
mod heat;
mod labels;
mod law;
mod leaderboard;
mod legend;
mod live;
mod mask;
mod matrix;
mod overlay;
mod palette;
mod picture;
mod plot;
mod running;
mod small_bars;
mod strip;
mod svg;
mod table;
mod ticks;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

pub(crate) use card::notice;
pub use chart::{Chart, Series};
pub use comparison::Comparison;
pub use gallery::{Gallery, Panel};
pub use heads::{HeadGrid, Heatmap};
pub use mask::{min_max, red_mask};
pub use matrix::Matrix;
pub use overlay::Overlay;
pub use strip::HeatStrip;
pub use table::ScoreTable;

use crate::{Error, Result};

/// Something that can be looked at.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, -3.0], &Device::Cpu)?;
/// let why = gradient_x_input(|x| Ok(x.sum(1)?), &x)?;
/// let path = std::env::temp_dir().join(format!("pellucid-{}.json", std::process::id()));
/// why.save(&path)?;
/// assert_eq!(Attribution::from_json(&std::fs::read_to_string(&path)?)?, why);
/// assert!(why.text().contains("x[1]") && why.html().contains("gradient × input"));
/// # std::fs::remove_file(path)?;
/// # Ok::<(), pellucid::Error>(())
/// ```
pub trait Show {
    /// The figure as plain text, for a terminal.
    fn text(&self) -> String;

    /// The figure as self-contained HTML: no scripts, no network, everything escaped.
    fn html(&self) -> String;

    /// The figure as a plotly chart, where it is one: JSON with `data` and `layout`.
    fn plotly(&self) -> Option<String> {
        None
    }

    /// The figure as one SVG picture, where it is one.
    fn svg(&self) -> Option<String> {
        None
    }

    /// The picture in the figure, pixel by pixel, as a PNG file, where there is one.
    fn png(&self) -> Option<Vec<u8>> {
        None
    }

    /// The figure as it hangs in a [`Gallery`], where it is a picture.
    fn panel(&self) -> Option<Panel> {
        None
    }

    /// What is shown as JSON, to be read by programs: an attribution whole, a chart as plotly has it.
    fn json(&self) -> Option<String> {
        self.plotly()
    }

    /// Shows the figure as a notebook cell's output. evcxr calls this for a cell's last expression.
    fn evcxr_display(&self) {
        let mut out = String::new();
        let parts = [
            ("application/vnd.plotly.v1+json", self.plotly()),
            ("text/html", Some(self.html())),
            ("text/plain", Some(self.text())),
        ];
        for (mime, content) in parts.into_iter().filter_map(|(mime, content)| Some((mime, content?))) {
            let _ = write!(out, "EVCXR_BEGIN_CONTENT {mime}\n{content}\nEVCXR_END_CONTENT\n");
        }
        // A notebook that has gone away takes no figures; that is no reason to panic.
        let _ = std::io::stdout().lock().write_all(out.as_bytes());
    }

    /// Writes the figure to a file: `.html`, `.svg`, `.png`, `.txt` or `.json`.
    ///
    /// Errors: another ending; a picture of something that is none; a file that cannot be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        let path = path.as_ref();
        let content = match path.extension().and_then(|ending| ending.to_str()) {
            Some("html") => Some(page(&self.html()).into_bytes()),
            Some("txt") => Some(self.text().into_bytes()),
            Some("svg") => self.svg().map(String::into_bytes),
            Some("png") => self.png(),
            Some("json") => self.json().map(String::into_bytes),
            _ => None,
        };
        let content = content.ok_or_else(|| {
            Error::file(
                path,
                "figures are saved as .html or .txt; drawn ones (charts, matrices, attention maps, overlays, galleries) also as .svg, \
                 pictures and overlays as .png, attributions, overlays and charts as .json",
            )
        })?;
        std::fs::write(path, content).map_err(|error| Error::file(path, error))
    }
}

/// A figure as a page of its own.
fn page(figure: &str) -> String {
    maud::html! {
        (maud::DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; title { "pellucid" } }
            body style="font-family: sans-serif; margin: 1em" { (maud::PreEscaped(figure)) }
        }
    }
    .into_string()
}

/// The least and the greatest of some numbers; of none, `(MAX, MIN)`.
fn ends(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    numbers.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)))
}

/// A number with its sign and four significant digits.
fn signed(x: f64) -> String {
    beside(x, x)
}

/// A number with its sign, to as many decimals as give the largest of its kind four significant digits; 0 if nothing is
/// left of it then.
fn beside(x: f64, largest: f64) -> String {
    if !x.is_finite() {
        return format!("{x:+}").replace('-', "−").replace("+NaN", "NaN");
    }
    let largest = if largest.abs() > f64::MIN_POSITIVE { largest.abs() } else { 0.0 };
    let power = (largest * 1.00005).log10().floor(); // 0.99996 is written as 1.000
    let decimals = if largest == 0.0 { 3.0 } else { (3.0 - power).clamp(0.0, 7.0) };
    let text = match largest {
        extreme if extreme != 0.0 && !(1e-4..1e6).contains(&extreme) => format!("{x:+.2e}"),
        _ => format!("{x:+.*}", decimals as usize),
    };
    let nothing = !text.contains(|digit: char| ('1'..='9').contains(&digit));
    if nothing { "0".into() } else { text.replace('-', "−") }
}
