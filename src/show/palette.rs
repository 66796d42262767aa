//! Colours that everybody can tell apart: blue supports, orange speaks against, purple is what has no sign (after Okabe & Ito and
//! ColorBrewer's PuOr).

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

const WHITE: Rgb = [255, 255, 255];
const BLUE: Rgb = [33, 102, 172];
const ORANGE: Rgb = [213, 94, 0];
const PURPLE: Rgb = [118, 42, 131];

/// Colours of the series of a chart, in order.
pub(super) const SERIES: [Rgb; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [90, 90, 90]];

/// −1 orange, 0 white, +1 blue.
pub(super) fn diverging(x: f64) -> Rgb {
    mix(WHITE, if x < 0.0 { ORANGE } else { BLUE }, x.abs().min(1.0).powf(0.8))
}

/// 0 white, 1 purple.
pub(super) fn sequential(x: f64) -> Rgb {
    mix(WHITE, PURPLE, x.clamp(0.0, 1.0).powf(0.6))
}

/// A colour under glass: stained blue for a positive x, orange for a negative one, deeper with |x|; if there are no negative ones,
/// purple.
pub(super) fn stained(ground: Rgb, x: f64, signed: bool) -> Rgb {
    let glass = match signed {
        false => PURPLE,
        true if x < 0.0 => ORANGE,
        true => BLUE,
    };
    mix(ground, glass, 0.9 * x.abs().min(1.0).powf(0.8))
}

/// The colour of an outline, which needs no depth.
pub(super) fn outline(positive: bool) -> Rgb {
    if positive { BLUE } else { ORANGE }
}

/// A colour without its colour, lightened so that stains show.
pub(super) fn greyed([r, g, b]: Rgb) -> Rgb {
    let light = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    [(96.0 + 0.6 * light).round() as u8; 3]
}

/// Black or white, whichever is easier to read on a colour: the contrast is never below 4.5 (WCAG 2.2, 1.4.3).
pub(super) fn text_on(colour: Rgb) -> &'static str {
    if luminance(colour) > 0.179 { "#000000" } else { "#ffffff" }
}

/// Relative luminance, from 0 of black to 1 of white, as WCAG 2.2 defines it.
fn luminance(colour: Rgb) -> f64 {
    let [r, g, b] = colour.map(|part| match f64::from(part) / 255.0 {
        dark if dark <= 0.04045 => dark / 12.92,
        light => ((light + 0.055) / 1.055).powf(2.4),
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// `#rrggbb`: the one notation that every notebook viewer lets through.
pub(super) fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn mix(from: Rgb, to: Rgb, share: f64) -> Rgb {
    std::array::from_fn(|i| (f64::from(from[i]) + share * (f64::from(to[i]) - f64::from(from[i]))).round() as u8)
}
