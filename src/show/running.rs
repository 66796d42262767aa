//! Parts of a text, shaded where they stand: the text itself, with all that lies between them.

use maud::{Markup, html};
use unicode_segmentation::UnicodeSegmentation;

use super::beside;
use super::strip::ink;
use crate::attribution::Attribution;
use crate::model::text::Token;

/// The text as it is written, each part shaded by its share of the scale, with its score behind it where that counts. Every
/// paragraph runs in its own direction.
pub(super) fn running(attribution: &Attribution, scale: f64) -> Markup {
    const TEXT: &str = "white-space: pre-wrap; overflow-wrap: break-word; overflow-wrap: anywhere; line-height: 1.8";
    let least = least(attribution.tokens(), scale);
    html! {
        div style=(TEXT) {
            @for paragraph in paragraphs(&pieces(attribution)) {
                div dir="auto" { @for line in paragraph { (drawn(&line, scale, least)) } }
            }
        }
    }
}

/// A piece of the text: a part with its score, or what lies between parts. Of a part of several lines the last is marked.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    score: Option<f64>,
    is_last: bool,
}

/// The text in pieces, as it spells them.
fn pieces(attribution: &Attribution) -> Vec<Piece<'_>> {
    let (text, mut at) = (attribution.features.text().unwrap_or_default(), 0);
    let mut pieces = Vec::new();
    for (part, &score) in attribution.tokens().iter().zip(&attribution.scores) {
        let spelled = text.get(part.start..part.end).unwrap_or(&part.text);
        pieces.push(Piece { text: text.get(at..part.start).unwrap_or(" "), score: None, is_last: true });
        pieces.push(Piece { text: spelled, score: Some(score), is_last: true });
        at = at.max(part.end);
    }
    pieces.push(Piece { text: text.get(at..).unwrap_or_default(), score: None, is_last: true });
    pieces
}

/// The same cut where lines end, paragraph by paragraph.
fn paragraphs<'a>(pieces: &[Piece<'a>]) -> Vec<Vec<Piece<'a>>> {
    let lines = pieces.iter().flat_map(|piece| {
        let count = piece.text.split_inclusive('\n').count();
        let cut = move |(i, text)| Piece { text, is_last: i + 1 == count, ..*piece };
        piece.text.split_inclusive('\n').enumerate().map(cut)
    });
    let lines: Vec<Piece> = lines.collect();
    lines.split_inclusive(|line| line.text.ends_with('\n')).map(<[_]>::to_vec).collect()
}

fn drawn(line: &Piece, scale: f64, least: f64) -> Markup {
    html! {
        @match line.score {
            None => (line.text),
            Some(score) => {
                span style=(format!("border-radius: 3px; padding: 0.1em 0{}", ink(score / scale))) { (line.text) }
                @if line.is_last && score.abs() >= least { (number(score, scale)) }
            }
        }
    }
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
