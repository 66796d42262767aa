//! Drawings as SVG documents: on white, with letters of 12 pixels and of 11, and in words that every reader of XML takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::columns::widest;
use super::labels::shortened;

/// The colour of letters.
pub(super) const GREY: &str = "#444444";

/// A drawing, without a title.
pub(super) struct Drawing {
    pub width: f64,
    pub height: f64,
    pub body: Markup,
}

impl Drawing {
    /// The document.
    pub fn svg(&self) -> String {
        document(self.width, self.height, &self.body)
    }

    /// The document as a file of its own, which has to say what it shows.
    pub fn titled(&self, title: &str) -> String {
        const ROOM: f64 = 28.0;
        let title = shortened(title, (self.width / 8.2) as usize);
        let body = html! {
            text x="8" y="18" font-size="13" font-weight="bold" { (title) }
            g transform=(format!("translate(0 {ROOM})")) { (self.body) }
        };
        document(self.width, self.height + ROOM, &body)
    }

    /// The drawing in HTML, as a picture, which survives where scripts and inline SVG are stripped, with words for those who
    /// cannot see it. It is never so small that its letters cannot be read: rather it scrolls.
    pub fn picture(&self, words: &str) -> Markup {
        /// Letters of 12 pixels have more than 8 then, and a page of A4 has room for a drawing 1000 pixels wide.
        const LEAST: f64 = 0.7;
        let source = format!("data:image/svg+xml;base64,{}", STANDARD.encode(self.svg()));
        let style = format!(
            "display: block; max-width: 100%; min-width: {:.0}px; background-color: #ffffff",
            LEAST * self.width
        );
        html! { img src=(source) alt=(shortened(words, 1000)) style=(style); }
    }
}

/// An SVG document on white.
pub(super) fn document(width: f64, height: f64, body: &Markup) -> String {
    let view = format!("0 0 {width} {height}");
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox=(view) font-family="sans-serif" fill=(GREY) {
            rect width="100%" height="100%" fill="#ffffff" {}
            (body)
        }
    };
    svg.into_string().replace(|c| !is_xml(c), "\u{fffd}")
}

/// Whether XML 1.0 knows a character (§2.2). A document that has another cannot be shown.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// How many pixels the longest of some labels takes, at about 7.4 a place; none is longer than `most` places.
pub(super) fn room<'a>(labels: impl IntoIterator<Item = &'a String>, most: usize) -> f64 {
    7.4 * widest(labels).min(most) as f64
}
