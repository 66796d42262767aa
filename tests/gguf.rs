//! GGUF: the same model as in safetensors, packed, and its gradients.

#[path = "common/apart.rs"]
mod apart;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use apart::largest_difference;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use pellucid::prelude::*;
use serde_json::{Value as Json, json};

const C: usize = 256;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const D: usize = 64;
const WIDE: usize = 512;
const LAYERS: usize = 2;

/// A decoder's matrices and norms by Hugging Face's names, with random numbers.
fn random_weights(vocabulary: usize, qwen: bool) -> Result<HashMap<String, Tensor>> {
    let mut weights = HashMap::new();
    let mut random = |name: String, shape: &[usize], mean: f64, sigma: f64| -> Result<()> {
        let like = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        let numbers = pellucid::baseline::noise(&like, mean, sigma, weights.len() as u64)?;
        weights.insert(name, numbers);
        Ok(())
    };
    random("model.embed_tokens.weight".into(), &[vocabulary, C], 0.0, 1.0)?;
    random("lm_head.weight".into(), &[vocabulary, C], 0.0, 0.2)?;
    random("model.norm.weight".into(), &[C], 1.0, 0.2)?;
    for l in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{l}.{part}");
        for (part, rows) in [("q", HEADS * D), ("k", KV_HEADS * D), ("v", KV_HEADS * D)] {
            random(name(&format!("self_attn.{part}_proj.weight")), &[rows, C], 0.0, 0.06)?;
            if qwen {
                random(name(&format!("self_attn.{part}_proj.bias")), &[rows], 0.0, 0.1)?;
            }
        }
        random(name("self_attn.o_proj.weight"), &[C, HEADS * D], 0.0, 0.06)?;
        random(name("mlp.gate_proj.weight"), &[WIDE, C], 0.0, 0.06)?;
        random(name("mlp.up_proj.weight"), &[WIDE, C], 0.0, 0.06)?;
        random(name("mlp.down_proj.weight"), &[C, WIDE], 0.0, 0.06)?;
        random(name("input_layernorm.weight"), &[C], 1.0, 0.2)?;
        random(name("post_attention_layernorm.weight"), &[C], 1.0, 0.2)?;
    }
    Ok(weights)
}

/// GGUF's name of a tensor, written out independently of the reader.
fn gguf_name(name: &str) -> String {
    let short = name.replace("model.layers.", "blk.").replace("self_attn.o_proj", "attn_output");
    let short =
        ["q", "k", "v"].iter().fold(short, |s, p| s.replace(&format!("self_attn.{p}_proj"), &format!("attn_{p}")));
    let short =
        ["gate", "up", "down"].iter().fold(short, |s, p| s.replace(&format!("mlp.{p}_proj"), &format!("ffn_{p}")));
    let short = short.replace("input_layernorm", "attn_norm").replace("post_attention_layernorm", "ffn_norm");
    let short = short.replace("model.embed_tokens", "token_embd").replace("model.norm", "output_norm");
    short.replace("lm_head", "output")
}

/// llama.cpp stores the rows of Llama's queries and keys so that channels that turn together are neighbours.
fn neighbours(weight: &Tensor) -> Result<Tensor> {
    let (rows, c) = weight.dims2()?;
    Ok(weight.reshape((rows / D, 2, D / 2, c))?.transpose(1, 2)?.contiguous()?.reshape((rows, c))?)
}

/// Matrices packed, norms and biases as they are.
fn packed(weights: &HashMap<String, Tensor>, kind: &str, dtype: GgmlDType) -> Result<Vec<(String, QTensor)>> {
    let pack = |(name, weight): (&String, &Tensor)| {
        let turns = kind == "llama" && (name.contains("q_proj") || name.contains("k_proj"));
        let weight = if turns { neighbours(weight)? } else { weight.clone() };
        let dtype = if weight.rank() == 2 { dtype } else { GgmlDType::F32 };
        Ok((gguf_name(name), QTensor::quantize(&weight, dtype)?))
    };
    weights.iter().map(pack).collect()
}

/// What the packed numbers stand for, under Hugging Face's names.
fn unpacked(weights: &HashMap<String, Tensor>, dtype: GgmlDType) -> Result<HashMap<String, Tensor>> {
    let through = |(name, weight): (&String, &Tensor)| {
        let dtype = if weight.rank() == 2 { dtype } else { GgmlDType::F32 };
        Ok((name.clone(), QTensor::quantize(weight, dtype)?.dequantize(&Device::Cpu)?))
    };
    weights.iter().map(through).collect()
}

