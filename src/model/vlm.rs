//! Vision-language models: a picture's visual tokens stand in a text, and a language model reads on.
//!
//! Qwen-VL (Bai et al. 2023, arXiv 2308.12966), Qwen2-VL (Wang et al. 2024, arXiv 2409.12191) and Qwen2.5-VL (Bai et al. 2025,
//! arXiv 2502.13923). From raw pixels to the logit of an answer's token it is one differentiable function.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};

use super::blocks::Stage;
use super::chat::Message;
use super::checkpoint::{Checkpoint, Load};
use super::decoder::{CausalLm, Config, LLAMA, Past, Places, QWEN, Sampling};
use super::embedding::Baseline;
use super::hook::{Hook, Record, Site};
use super::image::Image;
use super::processor::Processor;
use super::qwen_vl::QwenEyes;
use super::qwen2_vl::Qwen2Eyes;
use super::rules::Rules;
use super::text::{Continuation, Text, Tokenizer};
use super::visual_prompt::{Surroundings, VisualPrompt};
use crate::{Error, Result};

/// A vision-language model of any size: Qwen-VL, Qwen2-VL or Qwen2.5-VL.
///
/// Cheap to clone. A forward takes raw pixels `(n,3,h,w)` between 0 and 1, so that they can be interpolated, ablated and
/// differentiated; normalisation, patches and the language model are inside. What stands before the picture is computed once.
///
/// ```
/// # use pellucid::prelude::*;
/// let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
/// let scene = Scene::empty(1)
///     .with(Shape::Square, Colour::Red, 18.0, 20.0, 10.0)?
///     .with(Shape::Star, Colour::Blue, 46.0, 40.0, 12.0)?;
/// let prompt = vlm.ask("What colour is the square?", &scene.image()?)?;
/// assert_eq!(vlm.generate(&prompt, &Sampling::greedy(8))?.text(), "red");
///
/// let red = Target::Logit(vlm.tokenizer().id("red")? as usize);
/// let (x, f) = (prompt.pixels()?, |x: &Tensor| red.of(&vlm.logits(&prompt, x)?));
/// let why = integrated_gradients(f, &x, &x.zeros_like()?, &Steps::gauss_legendre(8))?.over_pixels()?;
/// assert_eq!(why.scores.len(), 64 * 64);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct Vlm(Arc<Parts>);

struct Parts {
    /// No other model has it; a prompt knows by it who read it.
    number: usize,
    llm: CausalLm,
    eyes: Box<dyn Eyes>,
    dtype: DType,
    device: Device,
}

/// What families of vision-language models do each in their way.
pub(super) trait Eyes: Send + Sync {
    /// How pictures are brought to the model's size and colours.
    fn processor(&self) -> &Processor;

    /// Rows and columns of the visual tokens of a picture of this height and width.
    fn grid(&self, size: [usize; 2]) -> [usize; 2];

    /// Pixels `(n,3,h,w)` → patches `(n,t,·)`.
    fn cut(&self, pixels: &Tensor) -> Result<Tensor>;

    /// Patches `(n,t,·)` → pixels `(n,3,h,w)` of this height and width; where a pixel is in several, their sum.
    fn put_together(&self, patches: &Tensor, size: [usize; 2]) -> Result<Tensor>;

    /// Patches `(n,t,·)` of a picture of this height and width → visual tokens `(n,s,c)`, differentiable.
    fn see_patches(&self, patches: &Tensor, size: [usize; 2]) -> Result<Tensor>;

    /// Pixels `(n,3,h,w)` between 0 and 1 → visual tokens `(n,s,c)`, differentiable.
    fn see(&self, pixels: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = pixels.dims4()?;
        self.see_patches(&self.cut(pixels)?, [height, width])
    }

    /// The same, walked back by these rules.
    fn under(&self, rules: Rules) -> Box<dyn Eyes>;

    /// How a text says that a picture stands there.
    fn slot(&self) -> Slot;

    /// How a question is put to a model that was not trained to converse, if there is a way.
    fn without_template(&self, _: &str) -> Option<String> {
        None
    }

