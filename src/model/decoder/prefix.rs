//! What variants of a text share at their beginning is computed once.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::CausalLm;
use crate::model::blocks::{Chain, Position, Setting, Stage};
use crate::model::hook::{Clear, Hook, Record, Site};
use crate::model::text::Continuation;
use crate::tensor::numbers;
use crate::{Error, Result};

/// Where the tokens of a prompt stand, and from which position on those that follow it; in a row from 0 by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Places {
    prompt: Vec<Position>,
    next: u32,
}

impl Places {
    /// Of the prompt's tokens, and of the first after them.
    pub fn new(prompt: Vec<Position>, next: u32) -> Self {
        Self { prompt, next }
    }

    /// Those of the first tokens.
    pub fn of_all(&self, tokens: usize) -> Vec<Position> {
        let in_a_row = || (0..tokens as u32).map(|place| [place; 3]).collect();
        self.of(0..tokens).map_or_else(in_a_row, |places| places.to_vec())
    }

    /// Those of some tokens; `None` where all tokens stand in a row.
    fn of(&self, tokens: Range<usize>) -> Option<Arc<[Position]>> {
        let follows = |token: usize| [self.next + (token - self.prompt.len()) as u32; 3];
        let place = |token: usize| self.prompt.get(token).copied().unwrap_or_else(|| follows(token));
        (!self.prompt.is_empty()).then(|| tokens.map(place).collect())
    }
}

/// The tokens so far: their queries, keys and values, `(1,p,·)` for each layer, and where all tokens stand. A KV cache, empty
/// before the first token.
#[derive(Clone, Default)]
pub(crate) struct Past {
    layers: Vec<Tensor>,
    places: Arc<Places>,
    /// Which of them each example sees, `(n,p)`, if some are hidden.
    seen: Option<Arc<[bool]>>,
}

impl Past {
    /// Before the first token of a text whose tokens stand at these places.
    pub fn before(places: Places) -> Self {
        Self { places: Arc::new(places), ..Self::default() }
    }

    /// How many tokens there were.
    fn len(&self) -> usize {
        self.layers.first().map_or(0, |past| past.dims()[1])
    }

    /// A layer's attention over new tokens and those before.
    pub fn attend(&self, attention: &Chain, layer: usize, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let positions = self.places.of(self.len()..self.len() + x.dim(1)?);
        let past = self.layers.get(layer).cloned();
        let past_mask = self.seen.clone();
        attention.forward_in(x, Setting { past, past_mask, positions, ..Setting::default() }, hook)
    }

    /// With the tokens following that a record has of every layer.
    fn and(&self, record: &Record) -> Result<Self> {
        let new = record.all()?;
        let layers = match self.layers.is_empty() {
            true => new,
            false => {
                let both = self.layers.iter().zip(&new).map(|(old, new)| Tensor::cat(&[old, new], 1));
                both.collect::<candle_core::Result<_>>()?
            }
        };
        Ok(Self { layers, ..self.clone() })
    }

    /// For several examples, of which each sees only some of its tokens, `(n,p)`.
    pub fn seen_by(&self, examples: &[Vec<bool>]) -> Self {
        Self { seen: Some(examples.concat().into()), ..self.clone() }
    }

    /// Its first tokens alone.
    fn first(&self, tokens: usize) -> Result<Self> {
        let layers = match tokens {
            0 => Vec::new(),
            _ => self.layers.iter().map(|past| past.narrow(1, 0, tokens)).collect::<candle_core::Result<_>>()?,
        };
        Ok(Self { layers, ..self.clone() })
    }
}

