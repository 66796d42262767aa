//! What features are called where they are listed: on one line, and with signs for what cannot be seen.

use unicode_segmentation::UnicodeSegmentation;

use super::columns::width;
use super::signed;
use crate::attribution::Attribution;

/// What the scores' features are called.
pub(super) fn names(attribution: &Attribution) -> Vec<String> {
    (0..attribution.scores.len()).map(|i| label(&attribution.features.name(i))).collect()
}

/// The largest of some |scores| over the features, special tokens left out: what has full colour.
pub(super) fn largest(attribution: &Attribution, scores: &[f64]) -> f64 {
    let plain = scores.iter().enumerate().filter(|(i, _)| !attribution.is_special(*i));
    plain.map(|(_, score)| score.abs()).fold(f64::MIN_POSITIVE, f64::max)
}

/// The features of largest |score|, in words: what a picture of them shows first.
pub(super) fn strongest(attribution: &Attribution) -> String {
    let top = attribution.top(3).into_iter().map(|(name, score)| format!("{} {}", label(&name), signed(score)));
    format!("the largest |score|: {}", top.collect::<Vec<_>>().join(", "))
}

/// A token as a label: without the space that begins a word, with signs for what cannot be seen.
pub(super) fn label(text: &str) -> String {
    let word = text.trim_matches(' ');
    match word.is_empty() {
        true => "␣".repeat(text.len().max(1)),
        false if width(word) == 0 => word.chars().map(code).collect(),
        false => line(word),
    }
}

/// A text on one line, with signs for what cannot be seen.
pub(super) fn line(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// What was explained, and how.
pub(super) fn headline(attribution: &Attribution) -> String {
    format!("{}, {}", attribution.method, line(&attribution.target))
}

/// A line of at most `most` places, the last an ellipsis if something was left out. What is read as one character stays whole;
/// what runs from right to left is isolated (U+2068 … U+2069), so that it turns nothing around that stands beside it.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let line = line(text);
    let text = if width(&line) > most { cut(&line, most) } else { line };
    if text.chars().any(runs_left) { format!("\u{2068}{text}\u{2069}") } else { text }
}

fn cut(text: &str, most: usize) -> String {
    let mut taken = 1;
    let fits = |grapheme: &&str| {
        taken += width(grapheme);
        taken <= most
    };
    text.graphemes(true).take_while(fits).chain(["…"]).collect()
}

/// Whether a character is of a script that runs from right to left: Hebrew, Arabic, and what stands beside them in Unicode.
fn runs_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// The character, or a sign for one that cannot be seen or would turn around what follows it.
fn visible(c: char) -> String {
    match c {
        '\n' => "↵".into(),
        '\t' => "⇥".into(),
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2067}' => code(c),
        seen => seen.into(),
    }
}

fn code(c: char) -> String {
    format!("⟨U+{:04X}⟩", u32::from(c))
}
