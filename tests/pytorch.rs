//! Weights in PyTorch's own files are the same weights, and what cannot be read is told apart.

use std::fs;
use std::path::{Path, PathBuf};

use pellucid::prelude::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch").join(name)
}

/// The model's folder with the weights of another.
fn with_weights(weights: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for name in ["config.json", "vocab.txt"] {
        fs::copy(fixture("model").join(name), folder.path().join(name))?;
    }
    for file in fs::read_dir(fixture(weights))? {
        let file = file?;
        fs::copy(file.path(), folder.path().join(file.file_name()))?;
    }
    Ok(folder)
}

fn logits(folder: &Path, load: &Load) -> Result<Vec<f64>> {
    let bert = Bert::load_with(&folder.to_string_lossy(), load)?;
    let text = bert.read("a red star")?;
    let logits = bert.logits(&text, &bert.embed(&text)?.unsqueeze(0)?)?;
    Ok(logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn refusal(folder: &Path) -> String {
    logits(folder, &Load::default()).map_or_else(|error| error.to_string(), |logits| format!("no error: {logits:?}"))
}

#[test]
fn every_way_of_saving_gives_the_same_model_to_the_last_bit() -> Result<()> {
    for load in [Load::default(), Load::f64(), Load::shuffled(3)] {
        let expected = logits(&fixture("model"), &load)?;
        for weights in ["single", "shards", "wrapped"] {
            assert_eq!(logits(with_weights(weights)?.path(), &load)?, expected, "{weights}, {load:?}");
        }
    }
    let shuffled = logits(with_weights("single")?.path(), &Load::shuffled(3))?;
    assert_ne!(shuffled, logits(&fixture("model"), &Load::default())?);
    Ok(())
}

#[test]
fn safetensors_come_first_and_one_file_before_shards() -> Result<()> {
    let expected = logits(&fixture("model"), &Load::default())?;
    let folder = with_weights("model")?;
    fs::write(folder.path().join("pytorch_model.bin"), "nobody looks here")?;
    assert_eq!(logits(folder.path(), &Load::default())?, expected);
    let folder = with_weights("single")?;
    fs::write(folder.path().join("pytorch_model.bin.index.json"), "nor here")?;
    assert_eq!(logits(folder.path(), &Load::default())?, expected);
    Ok(())
}

#[test]
fn what_cannot_be_read_is_named_with_what_to_do() -> Result<()> {
    let cases: [(&str, &[&str]); 3] = [
        ("before_1_6", &["pytorch_model.bin", "before 1.6", "torch.save(torch.load("]),
        ("every_other", &["pytorch_model.bin", "word_embeddings.weight", "[8, 2]", ".contiguous()"]),
        ("nameless", &["pytorch_model.bin", "no tensors by name", "state_dict()"]),
    ];
    for (weights, says) in cases {
        let said = refusal(with_weights(weights)?.path());
        assert!(says.iter().all(|part| said.contains(part)), "{weights}: {said}");
    }
    Ok(())
}

#[test]
fn a_broken_file_or_a_lost_shard_is_named() -> Result<()> {
    let folder = with_weights("shards")?;
    let second = folder.path().join("pytorch_model-00002-of-00002.bin");
    let whole = fs::read(&second)?;
    for (bytes, says) in [(&whole[..3000], "truncated"), (b"", "truncated"), (b"<html>", "another format")] {
        fs::write(&second, bytes)?;
        let said = refusal(folder.path());
        assert!(said.contains("pytorch_model-00002-of-00002.bin") && said.contains(says), "{said}");
    }
    fs::remove_file(&second)?;
    let said = refusal(folder.path());
    assert!(
        said.contains("pytorch_model-00002-of-00002.bin") && said.contains("index.json lists this shard"),
        "{said}"
    );
    Ok(())
}
