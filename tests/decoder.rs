//! Causal language models: what they say, the roads that must meet, and gradients.

#[path = "common/apart.rs"]
mod apart;

use apart::{far, largest_difference};
use pellucid::prelude::*;

const LLAMA: &str = "pellucid/tiny-llama-facts";
const QWEN: &str = "pellucid/tiny-qwen-facts";
const PROMPT: &str = "Michael works as a software engineer in Austin, Texas. In his free time, he enjoys";
const SAID: &str = " painting, traveling to different countries, and volunteering at community events.";

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
fn variants_that_share_their_beginning_are_the_variants_alone() -> Result<()> {
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
    let far = far(&matrix.scores, &row.scores);
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

fn said<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "no error".into())
}

#[test]
fn what_cannot_be_explained_has_its_answer() -> Result<()> {
    let llm = CausalLm::load(LLAMA)?;
    let prompt = llm.read(PROMPT)?;
    assert!(said(llm.read("")).contains("the text is empty"));
    assert!(said(llm.read("word ".repeat(300))).contains("256 positions"));
    assert!(said(llm.continuation(&prompt, "")).contains("the continuation is empty"));
    assert!(said(llm.continuation(&prompt, "word ".repeat(250))).contains("256 positions"));
    assert!(said(llm.read([0xff])).contains("byte 0 is 0xff"));
    let painting = llm.continuation(&prompt, " painting")?;
    assert!(said(painting.span("chess")).contains("does not say «chess»") && painting.span(" ").is_err());
    let kept = llm.baseline(&prompt, &Baseline::id(0).keeping(prompt.span("Austin, Texas")?))?;
    let (austin, x) = (prompt.span("Austin")?, llm.embed(&prompt)?);
    let same = |i: usize| largest_difference(&kept.i(i)?, &x.i(i)?);
    assert!(same(austin.start)? == 0.0 && same(austin.start - 1)? > 0.0 && prompt.span("Paris").is_err());
    assert!(said(llm.baseline(&prompt, &Baseline::token("no such token"))).contains("has no token"));
    assert!(said(llm.baseline(&prompt, &Baseline::id(5000))).contains("out of range"));
    assert!(llm.baseline(&prompt, &Baseline::token(" he")).is_ok(), "a token is found as text has it");

    assert!(said(llm.log_probs(&painting, &x)).contains("(n, t, 128)"));
    assert!(said(llm.log_probs(&painting, &x.narrow(0, 0, 3)?.unsqueeze(0)?)).contains("the prompt's"));
    let half = Tensor::new(&[[0.5f64]], &Device::Cpu)?;
    assert!(said(llm.log_probs_with(&Parts::spans(&prompt, &["Austin"])?, &half, &painting)).contains("found 0.5"));
    assert!(said(Parts::spans(&prompt, &["Michael", "orks"])).contains("no token begins in «orks»"));
    assert!(said(painting.characters(..=usize::MAX)).contains("must lie within it"));
    assert!(said(llm.log_probs_after(&[], &painting)).contains("no prompts"));
    assert!(said(llm.log_probs_after(&[vec![]], &painting)).contains("nothing is left"));
    let nowhere = llm.logits_hooked(&x.unsqueeze(0)?, &mut Edit::ablate(Site::AttnOut(7)));
    assert!(said(nowhere).contains("layer 7 is out of range"));
    assert!(said(llm.generate(&prompt, &Sampling::greedy(0))).contains("at least one token"));
    assert!(said(llm.generate(&prompt, &Sampling::random(3, -1.0, 0))).contains("temperature"));
    assert!(said(llm.generate(&prompt, &Sampling::random(3, 1.0, 0).top_p(0.0))).contains("top_p"));
    let done = llm.read(format!("{PROMPT}{SAID}"))?;
    assert!(said(llm.generate(&done, &Sampling::greedy(5))).contains("ends the text at once"));
    Ok(())
}

/// A copy of the embedded model with another tokenizer or configuration, and without a chat template.
fn altered(change: impl Fn(&std::path::Path) -> Result<()>) -> Result<tempfile::TempDir> {
    let (from, folder) = (concat!(env!("CARGO_MANIFEST_DIR"), "/src/zoo/tiny-llama-facts"), tempfile::tempdir()?);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(format!("{from}/{file}"), folder.path().join(file))?;
    }
    change(folder.path())?;
    Ok(folder)
}

