//! Visual tokens put into a prompt from outside: how logits are a function of several pictures, or of patches.

use std::ops::Range;

use pellucid::prelude::*;

/// The embeddings of a prompt, and where its pictures are.
pub struct Splice {
    words: Tensor,
    places: Vec<Range<usize>>,
}

impl Splice {
    /// From the prompt of a picture, and those that explain the others in it.
    pub fn new(vlm: &Vlm, prompts: &[VisualPrompt]) -> Result<Self> {
        let words = vlm.embed(&prompts[0], &prompts[0].pixels()?.unsqueeze(0)?)?.squeeze(0)?;
        Ok(Self { words, places: prompts.iter().map(VisualPrompt::visual).collect() })
    }

    /// Visual tokens `(n,s,c)` of every picture → embeddings `(n,t,c)` of the prompt with these in it.
    pub fn with(&self, seen: &[Tensor]) -> Result<Tensor> {
        let (mut parts, mut from) = (vec![], 0);
        for (place, seen) in self.places.iter().zip(seen) {
            parts.extend([self.words(from..place.start, seen.dim(0)?)?, seen.clone()]);
            from = place.end;
        }
        if let Some(seen) = seen.last() {
            parts.push(self.words(from..self.words.dim(0)?, seen.dim(0)?)?);
        }
        Ok(Tensor::cat(&parts, 1)?)
    }

    /// Some of the words, n times.
    fn words(&self, tokens: Range<usize>, n: usize) -> Result<Tensor> {
        let words = self.words.narrow(0, tokens.start, tokens.len())?;
        Ok(words.unsqueeze(0)?.broadcast_as((n, tokens.len(), self.words.dim(1)?))?.contiguous()?)
    }
}
