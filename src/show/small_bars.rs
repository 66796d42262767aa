//! Small bars on one axis, a picture each: what stands beside the scores of a table.

use maud::{Markup, html};

use super::beside;
use super::card::DIM;
use super::palette::{diverging, hex};
use super::svg::Drawing;

/// A bar, and the text beside it, or below it where a page is narrow. An untrusted notebook strips `flex` and
/// `anywhere`: there the text is always beside the bar.
pub(super) fn bar_and_text(bar: Markup, index: &str, text: &str) -> Markup {
    const TEXT: &str = "flex: 1 1 14em; text-align: left; padding: 0 6px; overflow-wrap: break-word; \
                        overflow-wrap: anywhere";
    html! {
        div style="display: flex; flex-wrap: wrap; align-items: flex-start" {
            div style="line-height: 1; padding-top: 1px" { (bar) }
            div dir="auto" style=(TEXT) { bdi style=(format!("color: {DIM}")) { (index) } " " (text) }
        }
    }
}

/// The axis that the bars of a table share, and the score that has full colour.
pub(super) struct Bars {
    pub low: f64,
    pub high: f64,
    pub scale: f64,
}

impl Bars {
    const WIDTH: f64 = 150.0;
    const HEIGHT: f64 = 18.0;

    /// Where a score lies, in pixels, within the margins.
    fn x(&self, score: f64) -> f64 {
        const MARGIN: f64 = 4.0;
        let unit = self.high.max(-self.low).max(f64::MIN_POSITIVE);
        let (low, high) = (self.low / unit, self.high / unit);
        let share = (score / unit - low) / (high - low).max(1.0);
        let share = if share.is_nan() { -low / (high - low).max(1.0) } else { share.clamp(0.0, 1.0) };
        MARGIN + share * (Self::WIDTH - 2.0 * MARGIN)
    }

    /// The numbers at the ends of the axis, and 0 where there is room for it.
    pub fn head(&self) -> Markup {
        let zero = self.x(0.0);
        let room = (55.0..Self::WIDTH - 55.0).contains(&zero);
        let ends = [(self.low, "start"), (self.high, "end")];
        let largest = self.high.max(-self.low);
        let drawn = html! {
            g font-size="11" {
                @for (end, anchor) in ends {
                    text x=(self.x(end)) y="13" text-anchor=(anchor) { (beside(end, largest)) }
                }
                @if room { text x=(zero) y="13" text-anchor="middle" { "0" } }
            }
        };
        self.picture(drawn, &format!("bars from {} to {}", beside(self.low, largest), beside(self.high, largest)))
    }

    pub fn bar(&self, score: f64, interval: Option<(f64, f64)>, dimmed: bool) -> Markup {
        let (zero, end) = (self.x(0.0), self.x(score));
        let drawn = html! {
            g opacity=(if dimmed { "0.4" } else { "1" }) {
                rect x=(zero.min(end)) y="3" width=((end - zero).abs()) height="12" fill=(hex(diverging(score / self.scale))) stroke="#777777" {}
                line x1=(zero) x2=(zero) y1="0" y2=(Self::HEIGHT) stroke="#444444" {}
                @if let Some((low, high)) = interval { (whisker(self.x(low), self.x(high))) }
            }
        };
        self.picture(drawn, &beside(score, self.scale))
    }

    fn picture(&self, body: Markup, words: &str) -> Markup {
        Drawing { width: Self::WIDTH, height: Self::HEIGHT, body }.picture(words)
    }
}

/// An interval, dark within white, so that it shows on any bar.
fn whisker(from: f64, to: f64) -> Markup {
    let path = format!("M{from:.1} 9H{to:.1}M{from:.1} 5.5V12.5M{to:.1} 5.5V12.5");
    html! {
        @for (colour, width) in [("#ffffff", "4"), ("#111111", "1.5")] {
            path d=(path) fill="none" stroke=(colour) stroke-width=(width) {}
        }
    }
}