#[test]
fn folders_that_do_not_fit_have_their_answer() -> Result<()> {
    let load = |folder: &tempfile::TempDir| CausalLm::load(&folder.path().to_string_lossy());
    let plain = altered(|_| Ok(()))?;
    assert!(said(load(&plain)?.chat(&[Message::user("Hello")])).contains("has no chat template"));

    let words = altered(|folder| {
        let tokenizer = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null, "truncation": null, "padding": null,
            "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "he": 1, "paints": 2}}}"#;
        Ok(std::fs::write(folder.join("tokenizer.json"), tokenizer)?)
    })?;
    let llm = load(&words)?;
    let prompt = llm.read("he")?;
    assert!(llm.continuation(&prompt, "paints").is_ok());
    assert!(said(llm.continuation(&prompt, "sings")).contains("cannot express «sings»"));

    let configured = |from: &str, to: &str| {
        altered(|folder| {
            let path = folder.join("config.json");
            let config = std::fs::read_to_string(&path)?;
            assert!(config.contains(from));
            Ok(std::fs::write(&path, config.replace(from, to))?)
        })
    };
    let bert = configured("\"model_type\": \"llama\"", "\"model_type\": \"bert\"")?;
    assert!(said(load(&bert)).contains("`bert`") && said(load(&bert)).contains("causal language models"));
    let yarn = configured("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"")?;
    assert!(said(load(&yarn)).contains("rope_type `yarn` is not known"));
    let wide = configured("\"hidden_size\": 128", "\"hidden_size\": 96")?;
    assert!(said(load(&wide)).contains("Do config.json and the weights belong together?"));
    for promised in [2, 4] {
        let other = configured("\"num_hidden_layers\": 3", &format!("\"num_hidden_layers\": {promised}"))?;
        assert!(said(load(&other)).contains(&format!("promises {promised} blocks, and the weights have 3")));
    }
    let with = |tensor: &str| {
        altered(|folder| {
            let path = folder.join("model.safetensors");
            let mut weights = pellucid::candle_core::safetensors::load(&path, &Device::Cpu)?;
            weights.insert(tensor.into(), Tensor::ones(16, DType::F32, &Device::Cpu)?);
            Ok(pellucid::candle_core::safetensors::save(&weights, path)?)
        })
    };
    assert!(load(&with("model.layers.0.self_attn.rotary_emb.inv_freq")?).is_ok(), "it follows from the configuration");
    assert!(
        said(load(&with("model.layers.0.self_attn.sinks")?)).contains("`layers.0.self_attn.sinks` belongs to no part")
    );
    Ok(())
}

#[test]
fn a_template_is_explained_by_its_fields() -> Result<()> {
    let llm = CausalLm::load(LLAMA)?;
    let fields = vec![
        Field::new("name", "Michael").or("Sarah").or("Oscar"),
        Field::new("work", "software engineer").or("nurse").or("pilot"),
        Field::new("city", "Austin").or("Miami").or("Boston"),
    ];
    let parts = Parts::template("{name} works as a {work} in {city}, Texas. In his free time, he enjoys", fields)?;
    assert_eq!(parts.source(), PROMPT);
    let prompt = llm.read(parts.source())?;
    let said = llm.continuation(&prompt, " painting, traveling")?;
    let f = |present: &Tensor| llm.log_probs_with(&parts, present, &said);
    let (all, none) = (parts.all()?, parts.none()?);
    let why = shapley_values(f, &all, &none, &Groups::elements(&all))?.over_parts(&parts)?.toward(&said)?;
    assert_eq!(why.span(said.span("painting")?)?.top(1)[0].0, "software engineer");
    assert_eq!(why.span(said.span("traveling")?)?.top(1)[0].0, "Austin");
    assert!(why.completeness.is_some_and(|law| law.gap().abs() < 1e-6));
    assert!(Parts::template("{name}", vec![]).is_err() && Parts::template("x", vec![Field::new("a", "b")]).is_err());
    Ok(())
}

/// A tokenizer of the kind of Llama 2's: it puts a space, `▁`, before whatever it reads, and takes it away in front.
const METASPACE: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "post_processor": null,
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
        "vocab": {"<unk>": 0, "<0x0A>": 1, "▁": 2, "h": 3, "e": 4, "s": 5, "i": 6, "n": 7, "g": 8, ",": 9,
            "he": 10, "▁he": 11, "in": 12, "ing": 13, "sing": 14, "▁sing": 15, "▁sings": 16},
        "merges": ["h e", "▁ he", "i n", "in g", "s ing", "▁ sing", "▁sing s"]}}"#;

#[test]
fn continuations_begin_as_they_are_written_in_every_kind_of_vocabulary() -> Result<()> {
    let folder = altered(|folder| Ok(std::fs::write(folder.join("tokenizer.json"), METASPACE)?))?;
    let llm = CausalLm::load(&folder.path().to_string_lossy())?;
    let prompt = llm.read("he")?;
    assert_eq!(prompt.ids(), [11]);
    assert_eq!(llm.continuation(&prompt, " sings, he")?.ids(), [16, 9, 11]);
    assert_eq!(llm.continuation(&prompt, "sing")?.ids(), [14]);
    let said = llm.continuation(&prompt, ", he")?;
    assert_eq!(said.ids(), [9, 11]);
    assert_eq!(said.tokens().iter().map(|token| token.text.as_str()).collect::<Vec<_>>(), [",", " he"]);
    Ok(())
}
