//! ContextCite: contexts without some sources, masks, log-odds, surrogates, and the sentence that decides an answer.

#[path = "common/apart.rs"]
mod apart;
#[path = "common/asking.rs"]
mod asking;

use apart::far;
use asking::asking;
use pellucid::prelude::*;
use pellucid::zoo::Question;

const STORY: &str = "The bridge\n\nAnna built it in 1872. It is red.\n  Trains crossed it.\n\nA cat sleeps. ";

fn said<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "no error".into())
}

/// b + w·v for every mask.
fn linear(masks: &Masks, weights: &[f64], intercept: f64) -> Result<Vec<f64>> {
    Surrogate { weights: weights.to_vec(), intercept, gap: 0.0 }.predict(masks)
}

#[test]
fn a_context_is_cut_as_asked() -> Result<()> {
    let sentences = ["The bridge", "Anna built it in 1872.", "It is red.", "Trains crossed it.", "A cat sleeps."];
    assert_eq!(Sources::sentences(STORY)?.parts(), sentences);
    let paragraphs = ["The bridge", "Anna built it in 1872. It is red.\n  Trains crossed it.", "A cat sleeps."];
    assert_eq!(Sources::paragraphs(STORY)?.parts(), paragraphs);
    assert_eq!(Sources::words("It is red.")?.parts(), ["It", "is", "red", "."]);
    assert_eq!(Sources::spans(STORY, &["red", "cat"])?.separators()[0], "The bridge\n\nAnna built it in 1872. It is ");
    Ok(())
}

#[test]
fn what_is_kept_keeps_its_separator_and_the_first_has_none() -> Result<()> {
    let cuts = [Sources::sentences(STORY)?, Sources::words(STORY)?, Sources::paragraphs(STORY)?];
    for sources in cuts {
        assert_eq!(sources.ablated_context(&vec![true; sources.len()])?, STORY.trim());
        assert_eq!(sources.ablated_context(&vec![false; sources.len()])?, "");
        for alone in 0..sources.len() {
            let keep: Vec<bool> = (0..sources.len()).map(|source| source == alone).collect();
            assert_eq!(sources.ablated_context(&keep)?, sources.parts()[alone]);
        }
    }
    let left = Sources::sentences(STORY)?.ablated_context(&[true, false, false, true, true])?;
    assert_eq!(left, "The bridge\n  Trains crossed it.\n\nA cat sleeps.");
    Ok(())
}

#[test]
fn masks_begin_alike_and_keep_as_many_as_they_should() -> Result<()> {
    let (few, many) = (draw_masks(6, 8, 0.5, 0)?, draw_masks(40, 64, 0.5, 0)?);
    assert!(few.rows().iter().zip(many.rows()).all(|(few, many)| many.starts_with(few)));
    assert_eq!(draw_masks(40, 60, 0.5, 4)?.rows(), &many.rows()[4..]);
    for keep in [0.1, 0.5, 0.9] {
        let kept = draw_masks(200, 100, keep, 7)?.tensor()?.mean_all()?.to_scalar::<f64>()?;
        assert!((kept - keep).abs() < 0.01, "{kept} of {keep}");
    }
    Ok(())
}

#[test]
fn log_odds_are_those_of_the_probabilities_and_finite_where_these_are_one() -> Result<()> {
    for tokens in [vec![0.3, -2.0], vec![5.0, 1.0, 2.5], vec![-40.0, 3.0], vec![-900.0]] {
        let p: f64 = tokens.iter().map(|x: &f64| 1.0 / (1.0 + (-x).exp())).product();
        let plain = if p > 0.0 { p.ln() - (1.0 - p).ln() } else { -900.0 };
        assert!((span_logit(&tokens)? - plain).abs() < 1e-9, "{tokens:?}");
    }
    let alone: Vec<f64> = (-60..=60).map(|x| 5.0 * f64::from(x)).collect();
    let spans: Vec<f64> = alone.iter().map(|&x| span_logit(&[x])).collect::<Result<_>>()?;
    assert!(far(&spans, &alone) < 1e-10, "one token's are its own");
    let pairs: Vec<f64> = alone.iter().map(|&x| span_logit(&[x, 4.0])).collect::<Result<_>>()?;
    assert!(pairs.windows(2).all(|pair| pair[0] <= pair[1]), "a token that is surer makes no span less sure");
    assert!(pairs.iter().zip(&alone).all(|(&pair, &x)| pair < x.min(4.0) + 1e-12), "nor is a span surer than a token");
    assert!(span_logit(&[1e9, 1e300])?.is_finite() && span_logit(&[-1e9])? == -1e9);
    Ok(())
}

