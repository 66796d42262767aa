//! Colours that everybody can tell apart: blue supports, orange speaks against (after Okabe & Ito and ColorBrewer's PuOr).

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

const WHITE: Rgb = [255, 255, 255];
const BLUE: Rgb = [33, 102, 172];
const ORANGE: Rgb = [213, 94, 0];
const INK: Rgb = [13, 44, 84];
const PURPLE: Rgb = [118, 42, 131];

/// Colours of the series of a chart, in order.
pub(super) const SERIES: [Rgb; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [90, 90, 90]];

/// −1 orange, 0 white, +1 blue.
pub(super) fn diverging(x: f64) -> Rgb {
    mix(WHITE, if x < 0.0 { ORANGE } else { BLUE }, x.abs().min(1.0).powf(0.8))
}

/// 0 white, 1 dark blue.
pub(super) fn sequential(x: f64) -> Rgb {
    mix(WHITE, INK, x.clamp(0.0, 1.0).powf(0.6))
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

/// Black or white, whichever is easier to read on a colour.
pub(super) fn text_on([r, g, b]: Rgb) -> &'static str {
    let light = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if light > 140.0 { "#111111" } else { "#ffffff" }
}

/// `#rrggbb`: the one notation that every notebook viewer lets through.
pub(super) fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn mix(from: Rgb, to: Rgb, share: f64) -> Rgb {
    std::array::from_fn(|i| (f64::from(from[i]) + share * (f64::from(to[i]) - f64::from(from[i]))).round() as u8)
}
