//! Explanations of a continuation's log-probabilities, token by token and whole, over the tokens of its prompt.

use pellucid::model::text::Text;
use pellucid::prelude::*;

use super::Fallible;
use super::case::Run;
use super::kinds::Got;
use super::peer::Peer;
use super::value::Value;

/// ln p of a target token, as the files write it.
pub const LOG_PROBABILITY: &str = "log_softmax(logits[-1])[target token]";

/// A prompt, what follows it, and the tokens that scores are for: the others stay in the prompt and have no column.
struct Said {
    llm: CausalLm,
    prompt: Text,
    said: Continuation,
    kept: Vec<usize>,
    x: Tensor,
    baseline: Tensor,
}

impl Said {
    fn new(run: &Run) -> Fallible<Self> {
        let (llm, skip) = (run.llm()?, run.ids("skip_tokens")?);
        let prompt = run.prompt(&llm)?;
        let skipped = |id: &u32| skip.contains(id);
        let flags: Vec<u32> = prompt.ids().iter().map(|id| u32::from(!skipped(id))).collect();
        run.same("kept", &flags.as_slice().into())?;
        let kept = (0..flags.len()).filter(|&i| flags[i] == 1).collect();
        let stays = (0..flags.len()).filter(|&i| flags[i] == 0);
        let absent = Baseline::id(run.count("baseline_id")? as u32).everywhere();
        let baseline = llm.baseline(&prompt, &stays.fold(absent, |absent, i| absent.keeping(i..i + 1)))?;
        let said = continuation(run, &llm, &prompt, skipped)?;
        Ok(Self { x: llm.embed(&prompt)?, llm, prompt, said, kept, baseline })
    }

    /// `(n,t,c) → (n,o)`.
    fn log_probs(&self, x: &Tensor) -> Result<Tensor> {
        self.llm.log_probs(&self.said, x)
    }

    /// `(n,t,c) → (n,)`.
    fn log_prob(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.log_probs(x)?.sum(1)?)
    }

    /// A row of the kept tokens' scores, from scores over elements or tokens.
    fn row(&self, scores: Attribution) -> Fallible<Vec<f64>> {
        let scores = scores.over(&self.prompt)?.scores;
        Ok(self.kept.iter().map(|&i| scores[i]).collect())
    }

    /// The same of every output: a matrix, a row each.
    fn matrix(&self, outputs: Vec<Attribution>) -> Fallible<Value> {
        let shape = vec![outputs.len(), self.kept.len()];
        let rows = outputs.into_iter().map(|output| self.row(output)).collect::<Fallible<Vec<_>>>()?;
        Ok(Value::Numbers(shape, rows.concat()))
    }
}

/// The target text, without the tokens that Captum's `skip_tokens` takes out of targets as well.
fn continuation(run: &Run, llm: &CausalLm, prompt: &Text, skipped: impl Fn(&u32) -> bool) -> Fallible<Continuation> {
    let mut said = llm.continuation(prompt, &run.input("target_text")?.words()?[0])?;
    if said.ids().iter().any(&skipped) {
        let rest = said.ids().into_iter().filter(|id| !skipped(id)).map(|id| llm.tokenizer().piece(id));
        said = llm.continuation(prompt, rest.collect::<Result<String>>()?)?;
    }
    run.same("target_ids", &said.ids().as_slice().into())?;
    run.same_spelling("target_tokens", &said.ids(), llm)?;
    Ok(said)
}

/// Integrated Gradients: of every token together, and of their sum with one walk back.
pub fn integrated_gradients(run: &Run) -> Fallible<Got> {
    run.says("F", LOG_PROBABILITY)?;
    let said = Said::new(run)?;
    let peer = Peer::new(run.word("method")?, run.count("n_steps")?)?;
    let (sum, each) = peer.explain_each(|x| said.log_probs(x), &said.x, &said.baseline)?;
    let alone = peer.explain(|x| said.log_prob(x), &said.x, &said.baseline)?;
    let differences: Vec<f64> = each.iter().map(|e| e.ends.0 - e.ends.1).collect();
    let deltas: Vec<f64> = each.iter().map(|e| e.delta).collect();
    Ok(Got::from([
        ("token_attr".into(), said.matrix(each.into_iter().map(|e| e.attribution).collect())?),
        ("seq_attr, of all tokens".into(), said.row(sum.attribution)?.as_slice().into()),
        ("seq_attr, with one walk back".into(), said.row(alone.attribution)?.as_slice().into()),
        ("token_logprob_diff".into(), differences.as_slice().into()),
        ("delta_per_target".into(), deltas.as_slice().into()),
    ]))
}

/// Drops without each token: of every token's log-probability together, and of their sum.
pub fn ablation(run: &Run) -> Fallible<Got> {
    run.says("attr_target", "log_prob")?;
    let said = Said::new(run)?;
    let groups = Groups::rows(&said.x);
    let each = feature_ablation(|x| said.log_probs(x), &said.x, &said.baseline, &groups)?;
    let alone = feature_ablation(|x| said.log_prob(x), &said.x, &said.baseline, &groups)?;
    let outputs = (0..said.said.len()).map(|j| each.output(j)).collect::<Result<_>>()?;
    Ok(Got::from([
        ("token_attr".into(), said.matrix(outputs)?),
        ("seq_attr, of all tokens".into(), said.row(each)?.as_slice().into()),
        ("seq_attr, of the sum".into(), said.row(alone)?.as_slice().into()),
        ("target_logprobs".into(), Value::of(&said.log_probs(&said.x.unsqueeze(0)?)?.squeeze(0)?)?),
    ]))
}

/// Drops of probabilities.
pub fn ablation_of_probabilities(run: &Run) -> Fallible<Got> {
    run.says("attr_target", "prob")?;
    let said = Said::new(run)?;
    let f = |x: &Tensor| Ok(said.log_probs(x)?.exp()?);
    let each = feature_ablation(f, &said.x, &said.baseline, &Groups::rows(&said.x))?;
    let outputs = (0..said.said.len()).map(|j| each.output(j)).collect::<Result<_>>()?;
    Ok(Got::from([("token_attr".into(), said.matrix(outputs)?)]))
}
