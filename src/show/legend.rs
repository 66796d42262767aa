//! What the colours of maps mean: in words, and as bars with numbers.

use maud::{Markup, html};

use super::palette::{Rgb, hex, stained};
use super::{beside, signed};

const STEPS: usize = 24;

/// What the colours of a heat map mean.
pub(super) fn colours(is_signed: bool) -> &'static str {
    match is_signed {
        true => "blue supports the target, orange and marked − speaks against it",
        false => "the deeper the purple, the higher the score",
    }
}

/// A number that is not negative, to four significant digits.
pub(super) fn unsigned(x: f64) -> String {
    signed(x).trim_start_matches('+').into()
}

/// The colours of a heat map, as they look on a light ground.
pub(super) fn colour(is_signed: bool) -> impl Fn(f64) -> Rgb {
    move |share| stained([235; 3], share, is_signed)
}

/// Where the scale of a heat map ends.
pub(super) fn low(is_signed: bool) -> f64 {
    if is_signed { -1.0 } else { 0.0 }
}

/// The colours of shares from 1 down to `low`.
fn swatches(low: f64, colour: impl Fn(f64) -> Rgb) -> impl Iterator<Item = (f64, String)> {
    (0..STEPS).map(move |step| (step as f64, hex(colour(1.0 + (low - 1.0) * step as f64 / (STEPS - 1) as f64))))
}

/// The number at a share of the scale.
pub(super) fn number(share: f64, scale: f64, is_signed: bool) -> String {
    let number = beside(share * scale, scale);
    if is_signed { number } else { number.trim_start_matches('+').into() }
}

/// The colours from top to bottom, with numbers.
pub(super) fn bar(x: f64, y: f64, low: f64, colour: impl Fn(f64) -> Rgb, number: impl Fn(f64) -> String) -> Markup {
    const STEP: f64 = 5.0;
    html! {
        @for (step, colour) in swatches(low, colour) {
            rect x=(x) y=(y + STEP * step) width="14" height=(STEP + 0.5) fill=(colour) {}
        }
        rect x=(x) y=(y) width="14" height=(STEP * STEPS as f64) fill="none" stroke="#777777" {}
        @for (i, share) in [1.0, (1.0 + low) / 2.0, low].into_iter().enumerate() {
            text x=(x + 20.0) y=(y + STEP * (STEPS / 2 * i) as f64 + 4.0) font-size="12" { (number(share)) }
        }
    }
}

/// The colours from left to right, for several maps: with the numbers of one scale for all, or with words.
pub(super) fn bar_across(x: f64, y: f64, scale: f64, is_signed: bool, one_scale: bool) -> Markup {
    const STEP: f64 = 4.0;
    let (start, end) = (x + 62.0, x + 62.0 + STEP * STEPS as f64);
    let (least, most) = match (one_scale, is_signed) {
        (true, _) => (number(low(is_signed), scale, is_signed), number(1.0, scale, is_signed)),
        (false, true) => ("against".into(), "supports".into()),
        (false, false) => ("0".into(), "full".into()),
    };
    html! {
        @for (step, colour) in swatches(low(is_signed), colour(is_signed)) {
            rect x=(end - STEP * (step + 1.0)) y=(y) width=(STEP + 0.5) height="12" fill=(colour) {}
        }
        rect x=(start) y=(y) width=(end - start) height="12" fill="none" stroke="#777777" {}
        text x=(start - 6.0) y=(y + 10.5) text-anchor="end" font-size="12" { (least) }
        text x=(end + 6.0) y=(y + 10.5) font-size="12" { (most) }
    }
}
