//! Captum's explanations of its two toy language models: by the fields of a template, and by embeddings.

use candle_core::DType;
use pellucid::prelude::*;

use super::dummy::{DUMMY, Dummy};
use super::methods::nothing_more;
use super::record::Record;
use super::template::Template;
use crate::reference_runner::Fallible;
use crate::reference_runner::check::Check;
use crate::reference_runner::peer::{Explained, Peer};
use crate::reference_runner::value::Value;

const REMOTE: &str = "DummyRemoteLLMProvider: logprob of token i of (prompt+target) = -0.1-0.01*i, minus 0.1 if 'a' absent \
    from prompt+target text, 0.2 if 'c', 0.3 if 'd', 0.4 if 'f' absent; returns last n_target values";

/// ln p of the tokens of a target after a template's text, as a function of which fields are there: `(n,s) → (n,o)`.
struct Game {
    template: Template,
    target: String,
    log_probs: fn(&[String], &str, DType) -> Result<Tensor>,
    dtype: DType,
}

impl Game {
    fn new(record: &Record, dtype: DType) -> Fallible<Self> {
        let template = Template::new(record.need("template")?, record.need("values")?)?;
        let target = record.word("target")?.to_owned();
        let all = template.text(&vec![1.0; template.parts()?.len()]);
        same(record, "target_text", &Value::Words(vec![target.clone()]))?;
        same_ids(record, &all, &target)?;
        let log_probs = match record.word("model")? {
            DUMMY => dummy,
            REMOTE => remote,
            other => return Err(format!("the language model `{other}` is not known").into()),
        };
        Ok(Self { template, target, log_probs, dtype })
    }

    fn f(&self, present: &Tensor) -> Result<Tensor> {
        let rows = present.to_dtype(DType::F64)?.to_vec2()?;
        let prompts: Vec<String> = rows.iter().map(|row| self.template.text(row)).collect();
        (self.log_probs)(&prompts, &self.target, self.dtype)
    }

    /// Every field there, and none.
    fn ends(&self) -> Fallible<(Tensor, Tensor)> {
        let parts = self.template.parts()?;
        Ok((parts.all()?.to_dtype(self.dtype)?, parts.none()?.to_dtype(self.dtype)?))
    }

    fn explained(&self, method: &str) -> Fallible<Attribution> {
        let (all, none) = self.ends()?;
        let (f, groups) = (|present: &Tensor| self.f(present), Groups::elements(&all));
        Ok(match method {
            "FeatureAblation" | "FeatureAblation, attr_target=log_prob" => feature_ablation(f, &all, &none, &groups)?,
            "ShapleyValues" => shapley_values(f, &all, &none, &groups)?,
            "KernelShap" => kernel_shap(f, &all, &none, &groups, &Coalitions::new(1000, 0))?,
            other => return Err(format!("the method `{other}` is not known").into()),
        })
    }
}

fn dummy(prompts: &[String], target: &str, dtype: DType) -> Result<Tensor> {
    let model = Dummy::new(dtype)?;
    let x = prompts.iter().map(|prompt| model.embed(&Dummy::prompt(prompt))).collect::<Result<Vec<_>>>()?;
    model.log_probs(&Tensor::stack(&x, 0)?, &Dummy::ids(target))
}

fn remote(prompts: &[String], target: &str, dtype: DType) -> Result<Tensor> {
    let outputs = target.split(' ').count();
    let row = |prompt: &String| {
        let text = format!("{prompt} {target}");
        let missing = [('a', 0.1), ('c', 0.2), ('d', 0.3), ('f', 0.4)].into_iter().filter(|(c, _)| !text.contains(*c));
        let less: f64 = missing.map(|(_, less)| less).sum();
        let tokens = text.split(' ').count();
        (tokens - outputs..tokens).map(|i| -0.1 - 0.01 * i as f64 - less).collect::<Vec<_>>()
    };
    let values: Vec<f64> = prompts.iter().flat_map(row).collect();
    Ok(Tensor::from_vec(values, (prompts.len(), outputs), &Device::Cpu)?.to_dtype(dtype)?)
}

