//! A prompt with pictures, as one function of all their pixels.

use pellucid::prelude::*;

use super::super::Fallible;
use super::super::splice::Splice;

/// A prompt as it explains each of its pictures.
pub struct Sights {
    pub vlm: Vlm,
    pub prompts: Vec<VisualPrompt>,
    /// All their pixels, `(k,3,h,w)`, rounded as the file has them: a prompt's own are a byte's 255ths in full precision.
    pub x: Tensor,
    splice: Splice,
}

impl Sights {
    /// A text with a slot for each picture of `(k,3,h,w)`.
    pub fn new(vlm: Vlm, text: &str, x: Tensor) -> Fallible<Self> {
        let pictures = (0..x.dim(0)?).map(|i| Image::from_pixels(&x.get(i)?)).collect::<Result<Vec<_>>>()?;
        let prompt = vlm.read(text, &pictures)?;
        let prompts = (0..pictures.len()).map(|i| prompt.explaining(i)).collect::<Result<Vec<_>>>()?;
        let splice = Splice::new(&vlm, &prompts)?;
        Ok(Self { vlm, prompts, x, splice })
    }

    /// The pixels of the prompt's own pictures, `(k,3,h,w)`.
    pub fn pixels(&self) -> Result<Tensor> {
        let each = self.prompts.iter().map(VisualPrompt::pixels).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&each, 0)?)
    }

    /// The visual tokens of each, from pixels `(n,k,3,h,w)`: `k × (n,s,c)`.
    pub fn see(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let see = |(i, prompt)| self.vlm.see(prompt, &x.narrow(1, i, 1)?.squeeze(1)?.contiguous()?);
        self.prompts.iter().enumerate().map(see).collect()
    }

    /// Embeddings of the whole prompt, `(n,t,c)`.
    pub fn embed(&self, x: &Tensor) -> Result<Tensor> {
        self.splice.with(&self.see(x)?)
    }

    /// The next token's logits from all pictures at once, `(n,v)`.
    pub fn logits_together(&self, x: &Tensor) -> Result<Tensor> {
        self.vlm.logits_from(&self.prompts[0], &self.embed(x)?)
    }

    /// The same in the shortest way.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match self.prompts.as_slice() {
            [one] => self.vlm.logits(one, &x.squeeze(1)?),
            _ => self.logits_together(x),
        }
    }

    /// The target's gradient at each picture while the others stay, `(k,3,h,w)`.
    pub fn gradients_alone(&self, target: Target) -> Result<Tensor> {
        let of = |(i, prompt)| grad_at(|x| target.of(&self.vlm.logits(prompt, x)?), &self.x.narrow(0, i, 1)?);
        Ok(Tensor::cat(&self.prompts.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?, 0)?)
    }
}
