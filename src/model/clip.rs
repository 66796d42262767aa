//! CLIP: pictures and texts as vectors of one space, whose cosine says how well they go together.
//!
//! Radford et al. 2021, arXiv 2103.00020, figure 3.

mod config;

use std::sync::Arc;

use candle_core::{Device, Tensor};

use self::config::{Config, HUGGING_FACE, Layout, OPEN_CLIP, Tower};
use super::blocks::{Chain, Linear, Stage, UnitLength};
use super::checkpoint::{Checkpoint, Load};
use super::embedding::{Baseline, Embedding};
use super::encoder::{Encoder, Form};
use super::hook::{Clear, Hook, Site};
use super::image::Image;
use super::labels::Labels;
use super::patches::{Patches, Vision, places};
use super::presence::shortened;
use super::rules::Rules;
use super::text::{Text, Tokenizer, fit};
use super::weights::Weights;
use crate::{Error, Result};

/// A CLIP of any size, in Hugging Face's layout or in OpenAI's, which open_clip keeps.
///
/// Cheap to clone. How well pictures and prompts go together, [`logits`](Self::logits), is a function of pixels, and
/// [`logits_of_text`](Self::logits_of_text) the same of the words of a prompt.
///
/// ```
/// # use pellucid::prelude::*;
/// let clip = Clip::load("pellucid/tiny-clip-shapes")?;
/// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// let prompts = clip.prompts(&["a red star", "a blue star", "a red circle"])?;
/// let (prompt, probability) = &clip.predict(&prompts, &scene.image()?)?[0];
/// assert!(prompt == "a red star" && *probability > 0.5);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct Clip(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    name: String,
    patches: Patches,
    image: Encoder,
    image_head: Chain,
    tokenizer: Tokenizer,
    words: Embedding,
    /// `(p,c)`, one for each place a token can have.
    positions: Tensor,
    text: Encoder,
    text_head: Chain,
    /// eˢ, by which cosines are multiplied.
    scale: Tensor,
}

/// Texts to hold against pictures, read and encoded once.
///
/// ```
/// # use pellucid::prelude::*;
/// let clip = Clip::load("pellucid/tiny-clip-shapes")?;
/// let prompts = clip.prompts(&["a red star", "a blue star"])?;
/// assert_eq!(prompts.labels(), ["a red star", "a blue star"]);
/// let lengths = prompts.features().sqr()?.sum(1)?.to_vec1::<f32>()?;
/// assert!(lengths.iter().all(|length| (length - 1.0).abs() < 1e-5));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Prompts {
    texts: Vec<Text>,
    /// `(m,d)`, of length one.
    features: Tensor,
}

impl Prompts {
    /// The texts, in order.
    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// Their vectors `(m,d)`, of length one.
    pub fn features(&self) -> &Tensor {
        &self.features
    }

    /// What they say, by number: as labels of targets and figures.
    pub fn labels(&self) -> Vec<String> {
        self.texts.iter().map(|text| text.source().to_string()).collect()
    }
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([rows, columns], side) = (self.0.patches.grid(), self.0.patches.side());
        write!(f, "{}: CLIP, {} layers for pictures of {rows} × {columns} patches ", self.0.name, self.layers())?;
        write!(f, "of {side} × {side} pixels, {} layers for texts of {} tokens", self.text_layers(), self.positions())
    }
}

impl Vision for Clip {
    fn patches(&self) -> &Patches {
        &self.0.patches
    }
}

