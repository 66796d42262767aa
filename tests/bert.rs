//! The whole BERT: its gradient, its hooks, its manners, and whether its explanations are the right ones.

#[path = "common/apart.rs"]
mod apart;

use apart::largest_difference;
use pellucid::prelude::*;
use pellucid::zoo::{RoleKind, Sentence};

const MODEL: &str = "pellucid/tiny-bert-sentiment";

fn double() -> Result<Bert> {
    Bert::load_with(MODEL, &Load::f64())
}

#[test]
fn the_whole_model_passes_finite_differences() -> Result<()> {
    let bert = double()?;
    let text = bert.read("The film was not bad at all.")?;
    let x = bert.embed(&text)?;
    let logit = |x: &Tensor| Target::Logit(1).of(&bert.logits(&text, x)?);
    assert!(grad_check(logit, &x)? < 1e-8);
    let direction = bert.sentence_embedding(&text, &(x.unsqueeze(0)? * 0.5)?)?;
    let cosine = |x: &Tensor| Ok(bert.sentence_embedding(&text, x)?.broadcast_mul(&direction)?.sum(1)?);
    assert!(grad_check(cosine, &x)? < 1e-7);
    Ok(())
}

#[test]
fn held_out_accuracy_is_what_the_truth_states() -> Result<()> {
    let (bert, truth) = (Bert::load(MODEL)?, Truth::of(MODEL)?);
    let right =
        |sentence: &Sentence| Ok(bert.predict(&bert.read(&sentence.text)?)?[0].0 == truth.labels[sentence.label]);
    let right = truth.sentences.iter().map(right).collect::<Result<Vec<_>>>()?;
    let accuracy = right.iter().filter(|right| **right).count() as f64 / right.len() as f64;
    assert!(accuracy >= 0.97 && (accuracy - truth.accuracy).abs() < 1e-9, "{accuracy}");
    Ok(())
}

/// The word with the largest score in magnitude, by its place in the text.
fn top_word(bert: &Bert, sentence: &Sentence) -> Result<(usize, usize)> {
    let text = bert.read(&sentence.text)?;
    let f = |x: &Tensor| Target::Contrast(1, 0).of(&bert.logits(&text, x)?);
    let baseline = bert.baseline(&text, &Baseline::token("[MASK]"))?;
    let words =
        integrated_gradients(f, &bert.embed(&text)?, &baseline, &Steps::gauss_legendre(20))?.over(&text)?.words()?;
    let top = words.order()[0];
    Ok((words.tokens()[top].start, words.tokens()[top].end))
}

#[test]
fn integrated_gradients_finds_the_words_that_decide() -> Result<()> {
    let (bert, truth) = (Bert::load(MODEL)?, Truth::of(MODEL)?);
    let single = truth.sentences.iter().filter(|s| s.roles.iter().all(|role| role.kind != RoleKind::Contrast));
    let (mut found, mut all) = (0, 0);
    for sentence in single {
        let top = top_word(&bert, sentence)?;
        let decides = |kind| matches!(kind, RoleKind::Sentiment | RoleKind::Negator);
        all += 1;
        found += usize::from(sentence.roles.iter().any(|r| decides(r.kind) && r.start < top.1 && top.0 < r.end));
    }
    assert!(found * 100 >= all * 95, "{found} of {all}");
    Ok(())
}

