//! A text whose tokens or parts are shaded by their scores.

use maud::{Markup, html};

use super::blocks::bars;
use super::card::{DIM, card, title};
use super::columns::{Edge, LONG, first, lines, own_line};
use super::labels::{headline, label, names, shortened};
use super::law::law;
use super::palette::{diverging, hex, text_on};
use super::running::running;
use super::{Overlay, Panel, Show, beside, ends, signed};
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

    /// A special token has a direction of its own, so that it is the text's own words that say which way the text runs.
    fn token(&self, token: &Token, score: f64, scale: f64) -> Markup {
        let name = label(&token.text);
        let note = format!("{name} {}", beside(score, scale));
        let style = if self.dims(token) { dimmed() } else { shade(score / scale) };
        html! {
            @if token.special { bdi title=(note) style=(style) { (name) } } @else { span title=(note) style=(style) { (name) } }
            " "
            @if token.text.contains('\n') { br; }
        }
    }

    fn spans(&self) -> bool {
        matches!(self.attribution.features, Features::Spans { .. })
    }

    /// The tokens one after the other, or the text that the parts stand in.
    fn body(&self, scale: f64) -> Markup {
        html! {
            @if self.spans() { (running(&self.attribution, scale)) } @else {
                div dir="auto" style="line-height: 2; overflow-wrap: break-word" {
                    @for (token, score) in self.scored() { (self.token(token, score, scale)) }
                }
            }
            (legend(scale))
        }
    }
}

/// Five steps of colour from −scale to +scale.
fn legend(scale: f64) -> Markup {
    html! {
        div style="font-size: 85%; line-height: 1.8; margin-top: 0.2em" {
            @if scale > f64::MIN_POSITIVE {
                "against " (signed(-scale)) " "
                @for step in [-1.0, -0.5, 0.0, 0.5, 1.0] { (swatch(step)) }
                " " (signed(scale)) " supports"
            } @else { "all scores are 0" }
        }
    }
}

/// One step of the scale, outlined so that white shows on white.
fn swatch(x: f64) -> Markup {
    let style =
        format!("background-color: {}; border: 1px solid #aaaaaa; padding: 0 0.5em; margin: 0 1px", hex(diverging(x)));
    html! { span style=(style) { "\u{a0}" } }
}

fn dimmed() -> String {
    format!("color: {DIM}; font-size: 85%; padding: 0 0.2em")
}

/// How a token of relative score x is drawn.
fn shade(x: f64) -> String {
    format!("padding: 0.1em 0.25em; border-radius: 3px{}", ink(x))
}

/// The colours of a relative score, as the end of a style. Nearly nothing is left without any, and so is what is no number.
pub(super) fn ink(x: f64) -> String {
    if x.is_nan() || x.abs() < 0.02 {
        return String::new();
    }
    let colour = diverging(x);
    let sign = if x < 0.0 { "; text-decoration: underline" } else { "" };
    format!("; background-color: {}; color: {}{sign}", hex(colour), text_on(colour))
}

impl Show for HeatStrip {
    fn html(&self) -> String {
        let a = &self.attribution;
        let body = if a.features.text().is_none() { elements(a) } else { self.body(self.scale()) };
        card(title(a), body, &[law(a)]).into_string()
    }

    fn text(&self) -> String {
        let a = &self.attribution;
        let scale = a.scores.iter().map(|score| score.abs()).fold(self.scale(), f64::max);
        let (shown, more) = first(&a.scores);
        let places = if self.spans() { LONG } else { 24 };
        let names = names(a).iter().take(shown.len()).map(|name| shortened(name, places)).collect();
        let numbers = shown.iter().map(|score| beside(*score, scale)).collect();
        let shares: Vec<f64> = shown.iter().map(|score| score / scale).collect();
        let columns = match self.spans() {
            true => [(Edge::Right, numbers), (Edge::Left, bars(&shares)), (Edge::Left, names)],
            false => [(Edge::Right, names), (Edge::Right, numbers), (Edge::Left, bars(&shares))],
        };
        format!("{}\n{}{}{}", headline(a), lines(&columns), own_line(more.as_deref()), law(a))
    }
}

/// Scores over a tensor's elements: a row of shaded numbers if there are few, their range if there are many.
fn elements(a: &Attribution) -> Markup {
    let scale = a.scores.iter().map(|s| s.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let (low, high) = ends(a.scores.iter().copied());
    html! {
        @if a.scores.len() <= 32 {
            div style="line-height: 2" {
                @for (i, score) in a.scores.iter().enumerate() {
                    span style=(shade(score / scale)) { "x[" (i) "]\u{a0}" (beside(*score, scale)) } " "
                }
            }
        } @else { (a.scores.len()) " elements, from " (signed(low)) " to " (signed(high)) }
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