/// The embedded tokenizer, as a GGUF header has it, and what the header says of the model.
fn header(kind: &str, tokenizer: &Json) -> Vec<(String, Value)> {
    let text = |text: &str| Value::String(text.into());
    let count = |count: usize| Value::U32(count as u32);
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); vocabulary.len()];
    vocabulary.iter().for_each(|(token, id)| tokens[id.as_u64().unwrap() as usize] = token.clone());
    let special: Vec<u64> =
        tokenizer["added_tokens"].as_array().unwrap().iter().map(|token| token["id"].as_u64().unwrap()).collect();
    let kinds = (0..tokens.len()).map(|id| Value::I32(if special.contains(&(id as u64)) { 3 } else { 1 }));
    let merges = tokenizer["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|pair| text(&format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())));
    let key = |name: &str| format!("{kind}.{name}");
    vec![
        ("general.architecture".into(), text(kind)),
        (key("block_count"), count(LAYERS)),
        (key("context_length"), count(128)),
        (key("embedding_length"), count(C)),
        (key("feed_forward_length"), count(WIDE)),
        (key("attention.head_count"), count(HEADS)),
        (key("attention.head_count_kv"), count(KV_HEADS)),
        (key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
        (key("rope.freq_base"), Value::F32(500.0)),
        ("tokenizer.ggml.model".into(), text("gpt2")),
        ("tokenizer.ggml.pre".into(), text("default")),
        ("tokenizer.ggml.tokens".into(), Value::Array(tokens.iter().map(|token| text(token)).collect())),
        ("tokenizer.ggml.token_type".into(), Value::Array(kinds.collect())),
        ("tokenizer.ggml.merges".into(), Value::Array(merges.collect())),
        ("tokenizer.ggml.bos_token_id".into(), count(1)),
        ("tokenizer.ggml.eos_token_id".into(), count(2)),
        ("tokenizer.ggml.add_bos_token".into(), Value::Bool(true)),
        ("tokenizer.chat_template".into(), text("{{ bos_token }}{{ messages[0].content }} >")),
    ]
}

fn write_gguf(path: &Path, header: &[(String, Value)], tensors: &[(String, QTensor)]) -> Result<()> {
    let header: Vec<_> = header.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    Ok(gguf_file::write(&mut File::create(path)?, &header, &tensors)?)
}

const TOKENIZER: &str = include_str!("../src/zoo/tiny-llama-facts/tokenizer.json");

/// A folder with the same model twice: packed in `model.gguf`, and what that stands for in `plain/`.
fn twins(folder: &Path, kind: &str, dtype: GgmlDType) -> Result<(PathBuf, PathBuf)> {
    let tokenizer: Json = serde_json::from_str(TOKENIZER)?;
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap().len();
    let weights = random_weights(vocabulary, kind == "qwen2")?;
    let (gguf, plain) = (folder.join("model.gguf"), folder.join("plain"));
    write_gguf(&gguf, &header(kind, &tokenizer), &packed(&weights, kind, dtype)?)?;
    std::fs::create_dir(&plain)?;
    candle_core::safetensors::save(&unpacked(&weights, dtype)?, plain.join("model.safetensors"))?;
    std::fs::write(plain.join("tokenizer.json"), TOKENIZER)?;
    let config = json!({
        "model_type": kind, "vocab_size": vocabulary, "hidden_size": C, "intermediate_size": WIDE, "rope_theta": 500.0,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128, "eos_token_id": 2,
    });
    std::fs::write(plain.join("config.json"), config.to_string())?;
    Ok((gguf, plain))
}

const TEXT: &str = "Michael works as a pilot in Austin, Texas.";

#[test]
fn packed_and_unpacked_models_are_one() -> Result<()> {
    use GgmlDType::{F16, Q4_0, Q4K, Q5K, Q6K, Q8_0};
    for (dtype, bits) in [(Q4_0, 4.5), (Q4K, 4.5), (Q5K, 5.5), (Q6K, 6.5625), (Q8_0, 8.5), (F16, 32.0)] {
        for kind in ["llama", "qwen2"] {
            let folder = tempfile::tempdir()?;
            let (gguf, plain) = twins(folder.path(), kind, dtype)?;
            let [gguf, plain] = [gguf, plain].map(|path| CausalLm::load_with(&path.to_string_lossy(), &Load::f64()));
            let (gguf, plain) = (gguf?, plain?);
            let text = gguf.read(TEXT)?;
            assert_eq!(text, plain.read(TEXT)?, "{kind}: the tokenizers differ");
            let (x, y) = (gguf.embed(&text)?.unsqueeze(0)?, plain.embed(&text)?.unsqueeze(0)?);
            let far = largest_difference(&gguf.logits(&x)?, &plain.logits(&y)?)?;
            assert!(far < 1e-9, "{kind} {dtype:?}: logits differ by {far:e}");

            let weights = plain.bytes() as f64 / 8.0;
            let stored = if dtype == F16 { 64.0 } else { bits };
            assert!((gguf.bytes() as f64 * 8.0 / weights - stored).abs() < 0.01, "{dtype:?}: {}", gguf.bytes());
        }
    }
    Ok(())
}

#[test]
fn llama_3_brings_its_rotary_factors_as_a_tensor() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (gguf, plain) = twins(folder.path(), "llama", GgmlDType::F32)?;
    let [factor, low, high, context] = [8.0, 1.0, 4.0, 32.0f64];
    let divided_by = |i: usize| {
        let turns = context * 500f64.powf(-2.0 * i as f64 / D as f64) / (2.0 * std::f64::consts::PI);
        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / (kept + (1.0 - kept) / factor)) as f32
    };
    let factors: Vec<f32> = (0..D / 2).map(divided_by).collect();
    let tokenizer: Json = serde_json::from_str(TOKENIZER)?;
    let weights = random_weights(tokenizer["model"]["vocab"].as_object().unwrap().len(), false)?;
    let mut tensors = packed(&weights, "llama", GgmlDType::F32)?;
    let factors = QTensor::quantize(&Tensor::new(factors, &Device::Cpu)?, GgmlDType::F32)?;
    tensors.push(("rope_freqs.weight".into(), factors));
    write_gguf(&gguf, &header("llama", &tokenizer), &tensors)?;
    let config = std::fs::read_to_string(plain.join("config.json"))?;
    let rule = json!({"type": "llama3", "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
                      "high_freq_factor": high, "original_max_position_embeddings": context as usize});
    let config = config.replacen('{', &format!("{{\"rope_scaling\": {rule},"), 1);
    std::fs::write(plain.join("config.json"), config)?;

    let [gguf, plain] = [gguf, plain].map(|path| CausalLm::load_with(&path.to_string_lossy(), &Load::f64()));
    let (gguf, plain) = (gguf?, plain?);
    let x = plain.embed(&plain.read(TEXT)?)?.unsqueeze(0)?;
    assert!(largest_difference(&gguf.logits(&x)?, &plain.logits(&x)?)? < 1e-5, "factors are f32");
    Ok(())
}