/// Scores of fields, for each token or for all: `METHOD / METHOD).token_attr`, each of the methods named.
pub fn by_fields(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    let (methods, what) = rest.split_once(").").ok_or("no method in parentheses")?;
    let game = Game::new(record, dtype)?;
    let scores = |method: &str| {
        let explained = game.explained(method)?;
        match what {
            "seq_attr" => Ok(explained.scores.as_slice().into()),
            "token_attr" | "token_attr (n_out x n_features)" => matrix(explained.outputs.into_iter().map(|o| o.scores)),
            other => Err(format!("the result `{other}` is not known").into()),
        }
    };
    let checks = methods.split(" / ").map(|method| against(record, &scores(method)?, dtype));
    Ok(checks.collect::<Fallible<Vec<_>>>()?.concat())
}

/// Against the numbers of the tests, and where there are more digits, in `f64`, against all of them.
fn against(record: &Record, got: &Value, dtype: DType) -> Fallible<Vec<Check>> {
    let mut checks = record.against_one("expected", got, dtype)?;
    if let (Some(digits), DType::F64) = (record.get("high_precision"), dtype) {
        checks.push(Check::new("high_precision", dtype, got, &Value::nested(digits)?, 1e-9));
    }
    Ok(checks)
}

fn matrix(rows: impl Iterator<Item = Vec<f64>>) -> Fallible<Value> {
    let rows: Vec<_> = rows.collect();
    let width = rows.first().ok_or("no outputs")?.len();
    Ok(Value::Numbers(vec![rows.len(), width], rows.concat()))
}

/// ln p of the target's tokens with every field there.
pub fn log_probs(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let game = Game::new(record, dtype)?;
    outcomes(record, &game, &game.ends()?.0)
}

/// The same with none there.
pub fn log_probs_of_none(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let game = Game::new(record, dtype)?;
    outcomes(record, &game, &game.ends()?.1)
}

fn outcomes(record: &Record, game: &Game, present: &Tensor) -> Fallible<Vec<Check>> {
    against(record, &Value::of(&game.f(&present.unsqueeze(0)?)?.squeeze(0)?)?, game.dtype)
}

/// Integrated Gradients over the embeddings of a prompt.
pub fn by_embeddings(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    let rule = match rest {
        " token_attr" => "gausslegendre",
        " riemann_trapezoid token_attr" => "riemann_trapezoid",
        other => return Err(format!("the rest of the method, `{other}`, is not known").into()),
    };
    if (record.word("model")?, record.word("baseline")?) != (DUMMY, "token id 0") {
        return Err("another model or baseline".into());
    }
    let (text, target) = (record.word("prompt_text")?, record.word("target")?);
    same_ids(record, text, target)?;
    let (model, prompt, said) = (Dummy::new(dtype)?, Dummy::prompt(text), Dummy::ids(target));
    let (x, baseline) = (model.embed(&prompt)?, model.embed(&vec![0; prompt.len()])?);
    let peer = Peer::new(rule, record.count("n_steps")?)?;
    let (sum, each) = peer.explain_each(|x| model.log_probs(x, &said), &x, &baseline)?;
    path_checks(record, &sum, &each, prompt.len(), dtype)
}

fn path_checks(
    record: &Record,
    sum: &Explained,
    each: &[Explained],
    tokens: usize,
    dtype: DType,
) -> Fallible<Vec<Check>> {
    let by_token =
        |scores: &[f64]| scores.chunks(scores.len() / tokens).map(|row| row.iter().sum()).collect::<Vec<f64>>();
    let deltas: Vec<f64> = each.iter().map(|e| e.delta).collect();
    let mut checks = against(record, &matrix(each.iter().map(|e| by_token(&e.attribution.scores)))?, dtype)?;
    checks.extend(record.against_one("expected_convergence_delta", &deltas.as_slice().into(), dtype)?);
    if record.get("seq_attr").is_some() {
        checks.extend(record.against_one("seq_attr", &by_token(&sum.attribution.scores).as_slice().into(), dtype)?);
    }
    Ok(checks)
}

fn same_ids(record: &Record, prompt: &str, target: &str) -> Fallible<()> {
    same(record, "prompt_ids", &Dummy::prompt(prompt).as_slice().into())?;
    same(record, "target_ids", &Dummy::ids(target).as_slice().into())
}

fn same(record: &Record, field: &str, ours: &Value) -> Fallible<()> {
    match record.get(field).map(Value::nested).transpose()? {
        Some(theirs) if theirs != *ours => Err(format!("{field}: {ours:?}, and the case has {theirs:?}").into()),
        _ => Ok(()),
    }
}