impl Clip {
    /// An embedded model (`"pellucid/tiny-clip-shapes"`), a folder, or a hub id (`"laion/CLIP-ViT-B-32-laion2B-s34B-b79K"`,
    /// `"timm/vit_base_patch32_clip_224.openai"`).
    ///
    /// Errors: see [`Checkpoint::open`]; another architecture; files that are missing, broken or do not fit together.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// assert_eq!(clip.patches().size(), [64, 64]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load(source: &str) -> Result<Self> {
        Self::load_with(source, &Load::default())
    }

    /// The same at another revision or precision, or on another device.
    ///
    /// [`Load::shuffled_from`] counts the blocks of the image tower and shuffles nothing but that: the towers of many a CLIP are of
    /// different depths. [`Load::shuffled`] shuffles both.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let clip = Clip::load_with("pellucid/tiny-clip-shapes", &Load::f64())?;
    /// assert_eq!(clip.prompts(&["a red star"])?.features().dtype(), DType::F64);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load_with(source: &str, load: &Load) -> Result<Self> {
        let checkpoint = Checkpoint::open(source, load)?;
        let config = Config::of(&checkpoint)?;
        let layout = if config.open_clip { &OPEN_CLIP } else { &HUGGING_FACE };
        let weights = checkpoint.weights_in(if config.open_clip {
            "open_clip_model.safetensors"
        } else {
            "model.safetensors"
        })?;
        let tokenizer = checkpoint.tokenizer()?;
        let parts = parts(source, tokenizer, &weights, layout, config).map_err(|error| checkpoint.at_fault(error))?;
        Ok(Self(Arc::new(parts)))
    }

    /// The same model, walked back by other rules: what it says stays the same, and every method of this crate explains it by
    /// them. Cheap: weights are shared.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let x = clip.pixels(&Scene::empty(1).image()?)?.unsqueeze(0)?;
    /// let gap = (clip.under(Rules::libragrad()).image_features(&x)? - clip.image_features(&x)?)?.abs()?.max_all()?;
    /// assert_eq!(gap.to_scalar::<f32>()?, 0.0);    // the values stay
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn under(&self, rules: Rules) -> Self {
        Self(Arc::new(Parts {
            image: self.0.image.under(rules),
            image_head: self.0.image_head.under(rules),
            text: self.0.text.under(rules),
            text_head: self.0.text_head.under(rules),
            ..(*self.0).clone()
        }))
    }

    /// How many blocks the image tower has.
    pub fn layers(&self) -> usize {
        self.0.image.layers()
    }

    /// How many blocks the text tower has.
    pub fn text_layers(&self) -> usize {
        self.0.text.layers()
    }

    /// How many tokens a text may have, those at its ends included.
    pub fn positions(&self) -> usize {
        self.0.positions.dims()[0]
    }

    /// The text tower's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// A text as the model reads it.
    ///
    /// Errors: not UTF-8; empty; longer than the model's positions.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let text = clip.read_text("a red star")?;
    /// assert_eq!(text.len(), 5);    // with the marks at its ends
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn read_text(&self, text: impl AsRef<[u8]>) -> Result<Text> {
        let text = self.0.tokenizer.read(text)?;
        fit(text.len(), self.positions())?;
        Ok(text)
    }

    /// The text with its end repeated up to `len` tokens, which nothing attends to.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let text = clip.read_text("a red star")?;
    /// let padded = clip.pad_text(text.clone(), 8)?;
    /// let of = |text: &Text| -> Result<Tensor> { clip.text_features(text, &clip.embed(text)?.unsqueeze(0)?) };
    /// assert!((of(&padded)? - of(&text)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn pad_text(&self, text: Text, len: usize) -> Result<Text> {
        fit(len, self.positions())?;
        match text.tokens().last().cloned() {
            Some(end) => Ok(text.padded(len, end)),
            None => Err(Error::EmptyText),
        }
    }

    /// Texts to hold against pictures.
    ///
    /// Errors: none given; those of [`read_text`](Self::read_text).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let prompts = clip.prompts(&["a red star", "a blue star"])?;
    /// assert_eq!(prompts.texts().len(), 2);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn prompts(&self, texts: &[impl AsRef<[u8]>]) -> Result<Prompts> {
        let texts = texts.iter().map(|text| self.read_text(text)).collect::<Result<Vec<_>>>()?;
        if texts.is_empty() {
            return Err(Error::argument("there are no prompts to hold against a picture"));
        }
        let features = texts.iter().map(|text| self.text_features(text, &self.embed(text)?.unsqueeze(0)?));
        Ok(Prompts { features: Tensor::cat(&features.collect::<Result<Vec<_>>>()?, 0)?, texts })
    }

    /// Word embeddings of a text, `(t,c)`. Positions are added by the forward.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let text = clip.read_text("a red star")?;
    /// assert_eq!(clip.embed(&text)?.dim(0)?, text.len());    // (t,c)
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn embed(&self, text: &Text) -> Result<Tensor> {
        self.0.words.rows(&text.ids())
    }

    /// The baseline's word embeddings for a text, `(t,c)`.
    ///
    /// Errors: a token the vocabulary does not have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let text = clip.read_text("a red star")?;
    /// let mean = clip.baseline(&text, &Baseline::mean())?;
    /// assert_eq!(mean.i(1)?.to_vec1::<f32>()?, mean.i(2)?.to_vec1::<f32>()?);    // words alike, ends as they were
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn baseline(&self, text: &Text, baseline: &Baseline) -> Result<Tensor> {
        self.0.words.baseline(text, baseline, &self.0.tokenizer)
    }

    /// Pixels `(n,3,h,w)` between 0 and 1 → vectors of length one, `(n,d)`.
    ///
    /// Errors: x has the wrong shape.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let of = |scene: Scene| -> Result<Tensor> { clip.image_features(&clip.pixels(&scene.image()?)?.unsqueeze(0)?) };
    /// let star = of(Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?)?;    // (1,d), of length one
    /// let cosine = star.matmul(&star.t()?)?.squeeze(0)?.to_vec1::<f32>()?[0];
    /// assert!((cosine - 1.0).abs() < 1e-5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn image_features(&self, x: &Tensor) -> Result<Tensor> {
        let class = self.0.image.forward_at(&self.0.patches.embed(x)?, None, 0..1)?;
        features(&self.0.image_head, &class, &mut Clear)
    }

    /// The same for every token to the end, with a hook at the named places of the image tower.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let x = clip.pixels(&Scene::empty(1).image()?)?.unsqueeze(0)?;
    /// let mut record = Record::new(&[Site::Pattern(0)]);
    /// clip.image_features_hooked(&x, &mut record)?;
    /// let tokens = clip.patches().ahead() + clip.patches().count();
    /// assert_eq!(record.get(Site::Pattern(0))?.dims()[2..], [tokens, tokens]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn image_features_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let tokens = self.0.image.forward(&self.0.patches.embed(x)?, None, hook)?;
        features(&self.0.image_head, &tokens.narrow(1, 0, 1)?, hook)
    }

    /// Word embeddings `(n,t,c)` of n variants of a text → vectors of length one, `(n,d)`: the text is read off its end.
    ///
    /// Errors: x is not `(n,t,c)` with the text's t.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let text = clip.read_text("a red star")?;
    /// let features = clip.text_features(&text, &clip.embed(&text)?.unsqueeze(0)?)?;
    /// let gap = (features - clip.prompts(&["a red star"])?.features())?.abs()?.max_all()?;
    /// assert!(gap.to_scalar::<f32>()? < 1e-6);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn text_features(&self, text: &Text, x: &Tensor) -> Result<Tensor> {
        let end = last_seen(text);
        let end = self.0.text.forward_at(&self.placed(text, x)?, text.mask(), end..end + 1)?;
        features(&self.0.text_head, &end, &mut Clear)
    }

    /// Word embeddings plus those of their positions, `(n,t,c)`.
    fn placed(&self, text: &Text, x: &Tensor) -> Result<Tensor> {
        let (t, c) = (text.len(), self.0.positions.dims()[1]);
        if x.rank() != 3 || x.dims()[1..] != [t, c] {
            return Err(Error::shape("the embeddings", format!("(n, {t}, {c})"), x.dims()));
        }
        Ok(x.broadcast_add(&self.0.positions.narrow(0, 0, t)?)?)
    }

    /// Pixels `(n,3,h,w)` between 0 and 1, m prompts → `(n,m)`: eˢ·cos, how well each picture and each prompt go together.
    ///
    /// Errors: x has the wrong shape.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
    /// let prompts = clip.prompts(&["a blue circle", "a red star"])?;
    /// let logits = clip.logits(&prompts, &clip.pixels(&scene.image()?)?.unsqueeze(0)?)?;    // (1,m)
    /// assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [1]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits(&self, prompts: &Prompts, x: &Tensor) -> Result<Tensor> {
        self.against(&self.image_features(x)?, &prompts.features)
    }

    /// The same, with a hook at the named places of the image tower.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
    /// let (x, star) = (clip.pixels(&scene.image()?)?.unsqueeze(0)?, clip.prompts(&["a red star"])?);
    /// let f = |hook: &mut dyn Hook| Target::Logit(0).of(&clip.logits_hooked(&star, &x, hook)?);
    /// assert_eq!(attention_gradients(f, clip.layers())?.patterns.len(), clip.layers());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_hooked(&self, prompts: &Prompts, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        self.against(&self.image_features_hooked(x, hook)?, &prompts.features)
    }

    /// The pixels `(3,h,w)` of one picture, which of its patches are present, `(n,t)` of ones and zeros, m prompts → `(n,m)`,
    /// eˢ·cos.
    ///
    /// A patch that is not present is dropped from the sequence after positions are added, as
    /// [`Vit::logits_with`](super::Vit::logits_with) does. The class token always stays.
    ///
    /// Errors: shapes that differ from these.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
    /// let (x, star) = (clip.pixels(&scene.image()?)?, clip.prompts(&["a red star"])?);
    /// let all = Tensor::ones((1, clip.patches().count()), DType::F64, &Device::Cpu)?;
    /// let fits = |present: &Tensor| -> Result<f32> { Ok(clip.logits_with(&star, &x, present)?.i((0, 0))?.to_scalar()?) };
    /// assert!(fits(&all)? > fits(&all.zeros_like()?)?);    // nothing is no red star
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_with(&self, prompts: &Prompts, x: &Tensor, present: &Tensor) -> Result<Tensor> {
        let (tokens, kept) = self.0.patches.variants(x, present)?;
        shortened(&tokens, &kept, &|tokens| {
            let class = self.0.image.forward_at(tokens, None, 0..1)?;
            self.against(&features(&self.0.image_head, &class, &mut Clear)?, &prompts.features)
        })
    }

    /// Word embeddings `(n,t,c)` of n variants of a text, a picture of the model's size → `(n,1)`: eˢ·cos, how well they go
    /// together.
    ///
    /// Errors: x is not `(n,t,c)` with the text's t; a picture of another size.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let picture = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?.image()?;
    /// let text = clip.read_text("a red star")?;
    /// let f = |x: &Tensor| clip.logits_of_text(&picture, &text, x);
    /// let (x, mean) = (clip.embed(&text)?, clip.baseline(&text, &Baseline::mean())?);
    /// let why = integrated_gradients(|x| Ok(f(x)?.squeeze(1)?), &x, &mean, &Steps::default())?.over(&text)?;
    /// assert!(why.completeness.unwrap().relative_gap < 1e-2);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_of_text(&self, picture: &Image, text: &Text, x: &Tensor) -> Result<Tensor> {
        let picture = self.image_features(&self.pixels(picture)?.unsqueeze(0)?)?.detach();
        self.against(&self.text_features(text, x)?, &picture)
    }

    /// `(n,d), (m,d) → (n,m)`, scaled cosines.
    fn against(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(a.matmul(&b.t()?)?.broadcast_mul(&self.0.scale)?)
    }

    /// Prompts and the probability that each, of these, is the picture's, most probable first.
    ///
    /// Errors: a picture of another size.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let picture = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?.image()?;
    /// let said = clip.predict(&clip.prompts(&["a red star", "a blue circle"])?, &picture)?;
    /// assert_eq!(said[0].0, "a red star");
    /// assert!((said[0].1 + said[1].1 - 1.0).abs() < 1e-6);    // of these prompts alone
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn predict(&self, prompts: &Prompts, picture: &Image) -> Result<Vec<(String, f64)>> {
        let logits = self.logits(prompts, &self.pixels(picture)?.unsqueeze(0)?)?;
        Labels::of(prompts.labels()).ranked(&logits)
    }

    /// Every layer's attention pattern of the image tower, `L × (1,h,t,t)`; the first token is the class token.
    ///
    /// Errors: a picture of another size.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let patterns = clip.attention(&Scene::empty(1).image()?)?;
    /// let rolled = rollout_row(&patterns, &clip.readout()?, &Rollout::default())?.squeeze(0)?;
    /// assert_eq!(clip.on_grid(&rolled)?.dims(), clip.patches().grid());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attention(&self, picture: &Image) -> Result<Vec<Tensor>> {
        self.0.image.attention(&self.0.patches.embed(&self.pixels(picture)?.unsqueeze(0)?)?, None)
    }

    /// `(t,)`: how much of each token of the image tower's last layer is read: all of the class token.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// assert_eq!(clip.readout()?.i(0)?.to_scalar::<f64>()?, 1.0);    // the class token
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn readout(&self) -> Result<Tensor> {
        let tokens = self.0.patches.ahead() + self.0.patches.count();
        let weights = (0..tokens).map(|token| f64::from(u8::from(token == 0)));
        Ok(Tensor::from_iter(weights, &Device::Cpu)?)
    }

    /// Every layer's attention pattern of the text tower, `L × (1,h,t,t)`, causal.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    /// let patterns = clip.text_attention(&clip.read_text("a red star")?)?;
    /// assert_eq!(patterns[0].i((0, 0, 0, 1))?.to_scalar::<f32>()?, 0.0);    // nothing looks ahead
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn text_attention(&self, text: &Text) -> Result<Vec<Tensor>> {
        self.0.text.attention(&self.placed(text, &self.embed(text)?.unsqueeze(0)?)?, text.mask())
    }
}

