//! The exercises of chapter 02.

use candle_core::Tensor;

use super::{Gap, Outcome, Verdict, require, same, same_drops, same_names};
use crate::model::text::Text;
use crate::model::{Baseline, Bert};
use crate::tensor::numbers;
use crate::{Attribution, Groups, Result, Target, ablate, gradient_x_input};

const MODEL: &str = "pellucid/tiny-bert-sentiment";

/// Scores over tokens → the words and their scores; special tokens stay by themselves.
///
/// ```
/// # use pellucid::prelude::*;
/// let pieces = |why: &Attribution| {
///     why.tokens().iter().zip(&why.scores).map(|(token, score)| (token.text.clone(), *score)).collect()
/// };
/// assert!(!check::words(pieces).passed);
/// ```
pub fn words(answer: impl Fn(&Attribution) -> Vec<(String, f64)>) -> Verdict {
    let texts = ["An unforgettable film!", "My sister was thoroughly disappointed, not amazed."];
    let whole = |text| {
        let tokens = scored(text)?;
        whole_words(&answer(&tokens), &tokens.words()?)
    };
    let praise = "Every word is whole, every score is the sum of its pieces, and so the total has not changed.";
    Verdict::new(texts.into_iter().try_for_each(whole).map(|()| praise.into()))
}

/// Some scores over the tokens of a text.
fn scored(text: &str) -> Result<Attribution> {
    let bert = Bert::load(MODEL)?;
    let text = bert.read(text)?;
    let target = Target::Logit(bert.label("positive")?);
    gradient_x_input(|x| target.of(&bert.logits(&text, x)?), &bert.embed(&text)?)?.over(&text)
}

fn whole_words(got: &[(String, f64)], wanted: &Attribution) -> Outcome<()> {
    let names: Vec<String> = got.iter().map(|word| word.0.clone()).collect();
    same_names(&names, &wanted.tokens().iter().map(|token| token.text.clone()).collect::<Vec<_>>())?;
    let scores: Vec<f64> = got.iter().map(|word| word.1).collect();
    same("The words are right, but not their scores", &scores, &wanted.scores, 1e-6)
}

/// (model, text) → by how much the logit of `positive` falls when one token at a time is replaced by `[MASK]`.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::leave_one_out(|_, text| Ok(vec![0.0; text.len()])).passed);
/// ```
pub fn leave_one_out(answer: impl Fn(&Bert, &Text) -> Result<Vec<f64>>) -> Verdict {
    let same_drops = |sentence| {
        let bert = Bert::load(MODEL)?;
        let text = bert.read(sentence)?;
        let (got, wanted) = (answer(&bert, &text)?, drops(&bert, &text)?);
        same_drops(&format!("The drops of «{sentence}»"), &got, &wanted, 1e-4)
    };
    let sentences =
        ["I absolutely loved the movie!", "The soup was not bad.", "I loved the film, and I loved the plot."];
    let praise = "The same drops as `feature_ablation` finds. They took forward passes and not one gradient.";
    Verdict::new(sentences.into_iter().try_for_each(same_drops).map(|()| praise.into()))
}

fn drops(bert: &Bert, text: &Text) -> Result<Vec<f64>> {
    let target = Target::Logit(bert.label("positive")?);
    let (x, blank) = (bert.embed(text)?, bert.baseline(text, &Baseline::token("[MASK]"))?);
    let f = |x: &Tensor| target.of(&bert.logits(text, x)?);
    numbers(&ablate(f, &x, &blank, &Groups::rows(&x))?)
}

/// A sentence that is positive, and turns negative when one of its words is left out.
///
/// ```
/// use pellucid::check;
/// assert!(!check::turning_word("I loved the film.").passed);
/// ```
pub fn turning_word(sentence: &str) -> Verdict {
    Verdict::new(turns(sentence))
}

fn turns(sentence: &str) -> Outcome {
    let bert = Bert::load(MODEL)?;
    let whole = percent_positive(&bert, sentence)?;
    require(whole > 80.0, || format!("The model finds it {whole:.0} % positive; I want more than 80 %."))?;
    let words: Vec<&str> = sentence.split_whitespace().collect();
    for (i, word) in words.iter().enumerate().filter(|_| words.len() > 1) {
        let rest = [&words[..i], &words[i + 1..]].concat().join(" ");
        let left = percent_positive(&bert, &rest)?;
        if left < 20.0 {
            return Ok(format!("{whole:.0} % positive; without «{word}», «{rest}» is {left:.0} % positive."));
        }
    }
    Err(Gap(format!("It is {whole:.0} % positive, but no single word turns it negative by leaving.")))
}

fn percent_positive(bert: &Bert, sentence: &str) -> Result<f64> {
    let label = bert.label("positive")?;
    let text = bert.read(sentence)?;
    let logits = bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?;
    Ok(100.0 * numbers(&Target::Probability(label).of(&logits)?)?[0])
}
