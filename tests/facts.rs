//! The known truth of the embedded language models: how often each method finds the word that decides.

use pellucid::prelude::*;

const BIOGRAPHIES: usize = 24;

/// A method, and between which shares of the decided spans it puts a deciding word on top: in tiny-llama-facts, and in
/// tiny-qwen-facts. Both are so sure of themselves that the gradient at the text says next to nothing.
#[rustfmt::skip]
const TABLE: [(&str, [[f64; 2]; 2]); 5] = [
    ("integrated gradients",  [[0.85, 1.0], [0.90, 1.0]]),
    ("gradient × input",      [[0.00, 0.4], [0.00, 0.5]]),
    ("feature ablation",      [[0.95, 1.0], [0.88, 1.0]]),
    ("ablation of words",     [[0.95, 1.0], [0.92, 1.0]]),
    ("Shapley sampling",      [[0.85, 1.0], [0.88, 1.0]]),
];

/// What one method says about the first token of every decided span, over words.
fn explain(method: &str, llm: &CausalLm, prompt: &Text, said: &Continuation, first: &[u32]) -> Result<Attribution> {
    let first = Tensor::new(first, &device()?)?;
    let f = |x: &Tensor| Ok(llm.log_probs(said, x)?.index_select(&first, 1)?);
    let (x, blank) = (llm.embed(prompt)?, llm.baseline(prompt, &Baseline::id(0))?);
    let words = Parts::words(prompt)?;
    match method {
        "integrated gradients" => {
            integrated_gradients(f, &x, &blank, &Steps::gauss_legendre(20))?.over(prompt)?.words()
        }
        "gradient × input" => gradient_x_input(f, &x)?.over(prompt)?.words(),
        "feature ablation" => feature_ablation(f, &x, &blank, &Groups::rows(&x))?.over(prompt)?.words(),
        "ablation of words" => feature_ablation(f, &x, &blank, &words.groups(&x)?)?.over_parts(&words),
        _ => shapley_sampling(f, &x, &blank, &words.groups(&x)?, &Permutations::new(4, 0))?.over_parts(&words),
    }
}

/// How many spans there are, and for how many the word of the largest score is one that decides.
fn hits(method: &str, llm: &CausalLm, biography: &Biography) -> Result<(usize, usize)> {
    let prompt = llm.read(&biography.prompt)?;
    let said = llm.continuation(&prompt, &biography.continuation)?;
    let first: Vec<u32> =
        biography.spans.iter().map(|span| Ok(said.span(&span.text)?.start as u32)).collect::<Result<_>>()?;
    let why = explain(method, llm, &prompt, &said, &first)?;
    let found = biography.spans.iter().enumerate().filter(|(i, span)| {
        let scores = &why.outputs[*i].scores;
        let top = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        let word = &why.tokens()[top];
        span.decided_by.iter().any(|by| word.start < by.end && by.start < word.end)
    });
    Ok((found.count(), biography.spans.len()))
}

#[test]
fn methods_find_the_words_that_decide() -> Result<()> {
    let mut wrong = Vec::new();
    for (column, name) in ["pellucid/tiny-llama-facts", "pellucid/tiny-qwen-facts"].into_iter().enumerate() {
        let (llm, facts) = (CausalLm::load(name)?, Facts::of(name)?);
        for (method, shares) in TABLE {
            let counts: Vec<_> = facts.biographies[..BIOGRAPHIES]
                .iter()
                .map(|biography| hits(method, &llm, biography))
                .collect::<Result<_>>()?;
            let (found, spans) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
            println!("{name} {method}: {found} of {spans}");
            let [least, most] = shares[column];
            if !(least..=most).contains(&(found as f64 / spans as f64)) {
                wrong.push(format!("{name}, {method}: {found} of {spans}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
