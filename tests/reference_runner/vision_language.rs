//! Cases on models that see and speak.

use candle_core::D;
use pellucid::prelude::*;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::last_logit::LAST;
use super::peer::Peer;
use super::splice::Splice;
use super::value::Value;
use super::vision::{self, same_normalisation};

/// A target that is sought anew at every point of the path, as the files write it.
pub const MOVING: &str = "max over the vocabulary of logits[last position]";

/// The same, where other cases have an id.
pub const ARGMAX: &str = "argmax at every interpolated input";

/// The case's picture in the case's prompt.
struct Sight {
    vlm: Vlm,
    prompt: VisualPrompt,
}

impl Sight {
    /// As the model reads it: exactly the ids, tokens and patches that the case lists.
    fn new(run: &Run) -> Fallible<Self> {
        let (vlm, picture) = (run.vlm()?, run.picture()?);
        let prompt = vlm.read(&run.input("prompt")?.words()?[0], &[picture])?;
        let ids = prompt.text().ids();
        run.same("input_ids", &ids.as_slice().into())?;
        run.same_spelling("tokens", &ids, vlm.llm())?;
        same_normalisation(run, vlm.processor())?;
        let sight = Self { vlm, prompt };
        sight.same_patches(run)?;
        Ok(sight)
    }

    /// The patches' grid and size are the case's, and so is how many of them a visual token is.
    fn same_patches(&self, run: &Run) -> Fallible<()> {
        let (side, merge) = (run.count("patch_size")?, run.count("merge_size")?);
        let frames = run.count("temporal_patch_size")?;
        let [rows, columns] = self.prompt.grid().map(|tokens| tokens * merge);
        let grid = Value::nested(run.case.inputs.get("image_grid_thw").ok_or("no grid")?)?.ids()?;
        let size = [self.prompt.picture().height(), self.prompt.picture().width()];
        let patches = self.vlm.patches(&self.prompt, &self.x()?)?;
        let same = grid == [1, rows as u32, columns as u32]
            && size == [rows * side, columns * side]
            && patches.dims() == [1, rows * columns, 3 * frames * side * side];
        let ours = || format!("patches {:?} of {size:?} pixels, and the case has {grid:?}", patches.dims());
        if same { Ok(()) } else { Err(ours().into()) }
    }

    /// The picture's pixels, `(1,3,h,w)`.
    fn x(&self) -> Result<Tensor> {
        Ok(self.prompt.pixels()?.unsqueeze(0)?)
    }

    /// Normalised patches of pixels `(3,h,w)`, `(t,·)`.
    fn patches(&self, x: &Tensor) -> Result<Tensor> {
        let normalised = self.vlm.processor().normalise(&x.unsqueeze(0)?)?;
        Ok(self.vlm.patches(&self.prompt, &normalised)?.squeeze(0)?)
    }
}

/// Patches, visual tokens, where everything stands, and the next token's logits, from pixels and from embeddings.
pub fn forward(run: &Run) -> Fallible<Got> {
    let sight = Sight::new(run)?;
    let (Sight { vlm, prompt }, x) = (&sight, sight.x()?);
    let logits = vlm.logits(prompt, &x)?.squeeze(0)?;
    let from_embeddings = vlm.logits_from(prompt, &vlm.embed(prompt, &x)?)?.squeeze(0)?;
    let places: Vec<u32> = prompt.positions().concat();
    let places = Tensor::from_vec(places, (prompt.text().len(), 3), &Device::Cpu)?;
    Ok(Got::from([
        ("pixel_values".into(), Value::of(&sight.patches(&prompt.pixels()?)?)?),
        ("image_features".into(), Value::of(&vlm.see(prompt, &x)?.squeeze(0)?)?),
        ("position_ids".into(), Value::of(&places.t()?)?),
        ("argmax".into(), f64::from(logits.argmax(0)?.to_scalar::<u32>()?).into()),
        ("last_logits".into(), Value::of(&logits)?),
        ("last_logits, from embeddings".into(), Value::of(&from_embeddings)?),
    ]))
}

/// Integrated Gradients over the pixels between 0 and 1, from black.
pub fn integrated_gradients(run: &Run) -> Fallible<Got> {
    let Sight { vlm, prompt } = Sight::new(run)?;
    let (x, target) = (prompt.pixels()?, target(run, &vlm)?);
    let peer = Peer::new(run.word("method")?, run.count("n_steps")?)?;
    let explained = peer.explain(|x| target(&vlm.logits(&prompt, x)?), &x, &x.zeros_like()?)?;
    vision::pixel_fields(&explained)
}

/// What a case explains, `(n,v) → (n,)`.
type Explained = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

fn target(run: &Run, vlm: &Vlm) -> Fallible<Explained> {
    match run.word("F")? {
        LAST => {
            let target = run.target(vlm.llm())?;
            Ok(Box::new(move |logits| target.of(logits)))
        }
        MOVING => {
            run.says("target", ARGMAX)?;
            Ok(Box::new(|logits| Ok(logits.max(D::Minus1)?)))
        }
        other => Err(format!("the function «{other}» is not known").into()),
    }
}

/// Integrated Gradients over normalised patches, from those of black: theirs, every pixel's, and every visual token's.
pub fn by_patches(run: &Run) -> Fallible<Got> {
    run.says("baseline", "patchified black image")?;
    let sight = Sight::new(run)?;
    let (Sight { vlm, prompt }, target) = (&sight, run.target(sight.vlm.llm())?);
    let splice = Splice::new(vlm, std::slice::from_ref(prompt))?;
    let f = |patches: &Tensor| {
        let seen = vlm.see_patches(prompt, &raw(patches, vlm.processor())?)?;
        target.of(&vlm.logits_from(prompt, &splice.with(&[seen])?)?)
    };
    let (x, black) = (sight.patches(&prompt.pixels()?)?, sight.patches(&prompt.pixels()?.zeros_like()?)?);
    let peer = Peer::new(run.word("method")?, run.count("n_steps")?)?;
    let scores = peer.explain(f, &x, &black)?.attribution.tensor()?;
    let by_token = scores.reshape((prompt.visual().len(), ()))?.sum(1)?;
    Ok(Got::from([
        ("attr_patches".into(), Value::of(&scores)?),
        ("attr_chw".into(), Value::of(&vlm.put_together(prompt, &scores.unsqueeze(0)?)?.squeeze(0)?)?),
        ("per_merged_token".into(), Value::of(&by_token)?),
    ]))
}

/// Normalised patches `(n,t,3·k)` with the colours they had between 0 and 1.
fn raw(patches: &Tensor, processor: &Processor) -> Result<Tensor> {
    let (n, t, c) = patches.dims3()?;
    let (mean, std) = processor.normalisation();
    let by_channel = |x: [f64; 3]| Tensor::new(&x, patches.device())?.to_dtype(patches.dtype())?.reshape((3, 1));
    let patches = patches.reshape((n, t, 3, c / 3))?;
    Ok(patches.broadcast_mul(&by_channel(std)?)?.broadcast_add(&by_channel(mean)?)?.reshape((n, t, c))?)
}
