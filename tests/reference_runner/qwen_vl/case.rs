//! A prompt, with pictures or without: what the model makes of it, and why.

use std::collections::BTreeMap;

use candle_core::DType;
use pellucid::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};

use super::super::Fallible;
use super::super::check::Check;
use super::super::peer::Peer;
use super::super::value::Value;
use super::array::Array;
use super::checks::{Checks, largest};
use super::set::Set;
use super::sights::Sights;
use super::tokens::without_paths;

/// What absent pictures are, as the files write it.
const BLACK: &str = "black: all zeros in raw 0-1 space";

/// As the file has it. The probes are what the original code has between its own lines, which ours need not have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    prompt: String,
    config_override: Map<String, Json>,
    n_images: usize,
    input_ids: Vec<u32>,
    #[serde(default)]
    image_spans: Vec<[usize; 2]>,
    target_id: u32,
    target_logit: f64,
    top2_margin: f64,
    raw_pixels: Option<Array>,
    normalised_pixels: Option<Array>,
    visual_features: Option<Array>,
    logits: Option<Array>,
    logits_last: Option<Array>,
    grad: Option<Array>,
    #[serde(default)]
    finite_difference: Vec<Difference>,
    baseline: Option<String>,
    baseline_target_logit: Option<f64>,
    baseline_argmax_id: Option<u32>,
    #[serde(default)]
    ig: BTreeMap<String, Path>,
    completeness_delta_gauss_legendre_200: Option<f64>,
    #[serde(default, rename = "probes")]
    _probes: IgnoredAny,
}

/// A slope along one pixel's channel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    flat_index: usize,
    central_fd: f64,
    grad: f64,
}

/// Integrated Gradients by some rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Path {
    n_steps: usize,
    sum: f64,
    completeness_delta: f64,
    attributions: Option<Array>,
}

/// Every field, in both precisions.
pub fn run(set: &Set, case: &Json) -> Fallible<Vec<Check>> {
    let case = Case::deserialize(case)?;
    let mut all = vec![];
    for dtype in [DType::F32, DType::F64] {
        let mut checks = Checks::new(dtype);
        match &case.raw_pixels {
            Some(pixels) => case.seen(set, dtype, &pixels.value()?, &mut checks)?,
            None => case.read(set, dtype, &mut checks)?,
        }
        all.extend(checks.all());
    }
    Ok(all)
}

impl Case {
    /// Text alone.
    fn read(&self, set: &Set, dtype: DType, checks: &mut Checks) -> Fallible<()> {
        let llm = set.llm(dtype, &self.config_override)?;
        let prompt = llm.read(&self.prompt)?;
        checks.exact("n_images", &0.0.into(), &(self.n_images as f64).into());
        checks.exact("input_ids", &prompt.ids().as_slice().into(), &self.input_ids.as_slice().into());
        let x = llm.embed(&prompt)?.unsqueeze(0)?;
        self.everywhere(&llm, &x, checks)?;
        self.next(&llm.logits(&x)?.squeeze(0)?, "", checks)
    }

    /// Text and pictures.
    fn seen(&self, set: &Set, dtype: DType, pixels: &Value, checks: &mut Checks) -> Fallible<()> {
        let vlm = set.vlm(dtype, &self.config_override)?;
        let sights = Sights::new(vlm, &self.prompt, pixels.tensor(dtype)?)?;
        self.tokens(&sights, set.span()?, checks)?;
        self.visual(&sights, pixels, checks)?;
        let x = sights.x.unsqueeze(0)?;
        self.everywhere(sights.vlm.llm(), &sights.embed(&x)?, checks)?;
        self.next(&sights.logits(&x)?.squeeze(0)?, "", checks)?;
        self.next(&sights.logits_together(&x)?.squeeze(0)?, ", together", checks)?;
        self.absent(&sights, checks)?;
        self.slopes(&sights, checks)?;
        for (rule, path) in &self.ig {
            self.path(&sights, rule, path, checks)?;
        }
        self.long_path(&sights, checks)
    }

    /// All tokens, and where the pictures are among them.
    fn tokens(&self, sights: &Sights, span: u64, checks: &mut Checks) -> Fallible<()> {
        let theirs = without_paths(&self.input_ids, sights.vlm.tokenizer())?;
        let spans = self.image_spans.concat().iter().map(|&place| place as f64).collect::<Vec<_>>();
        let visual = sights.prompts.iter().map(VisualPrompt::visual);
        let visual: Vec<_> = visual.flat_map(|place| [place.start as f64, place.end as f64]).collect();
        checks.exact("n_images", &(sights.prompts.len() as f64).into(), &(self.n_images as f64).into());
        checks.exact("input_ids", &sights.prompts[0].text().ids().as_slice().into(), &theirs.as_slice().into());
        checks.exact("image_spans", &visual.as_slice().into(), &spans.as_slice().into());
        checks.exact("image_token_span", &(sights.prompts[0].visual().len() as f64).into(), &(span as f64).into());
        Ok(())
    }

    /// Pictures as they come in, and as the language model gets them.
    fn visual(&self, sights: &Sights, pixels: &Value, checks: &mut Checks) -> Fallible<()> {
        let x = &sights.x;
        checks.near("raw_pixels", &Value::of(&sights.pixels()?)?, pixels)?;
        if let Some(normalised) = &self.normalised_pixels {
            let ours = Value::of(&sights.vlm.processor().normalise(x)?)?;
            checks.near("normalised_pixels", &ours, &normalised.value()?)?;
        }
        if let Some(features) = &self.visual_features {
            let ours = Tensor::cat(&sights.see(&x.unsqueeze(0)?)?, 0)?;
            checks.near("visual_features", &Value::of(&ours)?, &features.value()?)?;
        }
        Ok(())
    }