#[test]
fn padding_and_batching_change_nothing() -> Result<()> {
    let bert = double()?;
    let text = bert.read("Nobody liked the soup.")?;
    let padded = bert.pad(text.clone(), text.len() + 7)?;
    let alone = bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?;
    let among = bert.logits(&padded, &bert.embed(&padded)?.unsqueeze(0)?)?;
    let x = bert.embed(&text)?;
    let batch = bert.logits(&text, &Tensor::stack(&[&(&x * 0.3)?, &x, &(&x * -1.0)?], 0)?)?;
    for class in 0..2 {
        let expected = alone.i((0, class))?.to_scalar::<f64>()?;
        assert!((among.i((0, class))?.to_scalar::<f64>()? - expected).abs() < 1e-12);
        assert!((batch.i((1, class))?.to_scalar::<f64>()? - expected).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn attention_patterns_are_distributions_and_roll_out_to_distributions() -> Result<()> {
    let bert = double()?;
    let text = bert.read("I absolutely loved the movie!")?;
    let patterns = bert.attention(&text)?;
    assert_eq!(patterns.len(), bert.layers());
    for fusion in [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min] {
        let rolled = rollout(&patterns, &Rollout { fusion, discard: 0.4, ..Rollout::default() })?;
        for row in rolled.squeeze(0)?.to_vec2::<f64>()? {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12 && row.iter().all(|weight| *weight >= 0.0));
        }
    }
    for pattern in patterns {
        let rows = pattern.sum(3)?.flatten_all()?.to_vec1::<f64>()?;
        assert!(rows.into_iter().all(|sum| (sum - 1.0).abs() < 1e-12));
    }
    Ok(())
}

#[test]
fn watching_changes_nothing() -> Result<()> {
    let bert = double()?;
    let text = bert.read("The food was good, but the service was terrible.")?;
    let x = bert.embed(&text)?.unsqueeze(0)?;
    let sites = ["embed", "blocks.0.resid_pre", "blocks.1.attn.pattern", "blocks.1.attn.out", "blocks.2.mlp.out"];
    let sites = sites.iter().map(|name| name.parse()).collect::<Result<Vec<Site>>>()?;
    let mut record = Record::new(&sites);
    let seen = bert.logits_hooked(&text, &x, &mut record)?;
    assert!(largest_difference(&seen, &bert.logits(&text, &x)?)? < 1e-12);
    assert_eq!(record.get(Site::Pattern(1))?.dims(), [1, 4, text.len(), text.len()]);
    assert!(record.get(Site::MlpOut(0)).is_err_and(|e| e.to_string().contains("blocks.0.mlp.out")));
    Ok(())
}

/// The tapped gradient, along a direction, against the difference quotient of an edit at the same site.
#[test]
fn a_tap_reads_the_gradient_of_an_attention_pattern() -> Result<()> {
    let bert = double()?;
    let text = bert.read("I did not love the movie.")?;
    let (x, site) = (bert.embed(&text)?.unsqueeze(0)?, Site::Pattern(1));
    let mut tap = Tap::new(&[site]);
    let grads = bert.logits_hooked(&text, &x, &mut tap)?.i((0, 1))?.backward()?;
    let slope = tap.grad(&grads, site)?.i((0, 2, 1, 3))?.to_scalar::<f64>()?;
    let moved = |by: f64| -> Result<f64> {
        let mut edit = Edit::new(site, move |a| {
            let entry = (a.i((0..1, 2..3, 1..2, 3..4))? + by)?;
            Ok(a.slice_assign(&[0..1, 2..3, 1..2, 3..4], &entry)?)
        });
        Ok(bert.logits_hooked(&text, &x, &mut edit)?.i((0, 1))?.to_scalar::<f64>()?)
    };
    let quotient = (moved(1e-5)? - moved(-1e-5)?) / 2e-5;
    assert!((slope - quotient).abs() < 1e-8 * (1.0 + quotient.abs()), "{slope} is not {quotient}");
    Ok(())
}

#[test]
fn patching_in_another_texts_state_moves_its_answer_over() -> Result<()> {
    let bert = double()?;
    let (good, bad) = (bert.read("I loved the movie!")?, bert.read("I hated the movie!")?);
    let at = Site::ResidPost(bert.layers() - 1);
    let embed = |text: &Text| -> Result<Tensor> { Ok(bert.embed(text)?.unsqueeze(0)?) };
    let mut record = Record::new(&[at]);
    let answer = bert.logits_hooked(&good, &embed(&good)?, &mut record)?;
    let mut patch = Edit::patch(at, record.get(at)?.clone());
    let patched = bert.logits_hooked(&bad, &embed(&bad)?, &mut patch)?;
    assert!(largest_difference(&answer, &patched)? < 1e-12);
    let silenced = bert.logits_hooked(&bad, &embed(&bad)?, &mut Edit::ablate(Site::Embed));
    assert!(silenced.is_ok());
    Ok(())
}

#[test]
fn baselines_keep_special_tokens_unless_told() -> Result<()> {
    let bert = double()?;
    let text = bert.read("A dull film.")?;
    let x = bert.embed(&text)?;
    let kept = bert.baseline(&text, &Baseline::zero())?;
    assert_eq!(kept.i(0)?.to_vec1::<f64>()?, x.i(0)?.to_vec1::<f64>()?);
    assert!(kept.i(1)?.to_vec1::<f64>()?.iter().all(|v| *v == 0.0));
    let everywhere = bert.baseline(&text, &Baseline::token("[PAD]").everywhere())?;
    assert_eq!(everywhere.to_vec2::<f64>()?, bert.embed_ids(&vec![0; text.len()])?.to_vec2::<f64>()?);
    assert!(bert.baseline(&text, &Baseline::token("[NONE]")).is_err_and(|e| e.to_string().contains("[NONE]")));
    Ok(())
}

#[test]
fn bad_input_is_answered_in_words() -> Result<()> {
    let bert = Bert::load(MODEL)?;
    let message = |result: Result<Text>| result.map_or_else(|error| error.to_string(), |_| "no error".into());
    assert!(message(bert.read("")).contains("the text is empty"));
    assert!(message(bert.read("  \n ")).contains("the text is empty"));
    assert!(message(bert.read([0x67, 0x6f, 0xff])).contains("byte 2 is 0xff"));
    assert!(message(bert.read("good ".repeat(100))).contains("102 tokens, but the model has 48 positions"));
    let text = bert.read("A good film.")?;
    let wrong = bert.logits(&text, &Tensor::zeros((1, 3, 64), DType::F32, &Device::Cpu)?);
    assert!(wrong.is_err_and(|e| e.to_string().contains("(n, 6, 64)")));
    assert!(bert.embed_ids(&[9999]).is_err_and(|e| e.to_string().contains("token id 9999 is out of range")));
    assert!(bert.label("neutral").is_err_and(|e| e.to_string().contains("negative, positive")));
    let class = Target::Logit(2).of(&bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?);
    assert!(class.is_err_and(|e| e.to_string().contains("target class 2 is out of range: there are 2")));
    let unfilled = bert.fill_mask(&text, &bert.embed(&text)?.unsqueeze(0)?);
    assert!(unfilled.is_err_and(|e| e.to_string().contains("does not make them up at random")));
    let nowhere = bert.logits_hooked(&text, &bert.embed(&text)?.unsqueeze(0)?, &mut Edit::ablate(Site::Pattern(9)));
    assert!(nowhere.is_err_and(|e| e.to_string().contains("layer 9 is out of range: there are 3")));
    let mut fewer = Edit::new(Site::ResidPre(0), |x| Ok(x.narrow(1, 0, 2)?));
    let mut other = Edit::new(Site::Pattern(1), |x| Ok(x.to_dtype(DType::F64)?));
    for (hook, said) in
        [(&mut fewer, "what a hook returns at `blocks.0.resid_pre` has shape [1, 2, 64]"), (&mut other, "holds F64")]
    {
        let wrong = bert.logits_hooked(&text, &bert.embed(&text)?.unsqueeze(0)?, hook);
        assert!(wrong.is_err_and(|e| e.to_string().contains(said)));
    }
    assert!(bert.pad(text, usize::MAX).is_err_and(|e| e.to_string().contains("48 positions")));
    let masked = bert.read("A [MASK] film.")?;
    assert!(masked.span("[MASK]").is_err_and(|e| e.to_string().contains("only special tokens stand")));
    assert!(Facts::of(MODEL).is_err_and(|e| e.to_string().contains("these are of pellucid/tiny-llama-facts")));
    assert!("blocks.1.attention".parse::<Site>().is_err_and(|e| e.to_string().contains("blocks.3.attn.pattern")));
    Ok(())
}