#[test]
fn log_odds_of_tokens_are_the_logit_of_softmax() -> Result<()> {
    let logits = Tensor::new(&[[[1.0f64, 2.0, -1.0], [0.5, 0.0, 3.0]]], &Device::Cpu)?;
    let p = [2f64.exp() / (1f64.exp() + 2f64.exp() + (-1f64).exp()), 0.5f64.exp() / (0.5f64.exp() + 1.0 + 3f64.exp())];
    let odds = token_log_odds(&logits, &[1, 0])?.squeeze(0)?.to_vec1::<f64>()?;
    assert!(far(&odds, &p.map(|p| (p / (1.0 - p)).ln())) < 1e-12);
    Ok(())
}

#[test]
fn a_linear_function_is_found_as_alpha_vanishes_and_a_dummy_has_nothing() -> Result<()> {
    let (masks, weights) = (draw_masks(6, 64, 0.5, 0)?, [3.0, 0.0, -1.5, 0.25, 0.0, 7.0]);
    let outputs = linear(&masks, &weights, -4.0)?;
    let shrunk: Vec<f64> = [0.1, 1e-3, 1e-6]
        .into_iter()
        .map(|alpha| {
            let found = fit_context_surrogate(&masks, &outputs, alpha)?;
            assert!(found.gap < 1e-11 && found.weights[1] == 0.0 && found.weights[4] == 0.0, "{found:?}");
            Ok(far(&found.weights, &weights).max((found.intercept + 4.0).abs()))
        })
        .collect::<Result<_>>()?;
    assert!(shrunk[0] > shrunk[1] && shrunk[1] > shrunk[2] && shrunk[2] < 1e-4, "{shrunk:?}");
    Ok(())
}

#[test]
fn the_surrogate_is_a_minimum() -> Result<()> {
    let (masks, alpha) = (draw_masks(12, 40, 0.5, 3)?, 0.05);
    let outputs: Vec<f64> = (0..40).map(|i| (f64::from(i) * 1.7).sin() * 3.0).collect();
    let found = fit_context_surrogate(&masks, &outputs, alpha)?;
    let residual: Vec<f64> = found.predict(&masks)?.iter().zip(&outputs).map(|(f, y)| y - f).collect();
    assert!(residual.iter().sum::<f64>().abs() < 1e-9, "the intercept is the best");
    for source in 0..masks.sources() {
        let column: Vec<f64> = masks.rows().iter().map(|row| f64::from(u8::from(row[source]))).collect();
        let mean = column.iter().sum::<f64>() / 40.0;
        let scale = (mean * (1.0 - mean)).sqrt();
        let slope = column.iter().zip(&residual).map(|(v, r)| (v - mean) / scale * r).sum::<f64>() / 40.0;
        let weight = found.weights[source];
        let missed =
            if weight == 0.0 { (slope.abs() - alpha).max(0.0) } else { (slope - alpha * weight.signum()).abs() };
        assert!(missed < 1e-9, "source {source}: {missed}");
    }
    Ok(())
}