    /// The logits after every token, from embeddings `(1,t,c)`.
    fn everywhere(&self, llm: &CausalLm, x: &Tensor, checks: &mut Checks) -> Fallible<()> {
        if let Some(logits) = &self.logits {
            let ours = llm.logits_hooked(x, &mut Clear)?.squeeze(0)?;
            checks.near("logits", &Value::of(&ours)?, &logits.value()?)?;
        }
        Ok(())
    }

    /// The next token, and how sure it is.
    fn next(&self, logits: &Tensor, road: &str, checks: &mut Checks) -> Fallible<()> {
        let best: Vec<f64> = logits.to_dtype(DType::F64)?.sort_last_dim(false)?.0.narrow(0, 0, 2)?.to_vec1()?;
        let target = self.target().of(&logits.unsqueeze(0)?)?.squeeze(0)?;
        checks.exact(&format!("target_id{road}"), &argmax(logits)?, &f64::from(self.target_id).into());
        checks.near(&format!("target_logit{road}"), &Value::of(&target)?, &self.target_logit.into())?;
        checks.of_scale(
            &format!("top2_margin{road}"),
            &(best[0] - best[1]).into(),
            &self.top2_margin.into(),
            self.target_logit.abs(),
        );
        match &self.logits_last {
            Some(last) => checks.near(&format!("logits_last{road}"), &Value::of(logits)?, &last.value()?),
            None => Ok(()),
        }
    }

    /// The same without pictures.
    fn absent(&self, sights: &Sights, checks: &mut Checks) -> Fallible<()> {
        if self.baseline.as_ref().is_some_and(|baseline| baseline != BLACK) {
            return Err(format!("the baseline {:?} is not known", self.baseline).into());
        }
        let logits = sights.logits(&sights.x.zeros_like()?.unsqueeze(0)?)?;
        if let Some(best) = self.baseline_argmax_id {
            checks.exact("baseline_argmax_id", &argmax(&logits.squeeze(0)?)?, &f64::from(best).into());
        }
        if let Some(expected) = self.baseline_target_logit {
            let ours = Value::of(&self.target().of(&logits)?.squeeze(0)?)?;
            checks.near("baseline_target_logit", &ours, &expected.into())?;
        }
        Ok(())
    }

    /// The gradient, picture by picture and of all together, and slopes by differences.
    fn slopes(&self, sights: &Sights, checks: &mut Checks) -> Fallible<()> {
        let Some(theirs) = &self.grad else { return Ok(()) };
        let (theirs, target) = (theirs.value()?, self.target());
        let (steepest, x) = (largest(&theirs)?, sights.x.unsqueeze(0)?);
        let together = grad_at(|x| target.of(&sights.logits_together(x)?), &x)?.squeeze(0)?;
        let ours = Value::of(&sights.gradients_alone(target)?)?;
        checks.of_scale("grad, one by one", &ours, &theirs, steepest);
        checks.of_scale("grad, together", &Value::of(&together)?, &theirs, steepest);
        for Difference { flat_index, central_fd, grad } in &self.finite_difference {
            let ours = *ours.numbers()?.get(*flat_index).ok_or("a slope beyond the picture")?;
            checks.of_scale("finite_difference.grad", &ours.into(), &(*grad).into(), steepest);
            checks.slope("finite_difference.central_fd", ours, *central_fd, steepest);
        }
        Ok(())
    }

    /// Integrated Gradients from black, all pictures along one path.
    fn path(&self, sights: &Sights, rule: &str, path: &Path, checks: &mut Checks) -> Fallible<()> {
        let (x, target) = (&sights.x, self.target());
        let f = |x: &Tensor| target.of(&sights.logits(x)?);
        let explained = Peer::new(rule, path.n_steps)?.explain(f, x, &x.zeros_like()?)?;
        let (ours, (full, empty)) = (&explained.attribution, explained.ends);
        let scale = full.abs().max(empty.abs());
        if let Some(theirs) = &path.attributions {
            let theirs = theirs.value()?;
            checks.of_scale(&format!("ig.{rule}"), &Value::of(&ours.tensor()?)?, &theirs, largest(&theirs)?);
        }
        checks.of_scale(&format!("ig.{rule}.sum"), &ours.sum().into(), &path.sum.into(), scale);
        let delta = path.completeness_delta;
        checks.of_scale(&format!("ig.{rule}.completeness_delta"), &explained.delta.into(), &delta.into(), scale);
        Ok(())
    }

    /// What is left of it with more steps.
    fn long_path(&self, sights: &Sights, checks: &mut Checks) -> Fallible<()> {
        let Some(theirs) = self.completeness_delta_gauss_legendre_200 else { return Ok(()) };
        let (x, target) = (&sights.x, self.target());
        let f = |x: &Tensor| target.of(&sights.logits(x)?);
        let explained = Peer::new("gausslegendre", 200)?.explain(f, x, &x.zeros_like()?)?;
        let scale = explained.ends.0.abs().max(explained.ends.1.abs());
        checks.of_scale("completeness_delta_gauss_legendre_200", &explained.delta.into(), &theirs.into(), scale);
        Ok(())
    }

    fn target(&self) -> Target {
        Target::Logit(self.target_id as usize)
    }
}

fn argmax(logits: &Tensor) -> Fallible<Value> {
    Ok(f64::from(logits.argmax(0)?.to_scalar::<u32>()?).into())
}
