//! Cases on CLIP's two towers.

use pellucid::model::text::Text;
use pellucid::prelude::*;

use super::Fallible;
use super::attention;
use super::case::Run;
use super::kinds::Got;
use super::value::Value;

/// The case's texts, whose ids must be those it lists.
pub fn prompts(run: &Run, clip: &Clip) -> Fallible<Prompts> {
    let texts = run.input("texts")?;
    let padded = padded(run, clip)?;
    let rows = |of: fn(&Text) -> Vec<u32>| -> Vec<u32> { padded.iter().flat_map(of).collect() };
    for (name, ours) in [("input_ids", rows(Text::ids)), ("attention_mask", rows(seen))] {
        let theirs = run.input(name)?.ids()?;
        if theirs != ours {
            return Err(format!("{name}: {ours:?}, and the case has {theirs:?}").into());
        }
    }
    Ok(clip.prompts(texts.words()?)?)
}

/// The texts, all as long as the longest.
fn padded(run: &Run, clip: &Clip) -> Fallible<Vec<Text>> {
    let texts = run.input("texts")?;
    let texts: Vec<Text> = texts.words()?.iter().map(|text| clip.read_text(text)).collect::<Result<_>>()?;
    let longest = texts.iter().map(Text::len).max().ok_or("no texts")?;
    Ok(texts.into_iter().map(|text| clip.pad_text(text, longest)).collect::<Result<_>>()?)
}

fn seen(text: &Text) -> Vec<u32> {
    text.mask().map_or(vec![1; text.len()], |mask| mask.iter().map(|&seen| u32::from(seen)).collect())
}

/// Similarities, vectors and attention patterns of both towers.
pub fn forward(run: &Run) -> Fallible<Got> {
    let (clip, picture) = (run.clip()?, run.picture()?);
    let prompts = prompts(run, &clip)?;
    let x = clip.pixels(&picture)?;
    let logits = clip.logits(&prompts, &x.unsqueeze(0)?)?.squeeze(0)?;
    let image = clip.image_features(&x.unsqueeze(0)?)?.squeeze(0)?;
    let cosine = prompts.features().matmul(&image.unsqueeze(1)?)?.squeeze(1)?;
    let padded = padded(run, &clip)?;
    let by_padded = padded.iter().map(|text| clip.text_features(text, &clip.embed(text)?.unsqueeze(0)?));
    let by_padded = Tensor::cat(&by_padded.collect::<Result<Vec<_>>>()?, 0)?;
    let by_text = padded.iter().map(|text| Ok(Tensor::cat(&clip.text_attention(text)?, 0)?));
    let by_layer = Tensor::stack(&by_text.collect::<Result<Vec<_>>>()?, 1)?;
    let mut got: Got = attention::fields(&clip.attention(&picture)?)?
        .into_iter()
        .map(|(name, value)| (format!("vision_{name}"), value))
        .collect();
    for (name, value) in [
        ("pixel_values", &clip.patches().processor().normalise(&x)?),
        ("logits_per_image", &logits),
        ("cosine", &cosine),
        ("text_embeds", prompts.features()),
        ("text_embeds, padded", &by_padded),
        ("image_embeds", &image),
        ("text_attentions", &by_layer),
    ] {
        got.insert(name.into(), Value::of(value)?);
    }
    Ok(got)
}
