//! A text whose tokens or parts are shaded by their scores.

use maud::{Markup, html};

use super::law::law;
use super::palette::{diverging, hex, text_on};
use super::running::running;
use super::{Overlay, Panel, Show, beside, signed};
use crate::attribution::{Attribution, Features};
use crate::model::text::Token;

/// An attribution as running text: blue supports the target, orange and underlined speaks against it.
///
/// The scale is drawn, and goes to the largest |score| among the tokens that are not special; special tokens are dimmed,
/// but their scores are in the sum. Over parts of a text, such as the sources of a context, it is the text itself, with small
/// numbers behind the parts that count.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let why = gradient_x_input(|x| positive.of(&bert.logits(&text, x)?), &bert.embed(&text)?)?.over(&text)?;
/// let strip = HeatStrip::new(&why);
/// assert_ne!(strip.html(), strip.with_special().html());    // [CLS] is shaded too
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeatStrip {
    attribution: Attribution,
    dim_special: bool,
}

impl HeatStrip {
    /// The strip of an attribution over tokens, words or parts of a text.
    pub fn new(attribution: &Attribution) -> Self {
        Self { attribution: attribution.clone(), dim_special: true }
    }

    /// With special tokens shaded like all others.
    pub fn with_special(self) -> Self {
        Self { dim_special: false, ..self }
    }

    fn dims(&self, token: &Token) -> bool {
        self.dim_special && token.special
    }

    /// The largest |score| that is shaded.
    fn scale(&self) -> f64 {
        let shaded = self.scored().filter(|(token, _)| !self.dims(token)).map(|(_, score)| score.abs());
        shaded.fold(0.0, f64::max).max(f64::MIN_POSITIVE)
    }

    fn scored(&self) -> impl Iterator<Item = (&Token, f64)> {
        self.attribution.tokens().iter().zip(self.attribution.scores.iter().copied())
    }

    fn token(&self, token: &Token, score: f64, scale: f64) -> Markup {
        let name = label(&token.text);
        let note = format!("{name} {}", beside(score, scale));
        if self.dims(token) {
            return html! { span title=(note) style="color: #808080; font-size: 80%; padding: 0 0.2em" { (name) } " " };
        }
        html! { span title=(note) style=(shade(score / scale)) { (name) } " " }
    }

    fn spans(&self) -> bool {
        matches!(self.attribution.features, Features::Spans { .. })
    }

    /// The tokens in a row, or the text that the parts stand in.
    fn body(&self, scale: f64) -> Markup {
        html! {
            @if self.spans() { (running(&self.attribution, scale)) } @else {
                div style="line-height: 2.2; font-size: 110%" {
                    @for (token, score) in self.scored() { (self.token(token, score, scale)) }
                }
            }
        }
    }

    /// Five steps of colour from −scale to +scale.
    fn legend(&self, scale: f64) -> Markup {
        html! {
            span style="font-size: 80%; line-height: 2" {
                "against " (signed(-scale)) " "
                @for step in [-1.0, -0.5, 0.0, 0.5, 1.0] { (swatch(step)) }
                " " (signed(scale)) " supports"
            }
        }
    }
}

/// One step of the scale, outlined so that white shows on white.
fn swatch(x: f64) -> Markup {
    let style =
        format!("background-color: {}; border: 1px solid #aaaaaa; padding: 0 0.5em; margin: 0 1px", hex(diverging(x)));
    html! { span style=(style) { "\u{a0}" } }
}

/// How a token of relative score x is drawn.
fn shade(x: f64) -> String {
    format!("padding: 0.15em 0.25em; border-radius: 3px; white-space: pre-wrap;{}", ink(x))
}

/// The colours of a relative score. Nearly nothing is left without any, so that it reads on any background.
pub(super) fn ink(x: f64) -> String {
    if x.abs() < 0.02 {
        return String::new();
    }
    let colour = diverging(x);
    let sign = if x < 0.0 { " text-decoration: underline;" } else { "" };
    format!(" background-color: {}; color: {};{sign}", hex(colour), text_on(colour))
}

