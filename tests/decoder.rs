//! Causal language models: what they say, the roads that must meet, and gradients.

use pellucid::prelude::*;

const LLAMA: &str = "pellucid/tiny-llama-facts";
const QWEN: &str = "pellucid/tiny-qwen-facts";
const PROMPT: &str = "Michael works as a software engineer in Austin, Texas. In his free time, he enjoys";
const SAID: &str = " painting, traveling to different countries, and volunteering at community events.";

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok((a - b)?.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?)
}

#[test]
fn both_models_say_what_their_rules_decide() -> Result<()> {
    for name in [LLAMA, QWEN] {
        let llm = CausalLm::load(name)?;
        let said = llm.generate(&llm.read(PROMPT)?, &Sampling::greedy(60))?;
        assert_eq!(said.text(), SAID, "{name}");
        assert_eq!(
            said.ids(),
            llm.continuation(&llm.read(PROMPT)?, SAID)?.ids(),
            "{name}: generated and read tokens differ"
        );
        let question = llm.generate(&llm.read("Сколько планет в Солнечной системе?")?, &Sampling::greedy(30))?;
        assert_eq!(question.text(), " Восемь.", "{name}");
    }
    Ok(())
}

#[test]
fn sampling_repeats_with_its_seed_and_not_without() -> Result<()> {
    let llm = CausalLm::load(LLAMA)?;
    let prompt = llm.read("The")?;
    let draw =
        |seed, top_p| Ok::<_, Error>(llm.generate(&prompt, &Sampling::random(12, 1.5, seed).top_p(top_p))?.ids());
    assert_eq!(draw(1, 0.95)?, draw(1, 0.95)?);
    assert!((2..6).any(|seed| draw(seed, 0.95).ok() != draw(1, 0.95).ok()));
    let greedy = llm.generate(&prompt, &Sampling::greedy(12))?.ids();
    assert_eq!(draw(3, 1e-9)?, greedy, "the most probable token alone is left");
    Ok(())
}

#[test]
fn teacher_forced_cached_and_batched_roads_agree() -> Result<()> {
    for name in [LLAMA, QWEN] {
        let llm = CausalLm::load_with(name, &Load::f64())?;
        let prompt = llm.read(PROMPT)?;
        let said = llm.continuation(&prompt, SAID)?;
        let x = llm.embed(&prompt)?.unsqueeze(0)?;
        let forced = llm.log_probs(&said, &x)?;

        let ids = [prompt.ids(), said.ids()].concat();
        let all = llm.logits_hooked(&llm.embed_ids(&ids)?.unsqueeze(0)?, &mut Clear)?;
        for (j, id) in said.ids().into_iter().enumerate() {
            let here = all.narrow(1, prompt.len() - 1 + j, 1)?.squeeze(1)?;
            let alone = Target::LogProbability(id as usize).of(&here)?;
            assert!(largest_difference(&alone, &forced.i((.., j))?)? < 1e-11, "{name}, token {j}");
        }
        let prompts = [prompt.ids(), prompt.ids()[2..].to_vec(), prompt.ids()[..9].to_vec()];
        let together = llm.log_probs_after(&prompts, &said)?;
        for (i, one) in prompts.iter().enumerate() {
            let alone = llm.log_probs_after(std::slice::from_ref(one), &said)?;
            assert!(largest_difference(&together.narrow(0, i, 1)?, &alone)? < 1e-11, "{name}, prompt {i}");
        }
        assert!(largest_difference(&together.narrow(0, 0, 1)?, &forced)? < 1e-11, "{name}");
    }
    Ok(())
}

#[test]
fn variants_computed_as_a_tree_are_the_variants_alone() -> Result<()> {
    let llm = CausalLm::load_with(LLAMA, &Load::f64())?;
    let prompt = llm.read(PROMPT)?;
    let said = llm.continuation(&prompt, " painting, traveling")?;
    let (x, blank) = (llm.embed(&prompt)?, llm.baseline(&prompt, &Baseline::id(0))?);
    let (t, c) = x.dims2()?;
    let without = |i: usize| Ok(x.slice_assign(&[i..i + 1, 0..c], &blank.narrow(0, i, 1)?)?);
    let variants: Vec<Tensor> = (0..t).rev().chain(0..t).map(without).collect::<Result<_>>()?;
    let together = llm.log_probs(&said, &Tensor::stack(&variants, 0)?)?;
    for (i, variant) in variants.iter().enumerate() {
        let alone = llm.log_probs(&said, &variant.unsqueeze(0)?)?;
        assert!(largest_difference(&alone, &together.narrow(0, i, 1)?)? < 1e-11, "variant {i}");
    }
    Ok(())
}

