//! The exercises of chapter 04.

use candle_core::{D, IndexOp, Tensor};

use super::{Gap, Outcome, Verdict, require, same, same_names};
use crate::model::parts::Parts;
use crate::model::text::Text;
use crate::model::{CausalLm, Sampling};
use crate::tensor::numbers;
use crate::{Result, Target, ablate};

const MODELS: [&str; 2] = ["pellucid/tiny-llama-facts", "pellucid/tiny-qwen-facts"];
const PROMPT: &str = "Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys";

/// (patterns `L × (1,h,t,t)`, from, to) → the layer and the head in which token `from` looks most at token `to`.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::head_that_looks(|_, _, _| Ok((0, 0))).passed);
/// ```
pub fn head_that_looks(answer: impl Fn(&[Tensor], usize, usize) -> Result<(usize, usize)>) -> Verdict {
    let all = || {
        for model in MODELS {
            let llm = CausalLm::load(model)?;
            let text = llm.read(PROMPT)?;
            let (patterns, last) = (llm.attention(&text)?, text.len() - 1);
            (1..last).try_for_each(|to| finds_head(&answer, &patterns, last, to))?;
        }
        Ok("The right head for every token of a prompt, in both models.".into())
    };
    Verdict::new(all())
}

fn finds_head(
    answer: &impl Fn(&[Tensor], usize, usize) -> Result<(usize, usize)>,
    patterns: &[Tensor],
    from: usize,
    to: usize,
) -> Outcome<()> {
    let (layer, head) = answer(patterns, from, to)?;
    let weights = |pattern: &Tensor| numbers(&pattern.i((0, .., from, to))?);
    let all: Vec<Vec<f64>> = patterns.iter().map(weights).collect::<Result<_>>()?;
    let most = all.iter().flatten().copied().fold(0.0, f64::max);
    let got = all.get(layer).and_then(|heads| heads.get(head));
    let got = got.ok_or_else(|| Gap(format!("There is no head {head} in layer {layer}.")))?;
    require(*got == most, || {
        format!(
            "From token {from}, head {head} of layer {layer} looks at token {to} with {got:.3}; another one with {most:.3}."
        )
    })
}

/// A prompt that the two embedded language models continue with the same first hobby and different second ones.
///
/// ```
/// use pellucid::check;
/// assert!(!check::parting_prompt("Anna works as a nurse in Denver, Colorado. In her free time, she enjoys").passed);
/// ```
pub fn parting_prompt(prompt: &str) -> Verdict {
    Verdict::new(parts(prompt))
}

fn parts(prompt: &str) -> Outcome {
    require(!prompt.starts_with("Michael works as a software engineer in Austin"), || {
        "That one is the chapter's: write another.".into()
    })?;
    let says = |model| -> Outcome<Vec<String>> {
        let llm = CausalLm::load(model)?;
        let said = llm.generate(&llm.read(prompt)?, &Sampling::greedy(60))?;
        Ok(said.text().split(',').map(|hobby| hobby.trim().to_string()).collect())
    };
    let (llama, qwen) = (says(MODELS[0])?, says(MODELS[1])?);
    require(llama.len() == 3 && qwen.len() == 3, || {
        format!("I expected three hobbies from each; they say «{}» and «{}».", llama.join(", "), qwen.join(", "))
    })?;
    require(llama[0] == qwen[0], || format!("The first hobbies differ: «{}» and «{}».", llama[0], qwen[0]))?;
    require(llama[1] != qwen[1], || format!("Both go on with «{}».", llama[1]))?;
    Ok(format!("Both begin with «{}»; then one says «{}», the other «{}».", llama[0], llama[1], qwen[1]))
}

/// (model, text) → the words and by how much the logit of the most probable next token falls when all pieces of a word
/// become zero together.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::words_zeroed(|_, _| Ok(vec![])).passed);
/// ```
pub fn words_zeroed(answer: impl Fn(&CausalLm, &Text) -> Result<Vec<(String, f64)>>) -> Verdict {
    let all = || {
        for model in MODELS {
            let llm = CausalLm::load(model)?;
            let text = llm.read(PROMPT)?;
            zeroed_alike(&answer(&llm, &text)?, &llm, &text)?;
        }
        Ok("Whole words, whole drops. No score per piece could have told you these.".into())
    };
    Verdict::new(all())
}

fn zeroed_alike(got: &[(String, f64)], llm: &CausalLm, text: &Text) -> Outcome<()> {
    let (x, words) = (llm.embed(text)?, Parts::words(text)?);
    let next = llm.logits(&x.unsqueeze(0)?)?.argmax(D::Minus1)?.to_vec1::<u32>()?[0];
    let f = |x: &Tensor| Target::Logit(next as usize).of(&llm.logits(x)?);
    let drops = numbers(&ablate(f, &x, &x.zeros_like()?, &words.groups(&x)?)?)?;
    let special = |name: &str| text.tokens().iter().any(|token| token.special && token.text == name);
    let plain: Vec<_> = got.iter().filter(|word| !special(&word.0)).collect();
    let names: Vec<String> = plain.iter().map(|word| word.0.trim().into()).collect();
    same_names(&names, &words.tokens().iter().map(|token| token.text.clone()).collect::<Vec<_>>())?;
    let scores: Vec<f64> = plain.iter().map(|word| word.1).collect();
    same("The words are right, but not their drops", &scores, &drops, 1e-3)
}