impl Show for HeatStrip {
    fn html(&self) -> String {
        if self.attribution.features.text().is_none() {
            return elements(&self.attribution).into_string();
        }
        let scale = self.scale();
        html! {
            div style="font-family: sans-serif; margin: 0.5em 0" {
                div style="font-size: 90%" { b { (self.attribution.method) } ", " (self.attribution.target) }
                (self.body(scale))
                div { (self.legend(scale)) }
                div style="font-size: 80%" { (law(&self.attribution)) }
            }
        }
        .into_string()
    }

    fn text(&self) -> String {
        let a = &self.attribution;
        let names = names(a);
        let wide = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(24);
        let scale = self.scale().max(a.scores.iter().map(|s| s.abs()).fold(0.0, f64::max));
        let row = |(name, score): (&String, &f64)| {
            let (number, bar) = (beside(*score, scale), bar(score / scale));
            let row = match self.spans() {
                true => format!("{number:>10} {bar:<20} {name}"),
                false => format!("{name:>wide$} {number:>10} {bar}"),
            };
            format!("{}\n", row.trim_end())
        };
        let rows: String = names.iter().zip(&a.scores).take(MANY).map(row).collect();
        let more = a.scores.len().saturating_sub(MANY);
        let more = if more > 0 { format!("… and {more} more\n") } else { String::new() };
        format!("{}, {}\n{rows}{more}{}", a.method, a.target, law(a))
    }
}

/// More rows than this are summed up.
pub(super) const MANY: usize = 200;

/// Twenty eighths of a bar: solid for supporting, hollow for opposing.
pub(super) fn bar(share: f64) -> String {
    let length = (share.abs() * 20.0).round() as usize;
    if share < 0.0 { "░".repeat(length) } else { "█".repeat(length) }
}

/// What the scores' features are called.
pub(super) fn names(attribution: &Attribution) -> Vec<String> {
    (0..attribution.scores.len()).map(|i| label(&attribution.features.name(i))).collect()
}

/// A token as a label: without the space that begins a word, with signs for what cannot be seen.
pub(super) fn label(text: &str) -> String {
    let seen = text.trim_matches(' ').replace('\n', "↵").replace('\t', "⇥");
    if seen.is_empty() { "␣".into() } else { seen }
}

/// Scores over a tensor's elements: a row of shaded numbers if there are few, their range if there are many.
fn elements(a: &Attribution) -> Markup {
    let scale = a.scores.iter().map(|s| s.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let (low, high) = a.scores.iter().fold((f64::MAX, f64::MIN), |(low, high), &s| (low.min(s), high.max(s)));
    html! {
        div style="font-family: sans-serif; margin: 0.5em 0" {
            div style="font-size: 90%" { b { (a.method) } ", " (a.target) }
            div style="line-height: 2.2" {
                @if a.scores.len() <= 32 {
                    @for (i, score) in a.scores.iter().enumerate() {
                        span style=(shade(score / scale)) { "x[" (i) "] " (beside(*score, scale)) } " "
                    }
                } @else { (a.scores.len()) " elements, from " (signed(low)) " to " (signed(high)) }
            }
            div style="font-size: 80%" { (law(a)) }
        }
    }
}

impl Attribution {
    /// The map by itself, where the scores are over a picture.
    fn map_alone(&self) -> Option<Overlay> {
        self.features.map().and_then(|_| Overlay::alone(self).ok())
    }
}

impl Show for Attribution {
    fn json(&self) -> Option<String> {
        self.to_json().ok()
    }

    fn text(&self) -> String {
        self.map_alone().map_or_else(|| HeatStrip::new(self).text(), |map| map.text())
    }

    fn html(&self) -> String {
        self.map_alone().map_or_else(|| HeatStrip::new(self).html(), |map| map.html())
    }

    fn svg(&self) -> Option<String> {
        self.map_alone()?.svg()
    }

    fn png(&self) -> Option<Vec<u8>> {
        self.map_alone()?.png()
    }

    fn panel(&self) -> Option<Panel> {
        self.map_alone()?.panel()
    }
}
