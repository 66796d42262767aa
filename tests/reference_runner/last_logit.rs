//! Explanations of the next token's logit, over the embeddings of a prompt.

use std::cell::Cell;

use pellucid::model::text::Text;
use pellucid::prelude::*;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::peer::Peer;
use super::units;
use super::value::Value;

/// The logit, as the files write it.
pub const LAST: &str = "logits[last position][target]";

/// A prompt and the token whose logit is explained.
struct Next {
    llm: CausalLm,
    prompt: Text,
    x: Tensor,
    target: Target,
}

impl Next {
    fn new(run: &Run) -> Fallible<Self> {
        let llm = run.llm()?;
        let (prompt, target) = (run.prompt(&llm)?, run.target(&llm)?);
        Ok(Self { x: llm.embed(&prompt)?, llm, prompt, target })
    }

    /// `(n,t,c) → (n,)`.
    fn f(&self, x: &Tensor) -> Result<Tensor> {
        self.target.of(&self.llm.logits(x)?)
    }

    /// The baseline that the case names.
    fn baseline(&self, run: &Run) -> Fallible<Tensor> {
        let baseline = match run.word("baseline")? {
            "zero" => Baseline::zero(),
            "token0" => Baseline::id(0),
            other => return Err(format!("the baseline `{other}` is not known").into()),
        };
        Ok(self.llm.baseline(&self.prompt, &baseline.everywhere())?)
    }
}

/// Integrated Gradients, by element and by token.
pub fn integrated_gradients(run: &Run) -> Fallible<Got> {
    run.says("F", LAST)?;
    let next = Next::new(run)?;
    let peer = Peer::new(run.word("method")?, run.count("n_steps")?)?;
    let explained = peer.explain(|x| next.f(x), &next.x, &next.baseline(run)?)?;
    let mut got = units::fields(&explained)?;
    got.insert("token_attr".into(), explained.attribution.over(&next.prompt)?.scores.as_slice().into());
    Ok(got)
}

/// The gradient at a point of the path from the baseline.
pub fn gradient(run: &Run) -> Fallible<Got> {
    let next = Next::new(run)?;
    let point = interpolate(&next.baseline(run)?, &next.x, &[run.number("alpha")?])?;
    let gradient = grad_at(|x| next.f(x), &point)?.squeeze(0)?;
    let product = gradient_x_input(|x| next.f(x), &point.squeeze(0)?)?.over(&next.prompt)?;
    let norms = gradient.to_dtype(DType::F64)?.sqr()?.sum(D::Minus1)?.sqrt()?;
    Ok(Got::from([
        ("grad".into(), Value::of(&gradient)?),
        ("grad_norm_per_token".into(), Value::of(&norms)?),
        ("input_x_grad".into(), product.scores.as_slice().into()),
    ]))
}

/// The logit with a token's embedding set to zero: one by one, and as the crate ablates, in batches.
pub fn ablation(run: &Run) -> Fallible<Got> {
    let next = Next::new(run)?;
    let zero = next.x.zeros_like()?;
    let one = |x: &Tensor| Ok(Value::of(&next.f(&x.unsqueeze(0)?)?)?.numbers()?[0]);
    let ablated: Vec<f64> = (0..next.prompt.len()).map(|row| one(&without(&next.x, row)?)).collect::<Fallible<_>>()?;
    let drops = ablate(|x| next.f(x), &next.x, &zero, &Groups::rows(&next.x))?;
    Ok(Got::from([
        ("base_logit".into(), one(&next.x)?.into()),
        ("ablated_logit".into(), ablated.as_slice().into()),
        ("drop".into(), Value::of(&drops)?),
    ]))
}

/// `(t,c)` with a row of zeros.
fn without(x: &Tensor, row: usize) -> Result<Tensor> {
    let (before, after) = (x.narrow(0, 0, row)?, x.narrow(0, row + 1, x.dim(0)? - row - 1)?);
    Ok(Tensor::cat(&[&before, &x.narrow(0, row, 1)?.zeros_like()?, &after], 0)?)
}

/// The logit with given noise on one token at a time, and how far it spreads.
pub fn sensitivity(run: &Run) -> Fallible<Got> {
    let next = Next::new(run)?;
    let noise = (run.input("noise_unit")?.tensor(run.dtype)? * run.number("sigma")?)?;
    let draws = run.count("draws")?;
    let shaken = |row: usize| {
        let noise = noise.unsqueeze(1)?.pad_with_zeros(1, row, next.prompt.len() - row - 1)?;
        next.f(&noise.broadcast_add(&next.x)?)
    };
    let logits = Tensor::stack(&(0..next.prompt.len()).map(shaken).collect::<Result<Vec<_>>>()?, 0)?;
    let sample = spread(Value::of(&logits)?.numbers()?, draws)?;
    let whole = sample.iter().map(|s| s * ((draws as f64 - 1.0) / draws as f64).sqrt()).collect::<Vec<_>>();
    Ok(Got::from([
        ("logits".into(), Value::of(&logits)?),
        ("std_ddof1".into(), sample.as_slice().into()),
        ("std_ddof0".into(), whole.as_slice().into()),
    ]))
}

/// The crate's standard deviation of outcomes: what it would say if its own draws had led to these.
fn spread(outcomes: &[f64], draws: usize) -> Fallible<Vec<f64>> {
    let next = Cell::new(0);
    let dealt = |x: &Tensor| {
        let from = next.replace(next.get() + x.dims()[0]);
        Ok(Tensor::new(&outcomes[from..next.get()], &Device::Cpu)?)
    };
    let rows = Tensor::zeros((outcomes.len() / draws, 1), DType::F64, &Device::Cpu)?;
    Ok(embedding_sensitivity(dealt, &rows, &Noise::new(0.0, draws, 0))?.scores)
}