/// The last token that is no padding: where a text's vector is read.
fn last_seen(text: &Text) -> usize {
    text.mask().and_then(|mask| mask.iter().rposition(|&seen| seen)).unwrap_or(text.len() - 1)
}

/// `(n,1,c) → (n,d)`: projected, and divided by its length.
fn features(head: &Chain, token: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
    Ok(head.forward(token, None, hook)?.squeeze(1)?)
}

fn parts(name: &str, tokenizer: Tokenizer, weights: &Weights, layout: &Layout, config: Config) -> Result<Parts> {
    weights.only("", &layout.all())?;
    let (seen, read, uncounted) = (&config.image, &config.text, &weights.uncounted());
    let lead = vec![Stage::LayerNorm(weights.layer_norm(layout.norm_before, seen.channels, seen.eps)?)];
    let class = weights.whole(layout.class)?.map(|class| class.reshape((1, ()))).transpose()?;
    let projection = [weights.whole(&format!("{}.weight", layout.projection))?, None];
    let positions = uncounted.get((config.positions, read.channels), layout.text_positions)?;
    let positions_of_patches = places(weights, layout.image_positions)?;
    Ok(Parts {
        name: name.into(),
        patches: Patches::new(config.processor, config.size, projection, class, Some(positions_of_patches))?,
        image: Encoder::load(weights, &layout.image, &form(seen, false), lead)?,
        image_head: head(weights, layout, layout.image_norm, layout.image_projection, seen)?,
        words: uncounted.embedding_of(layout.words, read.channels)?,
        text: Encoder::load(uncounted, &layout.text, &form(read, true), vec![])?,
        text_head: head(uncounted, layout, layout.text_norm, layout.text_projection, read)?,
        scale: uncounted.get((), "logit_scale")?.exp()?,
        positions,
        tokenizer,
    })
}

fn form(tower: &Tower, causal: bool) -> Form {
    let Tower { layers, heads, eps, activation, .. } = *tower;
    Form { layers: Some(layers), heads, eps, activation, causal, rope: None, grid: [0, 0] }
}

/// A norm, a projection to the common space, and a length of one; OpenAI's layout stores the projection as `(c,d)`, Hugging Face's as `(d,c)`.
fn head(weights: &Weights, layout: &Layout, norm: &str, projection: &str, tower: &Tower) -> Result<Chain> {
    let missing = || Error::argument(format!("there is no tensor `{projection}`"));
    let weight = weights.whole(projection)?.ok_or_else(missing)?;
    let weight = if layout.projects_from_the_right { weight.t()? } else { weight };
    Ok(Chain::new(vec![
        Stage::At(Site::HeadBias),
        Stage::LayerNorm(weights.layer_norm(norm, tower.channels, tower.eps)?),
        Stage::Linear(Linear::new(weight, None)?),
        Stage::UnitLength(UnitLength),
    ]))
}
