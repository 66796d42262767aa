//! The card that every figure stands on. It brings its own light ground: on a scale that goes through white, a dark notebook
//! would show nothing where much is, and much where nothing is.

use maud::{Markup, html};

use super::labels::line;
use crate::attribution::Attribution;

/// The sizes of letters: a title and a text as the page has them, tables a little smaller, small print. In drawings they are 12
/// and 11 pixels.
pub(super) const TABLE: &str = "border-collapse: collapse; margin: 0 0 0.4em 0; font-size: 90%; color: #222222";
/// A row that shows the card through: notebooks give rows grounds of their own.
pub(super) const ROW: &str = "background-color: transparent";
const SMALL: &str = "font-size: 85%; color: #444444; margin-top: 0.4em";

/// What is dimmed, and yet can be read.
pub(super) const DIM: &str = "#6e6e6e";

/// A ground that printers keep, too.
const CARD: &str = "font-family: sans-serif; line-height: 1.4; text-align: left; color: #222222; border-radius: 4px; \
                    padding: 0.5em 0.8em; margin: 0.4em 0; -webkit-print-color-adjust: exact; print-color-adjust: exact";

/// A figure: what it shows, the figure itself, and below it what must be known to read it.
///
/// What is too wide scrolls by itself.
pub(super) fn card(title: Markup, body: Markup, notes: &[String]) -> Markup {
    let notes = notes.iter().filter(|note| !note.is_empty());
    html! {
        figure style=(format!("{CARD}; background-color: #ffffff; border: 1px solid #dddddd")) {
            @if !title.0.is_empty() { figcaption style="margin: 0 0 0.3em 0; overflow-wrap: break-word" { (title) } }
            div style="overflow-x: auto; padding: 2px 0" { (body) }
            div style=(SMALL) { @for note in notes { div style="overflow-wrap: break-word" { (note) } } }
        }
    }
}

/// A few words on a coloured ground.
pub(crate) fn notice(ground: &str, edge: &str, words: Markup) -> Markup {
    html! {
        div style=(format!("{CARD}; background-color: {ground}; border-left: 5px solid {edge}")) { (words) }
    }
}

/// What was explained, and how.
pub(super) fn title(attribution: &Attribution) -> Markup {
    html! { b { (attribution.method) } ", " bdi { (line(&attribution.target)) } }
}