#[test]
fn gradients_through_packed_weights_are_exact() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (gguf, _) = twins(folder.path(), "llama", GgmlDType::Q4K)?;
    let llm = CausalLm::load_with(&gguf.to_string_lossy(), &Load::f64())?;
    let text = llm.read(TEXT)?;
    let said = llm.continuation(&text, " In his free time")?;
    let x = llm.embed(&text)?;
    let deviation = grad_check(|x| Ok(llm.log_probs(&said, x)?.sum(1)?), &x)?;
    assert!(deviation < 1e-7, "{deviation:e}");
    let blank = llm.baseline(&text, &Baseline::id(0))?;
    let why = integrated_gradients(|x| llm.log_probs(&said, x), &x, &blank, &Steps::until(1e-4))?;
    assert!(why.completeness.is_some_and(|law| law.reached()));
    Ok(())
}

#[test]
fn the_header_brings_template_and_end_of_text() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (gguf, _) = twins(folder.path(), "qwen2", GgmlDType::Q8_0)?;
    let llm = CausalLm::load(&gguf.to_string_lossy())?;
    let prompt = llm.chat(&[Message::user("Hello")])?;
    assert_eq!(prompt.source(), "<s>Hello >");
    let said = llm.generate(&prompt, &Sampling::greedy(5))?;
    assert!(said.len() <= 5);
    Ok(())
}

#[test]
fn files_that_cannot_be_read_say_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (gguf, _) = twins(folder.path(), "llama", GgmlDType::Q8_0)?;
    let said =
        |path: &Path| CausalLm::load(&path.to_string_lossy()).map_or_else(|e| e.to_string(), |_| "loaded".into());
    let bytes = std::fs::read(&gguf)?;
    let broken = folder.path().join("broken.gguf");

    std::fs::write(&broken, &bytes[..bytes.len() / 2])?;
    assert!(said(&broken).contains("truncated"), "{}", said(&broken));
    std::fs::write(&broken, b"not a model")?;
    assert!(said(&broken).contains("not a whole GGUF file"), "{}", said(&broken));
    assert!(said(&folder.path().join("none.gguf")).contains("there is no file"));

    let tokenizer: Json = serde_json::from_str(TOKENIZER)?;
    let mut header = header("llama", &tokenizer);
    header.retain(|(key, _)| key != "tokenizer.ggml.model");
    header.push(("tokenizer.ggml.model".into(), Value::String("llama".into())));
    let weights = random_weights(tokenizer["model"]["vocab"].as_object().unwrap().len(), false)?;
    write_gguf(&broken, &header, &packed(&weights, "llama", GgmlDType::Q8_0)?)?;
    assert!(said(&broken).contains("tokenizer.json beside the file"), "{}", said(&broken));
    std::fs::write(folder.path().join("tokenizer.json"), TOKENIZER)?;
    assert_eq!(said(&broken), "loaded");
    Ok(())
}

#[test]
fn an_unknown_quantisation_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (gguf, _) = twins(folder.path(), "llama", GgmlDType::Q8_0)?;
    let mut bytes = std::fs::read(&gguf)?;
    // In a header, a tensor is its name, the number of its axes, the axes, its kind of number (4 bytes) and its place.
    let name = b"output.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4 + 16;
    bytes[at..at + 4].copy_from_slice(&23u32.to_le_bytes());
    std::fs::write(&gguf, bytes)?;
    let error = CausalLm::load(&gguf.to_string_lossy()).unwrap_err().to_string();
    assert!(error.contains("a quantisation that is not known") && error.contains("Q4_K_M"), "{error}");
    Ok(())
}
