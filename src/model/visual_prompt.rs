//! A text with pictures in it, one of which is to be explained.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};

use super::decoder::{Past, Places};
use super::image::Image;
use super::text::{Continuation, Text, Tokenizer};
use super::vlm::Slot;
use crate::{Error, Result};

/// A prompt as a vision-language model reads it: text, and pictures of the model's size.
///
/// Cheap to clone. One of the pictures is the one to be explained: its pixels are the x of the model's functions.
///
/// ```
/// # use pellucid::prelude::*;
/// let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
/// let scene = Scene::empty(1).with(Shape::Square, Colour::Red, 18.0, 20.0, 10.0)?;
/// let prompt = vlm.ask("What colour is the square?", &scene.image()?)?;
/// let [rows, columns] = prompt.grid();
/// assert_eq!(prompt.visual().len(), rows * columns);    // one token per cell
/// assert_eq!(prompt.pixels()?.dims(), [3, prompt.picture().height(), prompt.picture().width()]);
/// assert_eq!(prompt.positions().len(), prompt.text().len());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct VisualPrompt {
    text: Arc<Text>,
    pictures: Arc<[Picture]>,
    explained: usize,
    /// The number of the model that read it.
    reader: usize,
    places: Places,
    dtype: DType,
    device: Device,
    surroundings: Arc<OnceLock<Surroundings>>,
}

/// A picture, the tokens that stand for it, and how they lie in it.
struct Picture {
    image: Image,
    tokens: Range<usize>,
    grid: [usize; 2],
}

/// What does not change with the pixels of the picture to be explained.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// Embeddings of the tokens before the picture, `(1,t,c)`, and what the language model makes of them.
    pub before: Tensor,
    pub past: Past,
    /// Embeddings of the tokens after it, `(1,t,c)`.
    pub after: Tensor,
}

impl std::fmt::Debug for VisualPrompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [rows, columns] = self.grid();
        write!(f, "{} tokens, {} of them for {:?}: ", self.text.len(), self.visual().len(), self.picture())?;
        write!(f, "{rows} × {columns} visual tokens")
    }
}

impl VisualPrompt {
    /// From a text with a slot for each picture.
    pub(super) fn new(
        text: &[u8],
        slot: Slot,
        tokenizer: &Tokenizer,
        images: Vec<Image>,
        grids: Vec<[usize; 2]>,
    ) -> Result<Self> {
        let counts: Vec<usize> = grids.iter().map(|grid| grid.iter().product()).collect();
        let spelled = match std::str::from_utf8(text) {
            Ok(text) => filled(text, slot, &counts)?.into_bytes(),
            Err(_) => text.to_vec(), // which the tokenizer refuses
        };
        let text = tokenizer.read_plain(spelled)?;
        let runs = runs(&text.ids(), tokenizer.id(slot.pad)?);
        if runs.iter().map(Range::len).ne(counts) {
            return Err(Error::argument(format!(
                "`{}` stands for one visual token and cannot be written by hand: leave `{}` and `{}` with nothing between them \
                 for each picture",
                slot.pad, slot.open, slot.close
            )));
        }
        let pictures = images.into_iter().zip(runs).zip(grids);
        let pictures = pictures.map(|((image, tokens), grid)| Picture { image, tokens, grid }).collect();
        let (text, places, surroundings) = (Arc::new(text), Places::default(), Arc::default());
        let (dtype, device) = (DType::F32, Device::Cpu);
        Ok(Self { text, pictures, explained: 0, reader: 0, places, dtype, device, surroundings })
    }

    /// With its tokens at these places, read by the model of this number.
    pub(super) fn read_by(self, reader: usize, places: Places, dtype: DType, device: Device) -> Self {
        Self { reader, places, dtype, device, ..self }
    }

    /// The number of the model that read it.
    pub(super) fn reader(&self) -> usize {
        self.reader
    }

