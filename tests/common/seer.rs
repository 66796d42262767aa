//! A model that sees, of any family.

use pellucid::prelude::*;

/// A ViT, a Mixer, or a CLIP with the prompts that it needs.
pub enum Seer {
    Vit(Vit),
    Mixer(Mixer),
    Clip(Clip, Prompts),
}

impl Seer {
    /// What all of them have in common.
    pub fn vision(&self) -> &dyn Vision {
        match self {
            Self::Vit(vit) => vit,
            Self::Mixer(mixer) => mixer,
            Self::Clip(clip, _) => clip,
        }
    }

    /// Pixels `(n,3,h,w)` → logits of classes, or of prompts, `(n,v)`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Vit(vit) => vit.logits(x),
            Self::Mixer(mixer) => mixer.logits(x),
            Self::Clip(clip, prompts) => clip.logits(prompts, x),
        }
    }
}
