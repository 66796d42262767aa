//! The methods, called as this crate has them, and returned as Captum would.

use candle_core::DType;
use pellucid::model::blocks::{Activation, Chain, Stage};
use pellucid::prelude::*;
use serde_json::Value as Json;

use super::problem::{Problem, spread};
use super::record::Record;
use super::toys::{self, Toy, linear1, linear2, relu};
use crate::reference_runner::Fallible;
use crate::reference_runner::check::Check;
use crate::reference_runner::peer::{Explained, Peer};
use crate::reference_runner::rollout::layers;
use crate::reference_runner::value::Value;

/// Nodes and weights of a rule.
pub fn quadrature(record: &Record, _: &str, dtype: DType) -> Fallible<Vec<Check>> {
    let (nodes, weights) = Peer::new(record.word("method")?, record.count("n_steps")?)?.nodes()?;
    record.against("expected", &[nodes.as_slice().into(), weights.as_slice().into()], dtype)
}

/// Attributions, or convergence deltas, or both.
pub fn integrated_gradients(record: &Record, rule: &str, dtype: DType) -> Fallible<Vec<Check>> {
    if record.get("multiply_by_inputs").is_some_and(|multiply| *multiply != Json::Bool(true)) {
        return Err("Integrated Gradients without the factor x − x′ is not known".into());
    }
    let problem = Problem::new(record, dtype)?;
    let peer = Peer::new(rule, record.count("n_steps")?)?;
    let explain = |b| peer.explain(problem.f(b), &problem.x(b)?, &problem.baseline(b)?);
    let explained: Vec<Explained> = (0..problem.examples()).map(explain).collect::<Fallible<_>>()?;
    let scores: Vec<_> = explained.iter().map(|e| e.attribution.scores.clone()).collect();
    let deltas: Vec<_> = explained.iter().map(|e| e.delta).collect();
    path_checks(record, &problem.gather(&scores), &deltas.as_slice().into(), dtype)
}

fn path_checks(record: &Record, attr: &[Value], deltas: &Value, dtype: DType) -> Fallible<Vec<Check>> {
    let first = record.get("expected_fields").map_or("", |fields| fields[0].as_str().unwrap_or("?"));
    let mut checks = match first {
        "" => record.against("expected", attr, dtype)?,
        "convergence_delta" | "convergence_delta per example" => {
            record.against("expected", std::slice::from_ref(deltas), dtype)?
        }
        other => return Err(format!("expecting `{other}` is not known").into()),
    };
    if record.get("numpy_value").is_some() {
        checks.extend(record.against("numpy_value", attr, dtype)?);
    }
    if record.get("expected_convergence_delta").is_some() {
        checks.extend(record.against_one("expected_convergence_delta", deltas, dtype)?);
    }
    Ok(checks)
}

/// |∇f|.
pub fn saliency(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    each(record, dtype, |problem, b| {
        Ok(gradient(problem.f(b), &problem.x(b)?)?.scores.into_iter().map(f64::abs).collect())
    })
}

/// x · ∇f.
pub fn input_x_gradient(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    each(record, dtype, |problem, b| Ok(gradient_x_input(problem.f(b), &problem.x(b)?)?.scores))
}

/// f less f without a group, for every group of the mask.
pub fn feature_ablation(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    if Toy::new(record.word("model")?)?.aggregates {
        return aggregate_ablation(record, dtype);
    }
    each(record, dtype, ablated)
}

fn ablated(problem: &Problem, b: usize) -> Fallible<Vec<f64>> {
    problem.by_groups(b, &|f, x, baseline, groups| pellucid::feature_ablation(f, x, baseline, groups))
}

/// A network with outputs for the whole batch: a row per output, a column per feature that all examples share.
fn aggregate_ablation(record: &Record, dtype: DType) -> Fallible<Vec<Check>> {
    let outputs = Problem::new(record, dtype)?.outputs()?;
    let row = |output| {
        let problem = Problem::new(record, dtype)?.about(output);
        let width = problem.inputs[0].dims()[2];
        Ok(ablated(&problem, 0)?[..width].to_vec())
    };
    let rows: Vec<Vec<f64>> = (0..outputs).map(row).collect::<Fallible<_>>()?;
    let shape = vec![rows.len(), rows[0].len()];
    record.against("expected", &[Value::Numbers(shape, rows.concat())], dtype)
}

/// f less f behind a window, averaged over the windows: input by input, the others left as they are.
pub fn occlusion(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    each(record, dtype, |problem, b| {
        let input = |k: usize| {
            let (x, baseline) = (problem.inputs[k].get(b)?, problem.baselines[k].get(b)?);
            let window = per_axis(record.need("sliding_window_shapes")?, k, x.rank())?;
            let stride =
                record.get("strides").map_or(Ok(vec![1; x.rank()]), |strides| per_axis(strides, k, x.rank()))?;
            Ok(pellucid::occlusion(problem.f_of_input(b, k), &x, &baseline, &window, &stride)?.scores)
        };
        Ok((0..problem.inputs.len()).map(input).collect::<Fallible<Vec<_>>>()?.concat())
    })
}