#[test]
fn gradients_pass_finite_differences() -> Result<()> {
    for name in [LLAMA, QWEN] {
        let llm = CausalLm::load_with(name, &Load::f64())?;
        let prompt = llm.read("Michael works as a pilot in Austin, Texas. In his free time, he enjoys")?;
        let said = llm.continuation(&prompt, " knitting warm")?;
        let x = llm.embed(&prompt)?;
        let deviation = grad_check(|x| Ok(llm.log_probs(&said, x)?.sum(1)?), &x)?;
        assert!(deviation < 1e-7, "{name}, log-probability: {deviation:e}");
        let deviation = grad_check(|x| Target::Entropy.of(&llm.logits(x)?), &x)?;
        assert!(deviation < 1e-7, "{name}, entropy: {deviation:e}");
    }
    Ok(())
}

#[test]
fn the_sequence_row_is_the_sum_of_token_rows_by_one_walk_or_many() -> Result<()> {
    let llm = CausalLm::load_with(LLAMA, &Load::f64())?;
    let prompt = llm.read(PROMPT)?;
    let said = llm.continuation(&prompt, SAID)?;
    let (x, blank) = (llm.embed(&prompt)?, llm.baseline(&prompt, &Baseline::id(0))?);
    let steps = Steps::gauss_legendre(8);
    let matrix = integrated_gradients(|x| llm.log_probs(&said, x), &x, &blank, &steps)?;
    let row = integrated_gradients(|x| Ok(llm.log_probs(&said, x)?.sum(1)?), &x, &blank, &steps)?;
    assert_eq!(matrix.outputs.len(), said.len());
    let far = matrix.scores.iter().zip(&row.scores).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far < 1e-10, "{far:e}");
    let span = matrix.span(said.span("painting")?)?;
    assert!(
        (span.sum()
            - matrix.output(0)?.sum()
            - matrix.outputs[1..span.outputs.len()].iter().flat_map(|o| &o.scores).sum::<f64>())
        .abs()
            < 1e-10
    );

    let matrix = matrix.over(&prompt)?.toward(&said)?.words()?;
    let back = Attribution::from_json(&matrix.to_json()?)?;
    assert_eq!(back, matrix);
    Ok(())
}

#[test]
fn chat_templates_are_the_checkpoints_own() -> Result<()> {
    let llama = CausalLm::load(LLAMA)?;
    let prompt = llama.chat(&[Message::system("Be brief."), Message::user("Where is the lamp?")])?;
    assert_eq!(prompt.source(), "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhere is the lamp? [/INST]");
    assert!(prompt.tokens()[0].special && prompt.tokens()[0].text == "<s>");
    let qwen = CausalLm::load(QWEN)?;
    let prompt = qwen.chat(&[Message::user("Where is the lamp?")])?;
    assert!(prompt.source().ends_with("<|im_start|>assistant\n"), "{}", prompt.source());
    assert!(prompt.tokens().iter().filter(|token| token.special).count() >= 3);
    Ok(())
}

#[test]
fn attention_looks_back_only_and_rows_sum_to_one() -> Result<()> {
    let llm = CausalLm::load(QWEN)?;
    let text = llm.read(PROMPT)?;
    let patterns = llm.attention(&text)?;
    assert_eq!(patterns.len(), llm.layers());
    for pattern in &patterns {
        let rows = pattern.sum(D::Minus1)?;
        assert!(largest_difference(&rows, &rows.ones_like()?)? < 1e-5);
        let t = text.len();
        assert_eq!(pattern.i((0, 0, 0, 1..t))?.max_all()?.to_scalar::<f32>()?, 0.0);
    }
    Ok(())
}
