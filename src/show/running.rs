//! Parts of a text, shaded where they stand: the text itself, with all that lies between them.

use maud::{Markup, html};
use unicode_segmentation::UnicodeSegmentation;

use super::beside;
use super::strip::ink;
use crate::attribution::Attribution;
use crate::model::text::Token;

/// The text as it is written, each part shaded by its share of the scale, with its score behind it where that counts.
pub(super) fn running(attribution: &Attribution, scale: f64) -> Markup {
    /// Every paragraph runs in its own direction; where an untrusted notebook strips that, all run in that of the first.
    const TEXT: &str = "margin: 0; white-space: pre-wrap; overflow-wrap: break-word; overflow-wrap: anywhere; \
                        unicode-bidi: plaintext; line-height: 1.8";
    let parts = attribution.tokens();
    let (pieces, rest) = pieces(attribution.features.text().unwrap_or_default(), parts);
    let least = least(parts, scale);
    html! {
        div dir="auto" style=(TEXT) {
            @for ((before, part), &score) in pieces.into_iter().zip(&attribution.scores) {
                (before)
                span style=(format!("border-radius: 3px; padding: 0.1em 0{}", ink(score / scale))) { (part) }
                @if score.abs() >= least { (number(score, scale)) }
            }
            (rest)
        }
    }
}

/// The parts as the text spells them, each after what stands before it, and what stands after the last.
fn pieces<'a>(text: &'a str, parts: &'a [Token]) -> (Vec<(&'a str, &'a str)>, &'a str) {
    let mut at = 0;
    let piece = |part: &'a Token| {
        let before = text.get(at..part.start).unwrap_or(" ");
        at = at.max(part.end);
        (before, text.get(part.start..part.end).unwrap_or(&part.text))
    };
    let pieces = parts.iter().map(piece).collect();
    (pieces, text.get(at..).unwrap_or_default())
}

/// The least |score| that is printed: any of a few parts, a twentieth of the largest if there are more, none of many words.
fn least(parts: &[Token], scale: f64) -> f64 {
    let words = || parts.iter().all(|part| part.text.unicode_words().count() <= 1);
    match parts.len() {
        0..=12 => 0.0,
        41.. if words() => f64::INFINITY,
        _ => 0.05 * scale,
    }
}

/// A score that stays with the part before it (U+2060 forbids a break), from left to right in any text.
fn number(score: f64, scale: f64) -> Markup {
    html! { "\u{2060}" bdi dir="ltr" style="font-size: 65%; white-space: nowrap; padding: 0 0.2em" { (beside(score, scale)) } }
}
