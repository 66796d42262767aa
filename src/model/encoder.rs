//! Pre-norm transformer blocks, as image models and CLIP's text tower have them.
//!
//! x ← x + Attention(LN(x)), then x ← x + MLP(LN(x)) (Dosovitskiy et al. 2021, arXiv 2010.11929, eqs. 2 and 3).

use std::ops::Range;

use candle_core::Tensor;

use super::blocks::{Activation, Attention, Chain, Linear, Rope, Stage};
use super::hook::{Clear, Hook, Record, Site, check_sites};
use super::rules::Rules;
use super::weights::Weights;
use crate::{Error, Result};

/// What the weights of a block are called.
pub(crate) struct Names {
    /// What comes before a block's number.
    pub blocks: &'static str,
    pub norms: [&'static str; 2],
    pub qkv: Qkv,
    pub out: &'static str,
    pub mlp: [&'static str; 2],
    /// The feed-forward network's gate, where it is a matrix of its own. Where the first matrix is twice as wide as the second reads,
    /// the gate is its first half.
    pub gate: &'static str,
    /// A norm before the feed-forward network's second matrix, where a checkpoint has it (Shleifer et al. 2021, arXiv 2110.09456).
    pub mlp_norm: &'static str,
    /// What two tokens' scores have for how they stand to each other, where a checkpoint has it: a table `(d,h)` over
    /// displacements, and timm's index into it, which follows from the grid.
    pub displacements: [&'static str; 2],
    /// LayerScale of both branches, where a checkpoint has it (Touvron et al. 2021, arXiv 2103.17239).
    pub scales: [&'static str; 2],
}

/// Nothing yet: what a table of names starts from.
pub(crate) const NAMELESS: Names = Names {
    blocks: "",
    norms: ["", ""],
    qkv: Qkv::Apart(["", "", ""]),
    out: "",
    mlp: ["", ""],
    gate: "",
    mlp_norm: "",
    displacements: ["", ""],
    scales: ["", ""],
};

/// Queries, keys and values: three projections, or one with their rows stacked, by its weight's and bias's whole names.
pub(crate) enum Qkv {
    Apart([&'static str; 3]),
    Packed([&'static str; 2]),
    /// The same with query, key and value of each head next to each other.
    Interleaved([&'static str; 2]),
    /// The same with a bias for queries and one for values, and none for keys; or apart, if a checkpoint has them so.
    Keyless {
        packed: &'static str,
        biases: [&'static str; 2],
        apart: [&'static str; 3],
    },
}

/// What the weights do not tell.
pub(crate) struct Form {
    /// How many blocks the configuration promises, if it says so.
    pub layers: Option<usize>,
    pub heads: usize,
    pub eps: f64,
    pub activation: Activation,
    pub causal: bool,
    /// How queries and keys turn, if they do.
    pub rope: Option<Rope>,
    /// Rows and columns of patches behind a class token, where scores depend on them.
    pub grid: [usize; 2],
}

/// A stack of pre-norm blocks.
#[derive(Clone)]
pub(crate) struct Encoder {
    blocks: Vec<Block>,
    /// Whether attention depends on where tokens stand, so that there must be as many as there are places.
    placed: bool,
}

/// What attention adds, and then what the feed-forward network adds.
#[derive(Clone)]
pub(crate) struct Block {
    pub attention: Chain,
    pub feed_forward: Chain,
}

impl Block {
    /// `(n,t,c) → (n,t,c)`.
    pub fn forward(&self, x: &Tensor, mask: Option<&[bool]>, hook: &mut dyn Hook) -> Result<Tensor> {
        self.feed_forward.forward(&self.attention.forward(x, mask, hook)?, mask, hook)
    }

    /// The same, walked back by these rules.
    pub fn under(&self, rules: Rules) -> Self {
        Self { attention: self.attention.under(rules), feed_forward: self.feed_forward.under(rules) }
    }

    /// Every site in it.
    pub fn sites(&self) -> impl Iterator<Item = Site> {
        self.attention.sites().chain(self.feed_forward.sites())
    }
}

impl Encoder {
    /// The blocks of a checkpoint; `lead` is what happens to embeddings before the first.
    pub fn load(weights: &Weights, names: &Names, form: &Form, lead: Vec<Stage>) -> Result<Self> {
        let layers = weights.blocks(names.blocks, form.layers)?;
        let mut blocks = (0..layers).map(|l| block(weights, names, form, l)).collect::<Result<Vec<_>>>()?;
        blocks[0].attention = blocks[0].attention.after([vec![Stage::At(Site::Embed)], lead].concat());
        Ok(Self { blocks, placed: form.rope.is_some() || !names.displacements[0].is_empty() })
    }

    /// The same, walked back by these rules.
    pub fn under(&self, rules: Rules) -> Self {
        Self { blocks: self.blocks.iter().map(|block| block.under(rules)).collect(), ..*self }
    }

    /// Whether there must be as many tokens as the model has places.
    pub fn is_placed(&self) -> bool {
        self.placed
    }

    /// The same for some of the tokens, where there are places for all.
    pub fn keeping(&self, kept: &[bool]) -> Result<Self> {
        let blocks = self.blocks.iter().map(|block| {
            let attention = block.attention.keeping(kept)?;
            Ok(Block { attention, ..block.clone() })
        });
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, ..*self })
    }

    /// How many blocks there are.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// `(n,t,c) → (n,t,c)`, with a hook at the named places.
    ///
    /// Errors: also a site that the network does not have.
    pub fn forward(&self, x: &Tensor, mask: Option<&[bool]>, hook: &mut dyn Hook) -> Result<Tensor> {
        check_sites(hook, self.blocks.iter().flat_map(Block::sites))?;
        let forward = |x: Tensor, block: &Block| block.forward(&x, mask, hook);
        self.blocks.iter().try_fold(x.clone(), forward)
    }

    /// `(n,t,c) → (n,k,c)`: what a head reads that looks at k tokens only. After the last attention, the others are dropped.
    pub fn forward_at(&self, x: &Tensor, mask: Option<&[bool]>, tokens: Range<usize>) -> Result<Tensor> {
        let (last, before) = self.blocks.split_last().ok_or_else(|| Error::argument("there are no blocks"))?;
        let x = before.iter().try_fold(x.clone(), |x, block| block.forward(&x, mask, &mut Clear))?;
        let x = last.attention.forward(&x, mask, &mut Clear)?.narrow(1, tokens.start, tokens.len())?;
        last.feed_forward.forward(&x, None, &mut Clear)
    }

    /// Every layer's attention pattern, `L × (n,h,t,t)`. What the last block makes of its own is not worked out.
    pub fn attention(&self, x: &Tensor, mask: Option<&[bool]>) -> Result<Vec<Tensor>> {
        match x.device().is_cpu() {
            // Seen layer by layer, the network is many short pieces of work, which rayon hands over fastest from a thread of its own.
            true => rayon::scope(|_| self.patterns(x, mask)),
            false => self.patterns(x, mask),
        }
    }

    fn patterns(&self, x: &Tensor, mask: Option<&[bool]>) -> Result<Vec<Tensor>> {
        let (last, before) = self.blocks.split_last().ok_or_else(|| Error::argument("there are no blocks"))?;
        let mut record = Record::of_layers(Site::Pattern, before.len());
        let x = before.iter().try_fold(x.clone(), |x, block| block.forward(&x, mask, &mut record))?;
        let mut patterns = record.all()?;
        patterns.push(last.attention.pattern(&x, mask)?);
        Ok(patterns)
    }
}

/// Where a block's weights are, what they are called, and how wide its tokens are.
struct Part<'a> {
    weights: &'a Weights,
    names: &'a Names,
    form: &'a Form,
    /// The block's number.
    l: usize,
    /// What all its names begin with.
    stem: String,
    channels: usize,
}

fn block(weights: &Weights, names: &Names, form: &Form, l: usize) -> Result<Block> {
    let stem = format!("{}{l}.", names.blocks);
    weights.only(&stem, &names.all())?;
    let (c, heads) = (weights.rows(&format!("{stem}{}.weight", names.norms[0])).unwrap_or(0), form.heads);
    if !c.is_multiple_of(heads) {
        return Err(Error::argument(format!("{c} channels cannot be shared out evenly over {heads} attention heads")));
    }
    let part = Part { weights, names, form, l, stem, channels: c };
    Ok(Block { attention: part.attention()?, feed_forward: part.feed_forward()? })
}

impl Part<'_> {
    fn attention(&self) -> Result<Chain> {
        let (l, c, heads) = (self.l, self.channels, self.form.heads);
        let attention = match self.form.causal {
            true => Attention::causal(heads, heads)?,
            false => Attention::new(heads)?,
        };
        let attention = match self.displaced()? {
            Some(bias) => attention.biased(bias)?,
            None => attention,
        };
        let mut branch = vec![self.norm(self.names.norms[0])?, Stage::Linear(self.qkv()?)];
        branch.extend(self.form.rope.clone().map(Stage::Rope));
        branch.extend([
            Stage::At(Site::Qkv(l)),
            Stage::Attention(attention, Site::Pattern(l)),
            Stage::At(Site::Z(l)),
            Stage::Linear(self.scaled(self.linear(self.names.out, c, c)?, self.names.scales[0])?),
            Stage::At(Site::AttnOut(l)),
        ]);
        Ok(Chain::new(vec![
            Stage::At(Site::ResidPre(l)),
            Stage::At(Site::AttnBias(l)),
            Stage::Residual(branch),
            Stage::At(Site::ResidMid(l)),
        ]))
    }

    fn feed_forward(&self) -> Result<Chain> {
        let (l, c, second, activation) = (self.l, self.channels, self.names.mlp[1], self.form.activation);
        let read = self.weights.columns(&self.full(&format!("{second}.weight"))).unwrap_or(0);
        let (first, wide) = self.widened()?;
        let between = Stage::between(wide, read, activation);
        let mut branch = vec![self.norm(self.names.norms[1])?, Stage::Linear(first), between];
        let norm = self.full(self.names.mlp_norm);
        if self.weights.contains(&format!("{norm}.weight")) {
            branch.push(Stage::LayerNorm(self.weights.layer_norm(&norm, read, self.form.eps)?));
        }
        branch.push(Stage::Linear(self.scaled(self.linear(second, read, c)?, self.names.scales[1])?));
        branch.push(Stage::At(Site::MlpOut(l)));
        let stages = vec![Stage::At(Site::MlpBias(l)), Stage::Residual(branch), Stage::At(Site::ResidPost(l))];
        Ok(Chain::new(stages))
    }

    /// The feed-forward network's first matrix, behind its gate if that is another, and how wide they are.
    fn widened(&self) -> Result<(Linear, usize)> {
        let parts = [self.names.gate, self.names.mlp[0]].into_iter().filter(|name| !name.is_empty()).map(|name| {
            let wide = self.weights.rows(&self.full(&format!("{name}.weight"))).unwrap_or(0);
            Ok((self.linear(name, self.channels, wide)?, wide))
        });
        let (parts, widths): (Vec<_>, Vec<_>) = parts.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok((Linear::stacked(&parts)?, widths.iter().sum()))
    }

    /// What scores have for how tokens stand to each other, `(h,t,t)`, if they have.
    fn displaced(&self) -> Result<Option<Tensor>> {
        let ([rows, columns], [name, _]) = (self.form.grid, self.names.displacements);
        if name.is_empty() {
            return Ok(None);
        }
        let count = (2 * rows).saturating_sub(1) * (2 * columns).saturating_sub(1) + 3;
        let table = self.weights.get((count, self.form.heads), &self.full(name))?;
        let tokens = rows * columns + 1;
        let places =
            (0..tokens * tokens).map(|pair| displacement([rows, columns], pair / tokens, pair % tokens) as u32);
        let places = Tensor::from_iter(places, table.device())?;
        Ok(Some(table.index_select(&places, 0)?.t()?.contiguous()?.reshape((self.form.heads, tokens, tokens))?))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.stem)
    }

    fn linear(&self, name: &str, from: usize, to: usize) -> Result<Linear> {
        self.weights.linear(&self.full(name), from, to)
    }

    /// Queries, keys and values in one.
    fn qkv(&self) -> Result<Linear> {
        let c = self.channels;
        match &self.names.qkv {
            Qkv::Packed([weight, bias]) => self.weights.linear_of([&self.full(weight), &self.full(bias)], c, 3 * c),
            Qkv::Interleaved([weight, bias]) => {
                let (weight, bias) = (
                    self.weights.get((3 * c, c), &self.full(weight))?,
                    self.weights.optional(3 * c, &self.full(bias))?,
                );
                Linear::new(self.heads_apart(&weight)?, bias.map(|bias| self.heads_apart(&bias)).transpose()?)
            }
            Qkv::Keyless { packed, biases, .. } if self.weights.contains(&self.full(packed)) => {
                let [q, v] = biases.map(|bias| self.weights.get(c, &self.full(bias)));
                let (q, v) = (q?, v?);
                let bias = Tensor::cat(&[&q, &q.zeros_like()?, &v], 0)?;
                Linear::new(self.weights.get((3 * c, c), &self.full(packed))?, Some(bias))
            }
            Qkv::Apart(names) | Qkv::Keyless { apart: names, .. } => {
                let parts = names.iter().map(|name| self.linear(name, c, c)).collect::<Result<Vec<_>>>()?;
                Linear::stacked(&parts)
            }
        }
    }

    /// Rows head by head, query, key and value of each, → all queries, all keys, all values.
    fn heads_apart(&self, rows: &Tensor) -> Result<Tensor> {
        let by_head = rows.reshape((self.form.heads, 3, self.channels / self.form.heads, ()))?;
        Ok(by_head.transpose(0, 1)?.contiguous()?.reshape(rows.shape())?)
    }

    fn norm(&self, name: &str) -> Result<Stage> {
        Ok(Stage::LayerNorm(self.weights.layer_norm(&self.full(name), self.channels, self.form.eps)?))
    }

    /// A branch's last layer, with the branch's scale, if the checkpoint has one.
    fn scaled(&self, linear: Linear, scale: &str) -> Result<Linear> {
        match self.weights.optional(self.channels, &self.full(scale))? {
            Some(scale) => linear.scaled(&scale),
            None => Ok(linear),
        }
    }
}

/// The row of BEiT's table for a query and a key, counted from the class token in front of a grid of patches: a row for every
/// displacement, then one each for the class token's look at patches, theirs at it, and its own at itself.
fn displacement([rows, columns]: [usize; 2], query: usize, key: usize) -> usize {
    let (down, across) = (2 * rows - 1, 2 * columns - 1);
    match (query.checked_sub(1), key.checked_sub(1)) {
        (Some(query), Some(key)) => {
            let down = query / columns + rows - 1 - key / columns;
            down * across + query % columns + columns - 1 - key % columns
        }
        (None, Some(_)) => down * across,
        (Some(_), None) => down * across + 1,
        (None, None) => down * across + 2,
    }
}

impl Names {
    /// Every name inside a block.
    fn all(&self) -> Vec<&'static str> {
        let qkv = match self.qkv {
            Qkv::Apart(names) => names.to_vec(),
            Qkv::Packed(names) | Qkv::Interleaved(names) => names.to_vec(),
            Qkv::Keyless { packed, biases, apart } => [&[packed], &biases[..], &apart].concat(),
        };
        let more = [self.out, self.gate, self.mlp_norm];
        [&self.norms[..], &qkv, &more, &self.mlp, &self.displacements, &self.scales].concat()
    }
}