    /// The same with another of its pictures to be explained, counted from 0.
    ///
    /// Errors: there is no such picture.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let pictures = [Scene::empty(1).image()?, Scene::empty(2).image()?];
    /// let slot = "<|vision_start|><|image_pad|><|vision_end|>";
    /// let first = vlm.read(format!("{slot}{slot}What is in the image?"), &pictures)?;
    /// let second = first.explaining(1)?;
    /// assert!(first.visual().end < second.visual().start && second.picture() == &pictures[1]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn explaining(&self, picture: usize) -> Result<Self> {
        match picture < self.pictures.len() {
            true => Ok(Self { explained: picture, surroundings: Arc::default(), ..self.clone() }),
            false => Err(Error::out_of_range("picture", picture, self.pictures.len())),
        }
    }

    /// The text as tokens; a picture is as many tokens as the model sees it by.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The picture to be explained, resized as the model reads it.
    pub fn picture(&self) -> &Image {
        &self.pictures[self.explained].image
    }

    /// Its pixels `(3,h,w)`, between 0 and 1: what attributions are over.
    pub fn pixels(&self) -> Result<Tensor> {
        self.pixels_of(&self.pictures[self.explained])
    }

    /// The tokens that stand for it.
    pub fn visual(&self) -> Range<usize> {
        self.pictures[self.explained].tokens.clone()
    }

    /// Where each token stands, as rotary embeddings count: in time, in rows and in columns. Outside pictures, and for the first
    /// Qwen-VL everywhere, the three go on together.
    pub fn positions(&self) -> Vec<[u32; 3]> {
        self.places.of_all(self.text.len())
    }

    /// Rows and columns of its visual tokens.
    ///
    /// **When it misleads**: the first Qwen-VL sees a picture by 256 queries that attend to all of it; a query's place in this
    /// grid is where it was trained to begin, not the part of the picture it tells of.
    pub fn grid(&self) -> [usize; 2] {
        self.pictures[self.explained].grid
    }

    /// One number per token of the prompt, or of prompt and answer, `(t,)` → those of the picture, `(rows,columns)`.
    ///
    /// Errors: fewer numbers than the prompt has tokens.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let prompt = vlm.ask("What is in the image?", &Scene::empty(1).image()?)?;
    /// let said = vlm.generate(&prompt, &Sampling::greedy(4))?;
    /// let pattern = &vlm.attention(&prompt, &said)?[0];           // (1,h,t,t)
    /// let looks = pattern.i((0, 0, prompt.text().len() - 1))?;    // where the answer begins
    /// assert_eq!(prompt.on_grid(&looks)?.dims(), prompt.grid());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn on_grid(&self, tokens: &Tensor) -> Result<Tensor> {
        let visual = self.visual();
        match *tokens.dims() {
            [t] if t >= self.text.len() => {
                Ok(tokens.narrow(0, visual.start, visual.len())?.reshape(&self.grid()[..])?)
            }
            _ => Err(Error::shape("the tokens' numbers", format!("({},) or more", self.text.len()), tokens.dims())),
        }
    }

    /// Where each picture's tokens are, and how they lie in it.
    pub(super) fn pictures(&self) -> Vec<(Range<usize>, [usize; 2])> {
        self.pictures.iter().map(|picture| (picture.tokens.clone(), picture.grid)).collect()
    }

    /// Pixels and tokens of the pictures that are not to be explained.
    pub(super) fn others(&self) -> Result<Vec<(Tensor, Range<usize>)>> {
        let others = self.pictures.iter().enumerate().filter(|(i, _)| *i != self.explained);
        others.map(|(_, picture)| Ok((self.pixels_of(picture)?, picture.tokens.clone()))).collect()
    }

    fn pixels_of(&self, picture: &Picture) -> Result<Tensor> {
        Ok(picture.image.pixels_in(self.dtype)?.to_device(&self.device)?)
    }

    /// Before its first token.
    pub(super) fn start(&self) -> Past {
        Past::before(self.places.clone())
    }

    /// What surrounds the picture, worked out when it is first asked for.
    pub(super) fn surroundings(&self, work: impl FnOnce(&Text) -> Result<Surroundings>) -> Result<Surroundings> {
        match self.surroundings.get() {
            Some(known) => Ok(known.clone()),
            None => {
                let new = work(&self.text)?;
                Ok(self.surroundings.get_or_init(|| new).clone())
            }
        }
    }

    /// Height and width of the picture to be explained.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.picture().height(), self.picture().width()]
    }

    /// Errors unless x is `(n,3,h,w)` with the size of the picture to be explained.
    pub(super) fn check(&self, x: &Tensor) -> Result<()> {
        let [height, width] = self.size();
        match *x.dims() {
            [n, 3, h, w] if n > 0 && (h, w) == (height, width) => Ok(()),
            _ => {
                Err(Error::shape("the pixels", format!("(n, 3, {height}, {width}), the prompt's picture's"), x.dims()))
            }
        }
    }

    /// Errors unless x is `(n,t,c)` with the prompt's t.
    pub(super) fn check_tokens(&self, x: &Tensor) -> Result<()> {
        match *x.dims() {
            [n, t, _] if n > 0 && t == self.text.len() => Ok(()),
            _ => Err(Error::shape("the embeddings", format!("(n, {}, c), the prompt's", self.text.len()), x.dims())),
        }
    }

    /// Errors unless an answer follows this prompt.
    pub(super) fn check_answer(&self, said: &Continuation) -> Result<()> {
        match said.prompt() == self.text() {
            true => Ok(()),
            false => {
                Err(Error::argument("this answer follows another prompt: make it with `continuation(&prompt, …)`"))
            }
        }
    }
}

/// The text with every slot filled by as many tokens as its picture has.
fn filled(text: &str, slot: Slot, counts: &[usize]) -> Result<String> {
    let Slot { open, pad, close, .. } = slot;
    let (mut filled, mut rest, mut slots) = (String::new(), text, 0);
    while let Some((before, after)) = rest.split_once(open) {
        let unfinished = || Error::argument(format!("the prompt has a `{open}` without its `{close}`"));
        let (inside, after) = after.split_once(close).ok_or_else(unfinished)?;
        if !is_slot(inside, slot) {
            return Err(Error::argument(format!(
                "between `{open}` and `{close}` stands «{inside}», where a picture should: leave nothing between them"
            )));
        }
        let count = counts.get(slots).copied().unwrap_or_default();
        filled.extend([before, open, &pad.repeat(count), close]);
        (rest, slots) = (after, slots + 1);
    }
    match slots == counts.len() && slots > 0 {
        true => Ok(filled + rest),
        false => Err(Error::argument(format!(
            "the prompt has {slots} places for pictures (`{open}{close}`), and {} pictures were given",
            counts.len()
        ))),
    }
}

/// Whether what stands between open and close stands for a picture: nothing, its tokens, or its name.
fn is_slot(inside: &str, Slot { open, pad, named, .. }: Slot) -> bool {
    inside.replace(pad, "").is_empty() || named && !inside.contains(open)
}

/// Where an id stands, several times in a row.
fn runs(ids: &[u32], id: u32) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (place, _) in ids.iter().enumerate().filter(|(_, other)| **other == id) {
        match runs.last_mut() {
            Some(run) if run.end == place => run.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}