/// The k-th entry: a size per axis, or one for all.
fn per_axis(json: &Json, k: usize, rank: usize) -> Fallible<Vec<usize>> {
    let entry = json.get(k).ok_or("fewer sizes than inputs")?;
    let sizes: Vec<usize> = Value::nested(entry)?.ids()?.into_iter().map(|size| size as usize).collect();
    Ok(if entry.is_number() { vec![sizes[0]; rank] } else { sizes })
}

/// Integrated Gradients over what a layer of two outputs makes of input and baseline.
pub fn layer_integrated_gradients(record: &Record, layer: &str, dtype: DType) -> Fallible<Vec<Check>> {
    if (layer, record.word("model")?) != ("multi_relu (two output tensors)", toys::MULTI_RELU) {
        return Err("another layer or network".into());
    }
    let inputs = [Value::nested(&record.need("input")?[0])?.tensor(dtype)?];
    let baselines = spread(record.need("baseline")?, &inputs)?;
    let both =
        |x: &Tensor| Tensor::cat(&[relu(&linear1(x)?)?, relu(&linear1(x)?)?], 1)?.squeeze(0).map_err(Error::from);
    let above = |h: &Tensor| linear2(&(h.narrow(1, 0, 4)? + h.narrow(1, 4, 4)?)?);
    let target = Target::Logit(record.count("target")?);
    let peer = Peer::new("gausslegendre", record.count("n_steps")?)?;
    let explained = peer.explain(|h| target.of(&above(h)?), &both(&inputs[0])?, &both(&baselines[0])?)?;
    let halves = explained.attribution.scores.chunks(4).map(|half| Value::Numbers(vec![1, 4], half.to_vec()));
    record.against("expected", &halves.collect::<Vec<_>>(), dtype)
}

/// h · ∂f/∂h for the output h of a layer.
pub fn layer_gradient_x_activation(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    type Layer = (&'static str, fn(&Tensor) -> Result<Tensor>);
    const LAYERS: [Layer; 4] =
        [("linear0", |x| Ok(x.clone())), ("linear1", linear1), ("relu", relu), ("linear2", linear2)];
    if record.word("model")? != toys::MULTI_LAYER {
        return Err("another network".into());
    }
    let place = LAYERS.iter().position(|(name, _)| rest.strip_suffix(')') == Some(name)).ok_or("another layer")?;
    let walk = |x: Tensor, layers: &[Layer]| layers.iter().try_fold(x, |x, (_, layer)| layer(&x));
    let h = walk(Value::nested(&record.need("input")?[0])?.tensor(dtype)?, &LAYERS[..=place])?;
    let target = Target::Logit(record.count("target")?);
    let f = |h: &Tensor| target.of(&walk(h.clone(), &LAYERS[place + 1..])?);
    let rows = (0..h.dim(0)?).map(|b| Ok(gradient_x_input(f, &h.get(b)?)?.scores)).collect::<Fallible<Vec<_>>>()?;
    record.against("expected", &[Value::Numbers(h.dims().to_vec(), rows.concat())], dtype)
}

/// Rollout of maps `(L,h,t,t)`.
pub fn rollout(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let maps = layers(&Value::nested(record.need("input")?)?.tensor(dtype)?)?;
    let rolled = Value::of(&pellucid::rollout(&maps, &Rollout::default())?.squeeze(0)?)?;
    record.against_one("expected", &rolled, dtype)
}

/// What is walked back through an activation whose gate is frozen: the first row is x, the second what comes from above.
pub fn identity_rule(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    if record.word("model")? != "silu" {
        return Err("another activation".into());
    }
    let rows = Value::nested(record.need("input")?)?.tensor(dtype)?;
    let (x, above) = (rows.narrow(0, 0, 1)?.unsqueeze(0)?, rows.narrow(0, 1, 1)?);
    let frozen = Rules::exact().with(Rule::Activation, Rules::libragrad());
    let silu = Chain::new(vec![Stage::Activation(Activation::Silu)]).under(frozen);
    let f = |x: &Tensor| Ok(silu.forward(x, None, &mut Clear)?.broadcast_mul(&above)?.sum((1, 2))?);
    record.against_one("expected", &Value::of(&grad_at(f, &x)?.flatten_all()?)?, dtype)
}

/// Log-odds of spans, a row of tokens each.
pub fn span(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let rows = Value::nested(record.need("input")?)?.tensor(dtype)?.to_vec2::<f64>()?;
    let spans = rows.iter().map(|row| span_logit(row)).collect::<Result<Vec<_>>>()?;
    record.against_one("expected", &spans.as_slice().into(), dtype)
}

/// Scores example by example, gathered into the inputs' shapes.
pub fn each(
    record: &Record,
    dtype: DType,
    scores: impl Fn(&Problem, usize) -> Fallible<Vec<f64>>,
) -> Fallible<Vec<Check>> {
    let problem = Problem::new(record, dtype)?;
    let scores: Vec<_> = (0..problem.examples()).map(|b| scores(&problem, b)).collect::<Fallible<_>>()?;
    record.against("expected", &problem.gather(&scores), dtype)
}

/// That a method's name ends here.
pub fn nothing_more(rest: &str) -> Fallible<()> {
    if rest.is_empty() { Ok(()) } else { Err(format!("the rest of the method, `{rest}`, is not known").into()) }
}