impl CausalLm {
    /// Whether it runs on a CPU, where what is shared is worth more than a large batch.
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.0.words.device().is_cpu()
    }

    /// The blocks over the tokens `(1,t,c)` after a past: their output, and the past that now ends with them.
    pub(crate) fn extend(&self, past: &Past, x: &Tensor) -> Result<(Tensor, Past)> {
        let mut record = Record::of_layers(Site::Qkv, self.layers());
        let y = self.blocks(x.clone(), past, &mut record)?;
        Ok((y, past.and(&record)?))
    }

    /// A text, read for others to follow it.
    ///
    /// Errors: no tokens; an id beyond the vocabulary.
    pub(crate) fn past_of(&self, ids: &[u32]) -> Result<Past> {
        Ok(self.extend(&Past::default(), &self.embed_ids(ids)?.unsqueeze(0)?)?.1)
    }

    /// Logits over the vocabulary, `(n,o,v)`, at each of the o places of a continuation that follows the rest of a prompt, after a
    /// past of which each of n examples sees some tokens, `(n,p)`.
    ///
    /// Errors: nothing is left of the prompt; an id beyond the vocabulary; longer than the context; so long that what was read before
    /// would be read otherwise.
    pub(crate) fn continuation_logits_past(
        &self,
        past: &Past,
        seen: &[Vec<bool>],
        rest: &[u32],
        said: &Continuation,
    ) -> Result<Tensor> {
        let Some(start) = rest.len().checked_sub(1) else {
            return Err(Error::argument(
                "the prompt ends with its context, and nothing after it can be read anew: let a question follow, or ask exactly",
            ));
        };
        let ids = said.ids();
        self.fits(past.len() + rest.len() + ids.len())?;
        if self.stretches(past.len() + rest.len() + ids.len() - 1) {
            return Err(Error::argument(
                "beyond the length it was trained with, this model reads every token by the whole text's length, so no context can \
                 be read once for all masks: ask exactly",
            ));
        }
        let x = self.embed_ids(&[rest, &ids[..ids.len() - 1]].concat())?;
        let cores = if self.is_on_cpu() { rayon::current_num_threads() } else { 1 };
        let follow = |seen: &[Vec<bool>]| {
            let x = x.unsqueeze(0)?.broadcast_as((seen.len(), x.dim(0)?, x.dim(1)?))?.contiguous()?;
            let starts = vec![start; seen.len()];
            self.blocks_at(&x, &past.seen_by(seen), &starts, ids.len(), self.to_logits(), &mut Clear)
        };
        let outcomes = seen.par_chunks(seen.len().div_ceil(cores)).map(follow).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&outcomes, 0)?)
    }

    /// `tail` of the last block's output at the last `count` tokens of each prompt followed by `rest`: the prompts shared out over
    /// the cores, as many neighbours to each.
    pub(crate) fn follow_each_alone(
        &self,
        prompts: &[Vec<u32>],
        rest: &[u32],
        count: usize,
        tail: &[Stage],
    ) -> Result<Tensor> {
        let neighbours = prompts.par_chunks(prompts.len().div_ceil(rayon::current_num_threads()));
        let outcomes =
            neighbours.map(|some| self.follow_in_turn(some, rest, count, tail)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&outcomes, 0)?)
    }

    /// One prompt after the other; of each, only what follows its common beginning with the one before is computed: prompts in
    /// the order of their words share most. Nothing is shared where one is so long that its beginning is read otherwise.
    pub(super) fn follow_in_turn(
        &self,
        prompts: &[Vec<u32>],
        rest: &[u32],
        count: usize,
        tail: &[Stage],
    ) -> Result<Tensor> {
        let (mut before, mut past) = (Vec::new(), Past::default());
        let mut outcomes = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let ids = [prompt, rest].concat();
            let shares = !self.stretches(ids.len().max(before.len()));
            let alike = ids.iter().zip(&before).take_while(|(a, b)| shares && a == b).count();
            let (known, mut record) = (alike.min(ids.len() - count), Record::of_layers(Site::Qkv, self.layers()));
            let x = self.embed_ids(&ids[known..])?.unsqueeze(0)?;
            past = past.first(known)?;
            outcomes.push(self.blocks_at(&x, &past, &[x.dim(1)? - count], count, tail.to_vec(), &mut record)?);
            past = past.and(&record)?;
            before = ids;
        }
        Ok(Tensor::cat(&outcomes, 0)?)
    }

    /// Embeddings `(n,t,c)` of what follows a past → `tail` of the last block's output at `count` tokens of each example, from the
    /// one where it starts.
    ///
    /// Where no gradient is asked for, the last variant goes first, and of the others only what follows their common
    /// beginning with it is computed: variants in the order of their changes share much.
    pub(crate) fn run(
        &self,
        past: &Past,
        x: &Tensor,
        starts: &[usize],
        count: usize,
        tail: Vec<Stage>,
    ) -> Result<Tensor> {
        let (n, before) = (x.dim(0)?, past.len());
        let (Some(&last), false, true) = (starts.last(), x.track_op(), n > 1) else {
            return self.blocks_at(x, past, starts, count, tail, &mut Clear);
        };
        let (hidden, past) = self.extend(past, &x.narrow(0, n - 1, 1)?)?;
        let shared = shared_beginnings(x)?;
        let mut outcomes = Vec::new();
        // A graphics processor has more to gain from one large batch than from what is shared.
        let together = if x.device().is_cpu() { TOGETHER } else { n };
        for from in (0..n - 1).step_by(together) {
            let some = from..(from + together).min(n - 1);
            let known = some.clone().map(|i| shared[i].min(starts[i])).min().unwrap_or(0);
            let rest = x.narrow(0, from, some.len())?.narrow(1, known, x.dim(1)? - known)?;
            let starts: Vec<usize> = starts[some].iter().map(|start| start - known).collect();
            outcomes.push(self.blocks_at(
                &rest,
                &past.first(before + known)?,
                &starts,
                count,
                tail.clone(),
                &mut Clear,
            )?);
        }
        outcomes.push(Chain::new(tail).forward(&hidden.narrow(1, last, count)?, None, &mut Clear)?);
        Ok(Tensor::cat(&outcomes, 0)?)
    }
}

/// So many variants are computed at a time on a CPU, from where the first of them differs.
const TOGETHER: usize = 8;

/// For each variant, how many tokens it shares at its beginning with the last one.
fn shared_beginnings(x: &Tensor) -> Result<Vec<usize>> {
    let (n, t, _) = x.dims3()?;
    let apart = x.ne(&x.narrow(0, n - 1, 1)?.broadcast_as(x.shape())?)?.max(2)?;
    let same = |row: &[f64]| row.iter().position(|&apart| apart != 0.0).unwrap_or(t);
    Ok(numbers(&apart)?.chunks(t).map(same).collect())
}
