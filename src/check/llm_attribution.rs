//! The exercises of chapter 03.

use candle_core::Tensor;

use super::{Outcome, Verdict, not_negated, require, same, same_drops};
use crate::model::parts::Parts;
use crate::model::text::Continuation;
use crate::model::{Baseline, CausalLm, Sampling};
use crate::tensor::numbers;
use crate::{Error, Groups, Result, ablate, grad_at};

const MODEL: &str = "pellucid/tiny-llama-facts";
const PROMPT: &str = "Michael works as a software engineer in Austin, Texas. In his free time, he enjoys";

/// (model, one, other, embeddings of their prompt `(n,t,c)`) → `(n,)`: ln p(one) − ln p(other).
///
/// ```
/// # use pellucid::prelude::*;
/// let of_the_one = |llm: &CausalLm, one: &Continuation, _: &Continuation, x: &Tensor| {
///     Ok(llm.log_probs(one, x)?.sum(1)?)
/// };
/// assert!(!check::rather_than(of_the_one).passed);
/// ```
pub fn rather_than(answer: impl Fn(&CausalLm, &Continuation, &Continuation, &Tensor) -> Result<Tensor>) -> Verdict {
    Verdict::new(contrasts(&answer))
}

type Contrast<'a> = dyn Fn(&CausalLm, &Continuation, &Continuation, &Tensor) -> Result<Tensor> + 'a;

fn contrasts(answer: &Contrast) -> Outcome {
    let llm = CausalLm::load(MODEL)?;
    let prompt = llm.read(PROMPT)?;
    let blank = llm.baseline(&prompt, &Baseline::token("<unk>"))?;
    let x = Tensor::stack(&[&blank, &llm.embed(&prompt)?], 0)?;
    for (one, other) in [(" painting, traveling", " baking sourdough bread"), (" painting", " juggling")] {
        let (one, other) = (llm.continuation(&prompt, one)?, llm.continuation(&prompt, other)?);
        let got = answer(&llm, &one, &other, &x)?;
        require(got.dims() == [2], || {
            format!("For two variants of the prompt I expected the shape (2,), got {:?}.", got.dims())
        })?;
        let total = |said: &Continuation| -> Result<Tensor> { Ok(llm.log_probs(said, &x)?.sum(1)?) };
        let (got, wanted) = (numbers(&got)?, numbers(&(total(&one)? - total(&other)?)?)?);
        not_negated(&got, &wanted, 1e-4, "The other way round: the one, less the other.")?;
        same(&format!("«{}» rather than «{}»", one.text().trim(), other.text().trim()), &got, &wanted, 1e-4)?;
        let slopes = grad_at(|x| answer(&llm, &one, &other, x), &x);
        require(!matches!(slopes, Err(Error::GraphCut)), || "No gradient leads from your values back to x.".into())?;
        slopes?;
    }
    Ok("A number per variant, with a gradient: any method of this chapter explains it.".into())
}

/// The chapter's prompt with one word changed, after which he plays chess instead of traveling.
///
/// ```
/// use pellucid::check;
/// let elsewhere = "Michael works as a software engineer in Austin, Nevada. In his free time, he enjoys";
/// assert!(!check::plays_chess(elsewhere).passed);
/// ```
pub fn plays_chess(prompt: &str) -> Verdict {
    Verdict::new(plays(prompt))
}

fn plays(prompt: &str) -> Outcome {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (words(PROMPT), words(prompt));
    let changed = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    require(old.len() == new.len() && changed <= 1, || {
        "Change one word of Michael's prompt, and leave the rest.".into()
    })?;
    require(changed == 1, || "This is Michael's prompt. Which of its words sends him abroad?".into())?;
    let llm = CausalLm::load(MODEL)?;
    let said = llm.generate(&llm.read(prompt)?, &Sampling::greedy(60))?;
    let now = said.text().trim();
    require(now.starts_with("painting, playing chess, and volunteering"), || format!("Now he enjoys {now}"))?;
    Ok(format!("One word, one hobby: now he enjoys {now}"))
}

/// (model, continuation) → for every token of the prompt, by how much the continuation's log-probability falls when the
/// token is removed from the text; 0 for special tokens.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::removed(|_, said| Ok(vec![0.0; said.prompt().len()])).passed);
/// ```
pub fn removed(answer: impl Fn(&CausalLm, &Continuation) -> Result<Vec<f64>>) -> Verdict {
    let same_drops = |(prompt, said): (&str, &str)| {
        let llm = CausalLm::load(MODEL)?;
        let said = llm.continuation(&llm.read(prompt)?, said)?;
        let (got, wanted) = (answer(&llm, &said)?, removals(&llm, &said)?);
        require(same("", &got, &replacements(&llm, &said)?, 1e-3).is_err(), || {
            "These are the drops when a token is replaced by `<unk>`. Take it out instead.".into()
        })?;
        same_drops(&format!("The drops of «{}»", said.text().trim()), &got, &wanted, 1e-3)
    };
    let texts =
        [(PROMPT, " painting"), ("Meet Laura, a pilot from Boston, Ohio. On weekends, she enjoys", " knitting")];
    let praise = "The same drops as `Parts` finds: prompts of other lengths, and not one gradient.";
    Verdict::new(texts.into_iter().try_for_each(same_drops).map(|()| praise.into()))
}

fn removals(llm: &CausalLm, said: &Continuation) -> Result<Vec<f64>> {
    let parts = Parts::tokens_of(said.prompt())?;
    let f = |there: &Tensor| Ok(llm.log_probs_with(&parts, there, said)?.sum(1)?);
    let drops = numbers(&ablate(f, &parts.all()?, &parts.none()?, &Groups::elements(&parts.all()?))?)?;
    let mut drops = drops.into_iter();
    let tokens = said.prompt().tokens().iter();
    Ok(tokens.map(|token| if token.special { 0.0 } else { drops.next().unwrap_or(0.0) }).collect())
}

fn replacements(llm: &CausalLm, said: &Continuation) -> Result<Vec<f64>> {
    let (x, blank) = (llm.embed(said.prompt())?, llm.baseline(said.prompt(), &Baseline::token("<unk>"))?);
    numbers(&ablate(|x| Ok(llm.log_probs(said, x)?.sum(1)?), &x, &blank, &Groups::rows(&x))?)
}