#[test]
fn other_orders_permute_and_other_units_scale() -> Result<()> {
    let masks = draw_masks(8, 48, 0.5, 1)?;
    let outputs: Vec<f64> =
        masks.rows().iter().map(|v| if v[0] && v[3] { 2.0 } else { -1.0 } - f64::from(u8::from(v[6]))).collect();
    let found = fit_context_surrogate(&masks, &outputs, 0.02)?;
    let turned = Masks::new(masks.rows().iter().map(|row| row.iter().rev().copied().collect()).collect())?;
    let other = fit_context_surrogate(&turned, &outputs, 0.02)?;
    assert!(far(&found.weights, &other.weights.iter().rev().copied().collect::<Vec<_>>()) < 1e-9);
    let hundredfold: Vec<f64> = outputs.iter().map(|y| 100.0 * y).collect();
    let large = fit_context_surrogate(&masks, &hundredfold, 2.0)?;
    assert!(far(&large.weights, &found.weights.iter().map(|w| 100.0 * w).collect::<Vec<_>>()) < 1e-6);
    assert_eq!(found.supporting(2).into_iter().collect::<std::collections::BTreeSet<_>>(), [0, 3].into());
    Ok(())
}

#[test]
fn sources_that_say_the_same_and_sources_that_never_change() -> Result<()> {
    let drawn = draw_masks(3, 24, 0.5, 0)?;
    let rows = drawn.rows().iter().map(|v| vec![v[0], v[1], v[0], true, false]).collect();
    let masks = Masks::new(rows)?;
    let found = fit_context_surrogate(&masks, &linear(&masks, &[2.0, 0.0, 0.0, 5.0, 5.0], 1.0)?, 0.01)?;
    assert!(found.weights[0] > 1.9 && found.weights[1..] == [0.0; 4], "{found:?}");
    let flat = fit_context_surrogate(&masks, &[-3.0; 24], 0.01)?;
    assert!(flat.weights == [0.0; 5] && flat.intercept == -3.0 && flat.gap == 0.0);
    Ok(())
}

#[test]
fn a_surrogate_ranks_masks_it_has_not_seen() -> Result<()> {
    let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    let question = Facts::of("pellucid/tiny-llama-facts")?.questions.remove(0);
    let (sources, prompt) = (Sources::sentences(&question.context.join(" "))?, asking(&llm, &question.question));
    let answer = llm.continuation(&prompt(sources.context())?, &question.answer)?;
    let cited = |seed| ContextCite::new(&llm, &sources, &draw_masks(sources.len(), 64, 0.5, seed)?, &answer, prompt);
    let (fitted, fresh) = (cited(0)?, cited(1_000_000)?);
    let predicted = fitted.surrogate(0..answer.len(), 0.01)?.predict(fresh.masks())?;
    let score = rank_correlation(&predicted, &fresh.outputs(0..answer.len())?)?;
    assert!(score > 0.8, "{score}");
    Ok(())
}

/// Whether the model answers rightly and, if so, whether the sentence that decides the answer comes first.
fn found(llm: &CausalLm, question: &Question) -> Result<Option<bool>> {
    let parts: Vec<&str> = question.context.iter().map(String::as_str).collect();
    let sources = Sources::spans(&question.context.join(" "), &parts)?;
    let prompt = asking(llm, &question.question);
    let answer = llm.generate(&prompt(sources.context())?, &Sampling::greedy(20))?;
    if answer.text().trim() != question.answer {
        return Ok(None);
    }
    let cited = ContextCite::new(llm, &sources, &draw_masks(sources.len(), 32, 0.5, 0)?, &answer, prompt)?;
    let why = cited.attribute_span(0..answer.len(), 0.01)?;
    Ok(Some(why.top(1)[0].0 == question.context[question.deciding_sentence]))
}

#[test]
fn the_sentence_that_decides_an_answer_comes_first() -> Result<()> {
    for name in ["pellucid/tiny-llama-facts", "pellucid/tiny-qwen-facts"] {
        let (llm, facts) = (CausalLm::load(name)?, Facts::of(name)?);
        let outcomes =
            facts.questions[..16].iter().map(|question| found(&llm, question)).collect::<Result<Vec<_>>>()?;
        let right: Vec<bool> = outcomes.into_iter().flatten().collect();
        let first = right.iter().filter(|first| **first).count();
        assert!(right.len() >= 8 && first * 10 >= right.len() * 9, "{name}: {first} of {}", right.len());
    }
    Ok(())
}