    /// What a user says who shows a picture and asks something about it.
    fn question(&self, question: &str) -> String {
        let Slot { open, pad, close, .. } = self.slot();
        format!("{open}{pad}{close}{question}")
    }

    /// Where the tokens of a prompt stand, pictures being at these tokens.
    fn places(&self, tokens: usize, pictures: &[(Range<usize>, [usize; 2])]) -> Places;
}

/// Tokens that stand for a picture in a text: where it begins, each visual token, where it ends.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub open: &'static str,
    pub pad: &'static str,
    pub close: &'static str,
    /// Whether a picture's name may stand there.
    pub named: bool,
}

impl std::fmt::Debug for Vlm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, which sees", self.0.llm)
    }
}

impl Vlm {
    /// An embedded model (`"pellucid/tiny-vlm-shapes"`), a folder, or a hub id (`"Qwen/Qwen2-VL-2B-Instruct"`,
    /// `"Qwen/Qwen2.5-VL-3B-Instruct"`, `"Qwen/Qwen-VL-Chat"`).
    ///
    /// Errors: see [`Checkpoint::open`]; another architecture; files that are missing, broken or do not fit together.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// assert_eq!(vlm.llm().layers(), 4);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load(source: &str) -> Result<Self> {
        Self::load_with(source, &Load::default())
    }

    /// The same at another revision or precision, or on another device.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let few = Load { most_pixels: Some(32 * 32), ..Load::default() };    // of every picture
    /// let vlm = Vlm::load_with("pellucid/tiny-vlm-shapes", &few)?;
    /// let prompt = vlm.ask("What is in the image?", &pellucid::zoo::photo("cat")?)?;
    /// assert!(prompt.picture().height() * prompt.picture().width() <= 32 * 32);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load_with(source: &str, load: &Load) -> Result<Self> {
        if load.shuffled.is_some_and(|shuffle| shuffle.from.is_some()) {
            return Err(Error::argument("a model with two stacks of blocks is shuffled whole: use `Load::shuffled`"));
        }
        let checkpoint = Checkpoint::open(source, load)?;
        let known = "vision-language models of the kinds `qwen` (with a `visual` part), `qwen2_vl` and `qwen2_5_vl`";
        let kind = checkpoint.kind(&["qwen", "qwen2_vl", "qwen2_5_vl"], known)?;
        let (eyes, names): (Box<dyn Eyes>, _) = match kind.as_str() {
            "qwen" => (Box::new(QwenEyes::load(&checkpoint).map_err(|error| checkpoint.at_fault(error))?), &QWEN),
            _ => (Box::new(Qwen2Eyes::load(&checkpoint).map_err(|error| checkpoint.at_fault(error))?), &LLAMA),
        };
        let config = Config::of(&checkpoint)?;
        let config = if kind == "qwen" { config } else { config.seeing() };
        let (llm, number) = (CausalLm::of(&checkpoint, kind, config, names)?, NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(Self(Arc::new(Parts { number, llm, eyes, dtype: load.dtype, device: checkpoint.device().clone() })))
    }

    /// The same model, walked back by other rules: what it says stays the same, and every method of this crate explains it by
    /// them. Cheap: weights are shared.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let x = prompt.pixels()?.unsqueeze(0)?;
    /// let gap = (vlm.under(Rules::libragrad()).logits(&prompt, &x)? - vlm.logits(&prompt, &x)?)?.abs()?.max_all()?;
    /// assert_eq!(gap.to_scalar::<f32>()?, 0.0);    // the values stay
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn under(&self, rules: Rules) -> Self {
        let Parts { number, llm, eyes, dtype, device } = &*self.0;
        let (llm, eyes, device) = (llm.under(rules), eyes.under(rules), device.clone());
        Self(Arc::new(Parts { number: *number, llm, eyes, dtype: *dtype, device }))
    }

    /// A picture and a question about it, as the model was trained to be asked; the picture is resized as its checkpoint says.
    ///
    /// Errors: a picture that the processor refuses; longer than the context; those of the checkpoint's chat template.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// assert!(prompt.text().source().contains("What is in the image?") && !prompt.visual().is_empty());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn ask(&self, question: &str, picture: &Image) -> Result<VisualPrompt> {
        let written = self.0.llm.written(&[Message::user(&self.0.eyes.question(question))])?;
        let none = || {
            Error::argument(
                "this checkpoint has no chat template, so it does not say how it is asked: write the prompt with `read`",
            )
        };
        let text = written.or_else(|| self.0.eyes.without_template(question)).ok_or_else(none)?;
        self.read(text, std::slice::from_ref(picture))
    }

    /// A text in which pictures stand where the model's own tokens say so (`<|vision_start|><|image_pad|><|vision_end|>`, or
    /// `<img></img>` for the first Qwen-VL), in their order. The first of them is the one to be explained, until
    /// [`VisualPrompt::explaining`] says otherwise.
    ///
    /// Errors: not as many pictures as places for them, or none; no words at all; a picture that the processor refuses, or one so
    /// large that it would fill the memory; longer than the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let text = "<|vision_start|><|image_pad|><|vision_end|>What is in the image?";
    /// let prompt = vlm.read(text, &[Scene::empty(1).image()?])?;
    /// assert_eq!(prompt.visual().len(), prompt.grid().iter().product::<usize>());
    /// assert!(vlm.read(text, &[]).is_err());    // a place without a picture
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn read(&self, text: impl AsRef<[u8]>, pictures: &[Image]) -> Result<VisualPrompt> {
        let eyes = &self.0.eyes;
        let fitted = pictures.iter().map(|picture| eyes.processor().fit(picture)).collect::<Result<Vec<_>>>()?;
        let grids: Vec<_> = fitted.iter().map(|picture| eyes.grid([picture.height(), picture.width()])).collect();
        fitted.iter().try_for_each(can_be_seen)?;
        let prompt = VisualPrompt::new(text.as_ref(), eyes.slot(), self.tokenizer(), fitted, grids)?;
        self.0.llm.fits(prompt.text().len())?;
        let places = eyes.places(prompt.text().len(), &prompt.pictures());
        Ok(prompt.read_by(self.0.number, places, self.0.dtype, self.0.device.clone()))
    }

    /// An answer that might follow a prompt, to be explained.
    ///
    /// Errors: empty; text that the vocabulary cannot express; prompt and answer longer than the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What colour is the sky?", &Scene::empty(1).image()?)?;
    /// assert_eq!(vlm.continuation(&prompt, "blue")?.text(), "blue");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn continuation(&self, prompt: &VisualPrompt, text: impl AsRef<[u8]>) -> Result<Continuation> {
        self.0.llm.continuation(prompt.text(), text)
    }

    /// Answers a prompt, until the model ends the text or `sampling.tokens` are written.
    ///
    /// Errors: those of [`CausalLm::generate`].
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Blue, 46.0, 40.0, 12.0)?;
    /// let prompt = vlm.ask("What colour is the star?", &scene.image()?)?;
    /// assert_eq!(vlm.generate(&prompt, &Sampling::greedy(8))?.text(), "blue");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn generate(&self, prompt: &VisualPrompt, sampling: &Sampling) -> Result<Continuation> {
        let (past, x) = self.after(prompt, &prompt.pixels()?.unsqueeze(0)?, sampling.tokens)?;
        self.0.llm.write_on(past, x, prompt.text(), sampling)
    }

    /// The k most probable next tokens and their probabilities.
    ///
    /// Errors: logits that are not finite.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Blue, 46.0, 40.0, 12.0)?;
    /// let prompt = vlm.ask("What colour is the star?", &scene.image()?)?;
    /// assert_eq!(vlm.predict(&prompt, 1)?[0].0, "blue");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn predict(&self, prompt: &VisualPrompt, k: usize) -> Result<Vec<(String, f64)>> {
        self.0.llm.most_probable(&self.logits(prompt, &prompt.pixels()?.unsqueeze(0)?)?, k)
    }

    /// The language model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.0.llm.tokenizer()
    }

    /// The language model by itself.
    pub fn llm(&self) -> &CausalLm {
        &self.0.llm
    }

    /// How pictures are brought to the model's size and colours.
    pub fn processor(&self) -> &Processor {
        self.0.eyes.processor()
    }

    /// Pixels `(n,3,h,w)` between 0 and 1 → the next token's logits, `(n,v)`.
    ///
    /// Errors: x is not `(n,3,h,w)` with the picture's h and w.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Blue, 46.0, 40.0, 12.0)?;
    /// let prompt = vlm.ask("What colour is the star?", &scene.image()?)?;
    /// let logits = vlm.logits(&prompt, &prompt.pixels()?.unsqueeze(0)?)?;    // (1,v)
    /// assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [vlm.tokenizer().id("blue")?]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits(&self, prompt: &VisualPrompt, x: &Tensor) -> Result<Tensor> {
        let (past, x) = self.after(prompt, x, 0)?;
        self.read_last(&past, &x, self.0.llm.to_logits())?.squeeze(1).map_err(Error::from)
    }

    /// Pixels `(n,3,h,w)` of n variants of the picture → ln p of each token of an answer, given those before, `(n,o)` for o
    /// tokens; in nats. One forward serves all of them.
    ///
    /// Errors: x is not `(n,3,h,w)` with the picture's h and w; an answer to another prompt.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Blue, 46.0, 40.0, 12.0)?;
    /// let prompt = vlm.ask("What colour is the star?", &scene.image()?)?;
    /// let x = prompt.pixels()?.unsqueeze(0)?;
    /// let says = |answer: &str| -> Result<f32> {
    ///     Ok(vlm.log_probs(&prompt, &vlm.continuation(&prompt, answer)?, &x)?.sum_all()?.to_scalar()?)
    /// };
    /// assert!(says("blue")? > says("red")? + 1.0);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn log_probs(&self, prompt: &VisualPrompt, said: &Continuation, x: &Tensor) -> Result<Tensor> {
        let (past, x) = self.after(prompt, x, said.len())?;
        self.follow(prompt, &past, &x, said, self.0.llm.to_log_probs(said))?.squeeze(2).map_err(Error::from)
    }

    /// The same as logits over the vocabulary at each of the o places, `(n,o,v)`, for other targets.
    ///
    /// Errors: those of [`log_probs`](Self::log_probs).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What colour is the sky?", &Scene::empty(1).image()?)?;
    /// let said = vlm.continuation(&prompt, "blue")?;
    /// let logits = vlm.continuation_logits(&prompt, &said, &prompt.pixels()?.unsqueeze(0)?)?;
    /// assert_eq!(logits.dims()[..2], [1, said.len()]);    // (n,o,v)
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn continuation_logits(&self, prompt: &VisualPrompt, said: &Continuation, x: &Tensor) -> Result<Tensor> {
        let (past, x) = self.after(prompt, x, said.len())?;
        self.follow(prompt, &past, &x, said, self.0.llm.to_logits())
    }

    /// Pixels `(n,3,h,w)` → visual tokens `(n,s,c)`: what the language model reads in place of words. Row by row, or for the first
    /// Qwen-VL query by query.
    ///
    /// Errors: x is not `(n,3,h,w)` with the picture's h and w.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let seen = vlm.see(&prompt, &prompt.pixels()?.unsqueeze(0)?)?;
    /// assert_eq!(seen.dim(1)?, prompt.visual().len());    // (n,s,c)
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn see(&self, prompt: &VisualPrompt, x: &Tensor) -> Result<Tensor> {
        self.see_patches(prompt, &self.patches(prompt, x)?)
    }

    /// Pixels `(n,3,h,w)` → patches `(n,t,3·f·p·p)`, f frames of p × p pixels, not normalised. For Qwen2-VL and Qwen2.5-VL in the order
    /// and layout that transformers calls `pixel_values`: those of a visual token together, and two frames, which are the
    /// same in a still picture; for the first Qwen-VL row by row, of one frame.
    ///
    /// Errors: x is not `(n,3,h,w)` with the picture's h and w.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let patches = vlm.patches(&prompt, &prompt.pixels()?.unsqueeze(0)?)?;
    /// assert_eq!(patches.dims()[1..], [4 * prompt.visual().len(), 3 * 2 * 4 * 4]);    // 2 × 2 patches, two frames each
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn patches(&self, prompt: &VisualPrompt, x: &Tensor) -> Result<Tensor> {
        prompt.check(x)?;
        self.is_reader_of(prompt)?;
        self.0.eyes.cut(x)
    }

    /// Patches, or scores over them, `(n,t,3·f·p·p)` → `(n,3,h,w)`: every pixel where it was, its frames added up.
    ///
    /// Errors: not as many numbers as the picture's patches have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let x = prompt.pixels()?.unsqueeze(0)?;
    /// let twice = vlm.put_together(&prompt, &vlm.patches(&prompt, &x)?)?;    // both frames added up
    /// assert!((twice - (x * 2.0)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn put_together(&self, prompt: &VisualPrompt, patches: &Tensor) -> Result<Tensor> {
        self.is_reader_of(prompt)?;
        self.0.eyes.put_together(patches, prompt.size())
    }

    /// The same as [`see`](Self::see) from patches, as [`patches`](Self::patches) makes them.
    ///
    /// Errors: not the picture's patches.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let x = prompt.pixels()?.unsqueeze(0)?;
    /// let seen = vlm.see_patches(&prompt, &vlm.patches(&prompt, &x)?)?;
    /// assert_eq!(seen.to_vec3::<f32>()?, vlm.see(&prompt, &x)?.to_vec3::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn see_patches(&self, prompt: &VisualPrompt, patches: &Tensor) -> Result<Tensor> {
        self.is_reader_of(prompt)?;
        let seen = self.0.eyes.see_patches(patches, prompt.size())?;
        let wanted = prompt.visual().len();
        match seen.dims() {
            [_, tokens, _] if *tokens == wanted => Ok(seen),
            other => Err(Error::shape("the visual tokens", format!("(n, {wanted}, c)"), other)),
        }
    }

    /// Pixels `(n,3,h,w)` → embeddings of all tokens of the prompt, `(n,t,c)`, visual ones among them: what attributions
    /// over text *and* picture are over.
    ///
    /// Errors: x is not `(n,3,h,w)` with the picture's h and w.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let pixels = prompt.pixels()?.unsqueeze(0)?;
    /// let x = vlm.embed(&prompt, &pixels)?;    // (n,t,c)
    /// assert_eq!(x.dim(1)?, prompt.text().len());
    /// assert_eq!(x.i((.., prompt.visual()))?.to_vec3::<f32>()?, vlm.see(&prompt, &pixels)?.to_vec3::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn embed(&self, prompt: &VisualPrompt, x: &Tensor) -> Result<Tensor> {
        let seen = self.see(prompt, x)?;
        let (around, n) = (self.surroundings(prompt)?, seen.dim(0)?);
        Ok(Tensor::cat(&[&spread(&around.before, n)?, &seen, &spread(&around.after, n)?], 1)?)
    }

    /// The baseline's embeddings for a prompt, `(t,c)`: absent words as `baseline` says, and the visual tokens of an absent
    /// picture, whose pixels `(3,h,w)` are given. Other pictures stay as they are.
    ///
    /// Errors: a token the vocabulary does not have; pixels of another shape.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let black = vlm.baseline(&prompt, &Baseline::mean(), &prompt.pixels()?.zeros_like()?)?;
    /// assert_eq!(black.dim(0)?, prompt.text().len());    // (t,c)
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn baseline(&self, prompt: &VisualPrompt, baseline: &Baseline, pixels: &Tensor) -> Result<Tensor> {
        let words = self.with_other_pictures(prompt, self.0.llm.baseline(prompt.text(), baseline)?)?;
        let seen = self.see(prompt, &pixels.unsqueeze(0)?)?.squeeze(0)?;
        let (visual, t) = (prompt.visual(), prompt.text().len());
        let around = [words.narrow(0, 0, visual.start)?, seen, words.narrow(0, visual.end, t - visual.end)?];
        Ok(Tensor::cat(&around, 0)?)
    }

    /// Embeddings `(n,t,c)` of all tokens of the prompt → the next token's logits, `(n,v)`.
    ///
    /// Errors: x is not `(n,t,c)` with the prompt's t.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let pixels = prompt.pixels()?.unsqueeze(0)?;
    /// let both = vlm.logits_from(&prompt, &vlm.embed(&prompt, &pixels)?)?;
    /// assert!((both - vlm.logits(&prompt, &pixels)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-3);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_from(&self, prompt: &VisualPrompt, x: &Tensor) -> Result<Tensor> {
        prompt.check_tokens(x)?;
        self.is_reader_of(prompt)?;
        self.read_last(&prompt.start(), x, self.0.llm.to_logits())?.squeeze(1).map_err(Error::from)
    }

    /// The same, with a hook at the named places of the language model.
    ///
    /// Errors: also a site that the network does not have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let x = vlm.embed(&prompt, &prompt.pixels()?.unsqueeze(0)?)?;
    /// let mut record = Record::new(&[Site::ResidPost(0)]);
    /// vlm.logits_from_hooked(&prompt, &x, &mut record)?;
    /// assert_eq!(record.get(Site::ResidPost(0))?.dims(), x.dims());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_from_hooked(&self, prompt: &VisualPrompt, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        prompt.check_tokens(x)?;
        self.is_reader_of(prompt)?;
        let hidden = self.0.llm.watched(x.clone(), &prompt.start(), hook)?;
        Ok(self.0.llm.read_out(&hidden.narrow(1, x.dim(1)? - 1, 1)?)?.squeeze(1)?)
    }

    /// Embeddings `(n,t,c)` of all tokens of the prompt → ln p of each token of an answer, `(n,o)`; in nats.
    ///
    /// Errors: x is not `(n,t,c)` with the prompt's t; an answer to another prompt.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What colour is the sky?", &Scene::empty(1).image()?)?;
    /// let (said, pixels) = (vlm.continuation(&prompt, "blue")?, prompt.pixels()?.unsqueeze(0)?);
    /// let both = vlm.log_probs_from(&prompt, &said, &vlm.embed(&prompt, &pixels)?)?;
    /// assert!((both - vlm.log_probs(&prompt, &said, &pixels)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-3);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn log_probs_from(&self, prompt: &VisualPrompt, said: &Continuation, x: &Tensor) -> Result<Tensor> {
        prompt.check_tokens(x)?;
        self.is_reader_of(prompt)?;
        self.follow(prompt, &prompt.start(), x, said, self.0.llm.to_log_probs(said))?.squeeze(2).map_err(Error::from)
    }

    /// Every layer's attention pattern over prompt and answer, `L × (1,h,t,t)`, for the picture as it is. The row that
    /// predicts token j of the answer is that of the token before it; its columns at [`VisualPrompt::visual`] say how much it
    /// looks at each visual token.
    ///
    /// Errors: an answer to another prompt.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Blue, 46.0, 40.0, 12.0)?;
    /// let prompt = vlm.ask("What colour is the star?", &scene.image()?)?;
    /// let said = vlm.continuation(&prompt, "blue")?;
    /// let last = &vlm.attention(&prompt, &said)?[3];
    /// let looks = last.i((0, 0, prompt.text().len() - 1))?;    // the row that predicts «blue»
    /// assert!((looks.sum_all()?.to_scalar::<f32>()? - 1.0).abs() < 1e-5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attention(&self, prompt: &VisualPrompt, said: &Continuation) -> Result<Vec<Tensor>> {
        prompt.check_answer(said)?;
        let x = self.embed(prompt, &prompt.pixels()?.unsqueeze(0)?)?;
        let mut record = Record::of_layers(Site::Pattern, self.0.llm.layers());
        self.0.llm.blocks(self.0.llm.before_last(said, &x)?, &prompt.start(), &mut record)?;
        record.all()
    }

    /// What stands before the picture to be explained, read once, and what follows with the pixels' visual tokens, `(n,·,c)`. Where so
    /// many tokens more would make a text that is read differently from its beginning on, nothing is read before the rest.
    fn after(&self, prompt: &VisualPrompt, x: &Tensor, more: usize) -> Result<(Past, Tensor)> {
        if self.0.llm.stretches(prompt.text().len().saturating_add(more)) {
            return Ok((prompt.start(), self.embed(prompt, x)?));
        }
        let (seen, around) = (self.see(prompt, x)?, self.surroundings(prompt)?);
        let after = spread(&around.after, seen.dim(0)?)?;
        Ok((around.past, Tensor::cat(&[&seen, &after], 1)?))
    }

    /// What surrounds the picture to be explained; worked out once for each prompt.
    fn surroundings(&self, prompt: &VisualPrompt) -> Result<Surroundings> {
        prompt.surroundings(|text: &Text| {
            let x = self.with_other_pictures(prompt, self.0.llm.embed(text)?)?;
            let (visual, t) = (prompt.visual(), text.len());
            let (before, after) = (x.narrow(0, 0, visual.start)?, x.narrow(0, visual.end, t - visual.end)?);
            let (before, after) = (before.unsqueeze(0)?, after.unsqueeze(0)?);
            Ok(Surroundings { past: self.0.llm.extend(&prompt.start(), &before)?.1, before, after })
        })
    }

    /// Embeddings of all tokens, `(t,c)`, with the visual tokens of the pictures that are not to be explained among them.
    fn with_other_pictures(&self, prompt: &VisualPrompt, mut x: Tensor) -> Result<Tensor> {
        for (picture, tokens) in prompt.others()? {
            let seen = self.0.eyes.see(&picture.unsqueeze(0)?)?.squeeze(0)?;
            x = x.slice_assign(&[tokens, 0..seen.dim(1)?], &seen)?;
        }
        Ok(x)
    }

    /// Errors if another model read the prompt: what surrounds the picture would be the other's.
    fn is_reader_of(&self, prompt: &VisualPrompt) -> Result<()> {
        match prompt.reader() == self.0.number {
            true => Ok(()),
            false => Err(Error::argument(
                "this prompt was read by another model, whose embeddings it holds: make it with `ask` or `read` of this one",
            )),
        }
    }

    /// The model where an answer is predicted, after the embeddings `(n,·,c)` of what follows a past.
    fn follow(
        &self,
        prompt: &VisualPrompt,
        past: &Past,
        x: &Tensor,
        said: &Continuation,
        tail: Vec<Stage>,
    ) -> Result<Tensor> {
        prompt.check_answer(said)?;
        let start = x.dim(1)? - 1;
        let x = self.0.llm.before_last(said, x)?;
        self.0.llm.run(past, &x, &vec![start; x.dim(0)?], said.len(), tail)
    }

    /// The last token.
    fn read_last(&self, past: &Past, x: &Tensor, tail: Vec<Stage>) -> Result<Tensor> {
        let (n, t, _) = x.dims3()?;
        self.0.llm.run(past, x, &vec![t - 1; n], 1, tail)
    }
}

/// Errors if a picture has so many pixels that attention over its patches would fill the memory.
fn can_be_seen(picture: &Image) -> Result<()> {
    const MOST: usize = 1 << 22;
    let (height, width) = (picture.height(), picture.width());
    match height * width {
        0..=MOST => Ok(()),
        pixels => Err(Error::argument(format!(
            "as this model reads it, the picture has {width} × {height} = {pixels} pixels; attention over its patches would take \
             many GiB. Load the model with `Load {{ most_pixels: Some(1_000_000), ..Load::default() }}`, which makes pictures smaller"
        ))),
    }
}

/// The number of the next model.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// `(1,t,c) → (n,t,c)`.
fn spread(x: &Tensor, n: usize) -> Result<Tensor> {
    let (_, t, c) = x.dims3()?;
    Ok(x.broadcast_as((n, t, c))?.contiguous()?)
}