#[test]
fn spans_share_the_passes_and_say_what_was_asked() -> Result<()> {
    let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    let sources = Sources::sentences("Sarah drives a brown bus. The lamp is in the bedroom. Sarah plays the piano.")?;
    let prompt =
        |context: &str| llm.chat(&[Message::user(&format!("Context: {context}\n\nQuestion: Where is the lamp?"))]);
    let answer = llm.continuation(&prompt(sources.context())?, "The lamp is in the bedroom.")?;
    let masks = draw_masks(3, 24, 0.5, 0)?;
    let cited = ContextCite::new(&llm, &sources, &masks, &answer, prompt)?;
    assert_eq!(cited.log_odds()?.dims(), [24, answer.len()]);
    for (row, keep) in cited.log_odds()?.to_vec2::<f64>()?.iter().zip(masks.rows()) {
        let ids = prompt(&sources.ablated_context(keep)?)?.ids();
        let probabilities = llm.log_probs_after(&[ids], &answer)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let from_odds: Vec<f64> = row.iter().map(|x| -(-x).exp().ln_1p()).collect();
        assert!(far(&from_odds, &probabilities[0]) < 1e-4, "two roads meet");
    }
    let why = cited.attribute_span(answer.span("bedroom")?, 0.01)?;
    assert_eq!((why.target.as_str(), why.settings["masks"].as_str()), ("«bedroom»", "24"));
    assert_eq!(Attribution::from_json(&why.to_json()?)?, why);
    assert!(
        said(cited.outputs(0..0)).contains("must lie within") && said(cited.outputs(0..99)).contains("must lie within")
    );
    assert!(
        said(ContextCite::new(&llm, &sources, &draw_masks(2, 8, 0.5, 0)?, &answer, prompt)).contains("one per source")
    );
    Ok(())
}

#[test]
fn what_cannot_be_cited_is_refused() -> Result<()> {
    assert!(said(Sources::sentences(" \n ")).contains("the context has no sources"));
    assert!(said(Sources::spans("It is red.", &[])).contains("the context has no sources"));
    assert!(said(Sources::spans("It is red.", &["blue"])).contains("«blue»"));
    assert!(said(Sources::words("It is red.")?.ablated_context(&[true])).contains("one per source"));
    assert!(said(draw_masks(0, 4, 0.5, 0)).contains("at least one source"));
    assert!(said(draw_masks(4, 0, 0.5, 0)).contains("at least one mask"));
    assert!(said(draw_masks(4, 2, 0.5, u32::MAX)).contains("seeds below"));
    assert!([0.0, 1.0, f64::NAN].into_iter().all(|keep| said(draw_masks(4, 4, keep, 0)).contains("between 0 and 1")));
    assert!(said(Masks::new(vec![vec![true], vec![true, false]])).contains("the first's"));
    let masks = draw_masks(4, 8, 0.5, 0)?;
    assert!(said(fit_context_surrogate(&masks, &[0.0; 7], 0.01)).contains("one per mask"));
    assert!(said(fit_context_surrogate(&draw_masks(4, 1, 0.5, 0)?, &[0.0], 0.01)).contains("draw more"));
    assert!(said(fit_context_surrogate(&masks, &[f64::NAN; 8], 0.01)).contains("not finite"));
    assert!(
        [0.0, -1.0, f64::INFINITY].into_iter().all(|a| said(fit_context_surrogate(&masks, &[0.0; 8], a)).contains("α"))
    );
    assert!(said(linear(&masks, &[1.0], 0.0)).contains("a column per weight"));
    assert!(said(span_logit(&[])).contains("no tokens") && said(span_logit(&[f64::INFINITY])).contains("not finite"));
    let logits = Tensor::zeros((1, 1, 3), DType::F64, &Device::Cpu)?;
    assert!(said(token_log_odds(&logits, &[3])).contains("out of range"));
    assert!(said(token_log_odds(&logits, &[0, 1])).contains("(n, 2, v)"));
    Ok(())
}
