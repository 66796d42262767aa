//! Attention flow: the most that can be carried from a position at the top to an input token, through all layers at once.
//!
//! Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, 2020, arXiv 2005.00928, §3.

use std::ops::Range;

use candle_core::{Device, Tensor};
use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use rayon::prelude::*;

use crate::progress::Progress;
use crate::rollout::{Rollout, mixing};
use crate::tensor::numbers;
use crate::{Error, Result};

/// A capacity of one, in the units of the integers that make flows exact. A flow is at most one, so it is exact in `f64`, too.
const ONE: f64 = (1u64 << 50) as f64;

/// How many edges all networks together may have, some twenty seconds' worth: those of 64 tokens in eight layers.
const EDGES: usize = 1 << 27;

/// `L × (b,h,t,t) → (b,t,t)`: for each position i of the last layer and each input token j, the maximum flow from i to j in
/// the network whose nodes are (layer, token) and whose edge (l, i) → (l − 1, j) carries at most Ã_l(i, j).
///
/// The capacities are [`rollout`](crate::rollout())'s maps, Ã = ½(A + I). Where rollout multiplies weights along a path, a
/// flow is as wide as the narrowest edge of it; so flows are at least the rollout, and at most 1. Of one layer the flow is Ã
/// itself. Flows are exact: capacities are rounded to multiples of 2⁻⁵⁰ first, and integers from there on.
///
/// Rows do not sum to one, for the flows of a row each have the network to themselves. To compare rows, divide each by its
/// sum, as the paper's code does: `flow.broadcast_div(&flow.sum_keepdim(2)?)?`.
///
/// It is slow: 32 tokens in six layers take a good quarter of a second on two cores, 64 tokens seven seconds.
///
/// Errors: those of [`rollout`](crate::rollout()); more than 2²⁷ edges in all networks together, one network of L·t² edges
/// for each pair of tokens.
///
/// **When it misleads**: where rollout does; and it forgets weights: two paths of wide edges lead to the same flow,
/// however wide.
///
/// ```
/// # use pellucid::prelude::*;
/// let uniform = Tensor::full(0.5f64, (1, 1, 2, 2), &Device::Cpu)?;
/// let flow = attention_flow(&[uniform.clone(), uniform], &Rollout::default())?;
/// assert_eq!(flow.to_vec3::<f64>()?, [[[1.0, 0.5], [0.5, 1.0]]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn attention_flow(attention: &[Tensor], options: &Rollout) -> Result<Tensor> {
    let layers = mixing(attention, options)?;
    let t = layers[0].dim(1)?;
    flows(&layers, 0..t)
}

/// `L × (b,h,t,t) → (b,t)`: the row of [`attention_flow`] of one query, as of the class token, at a t-th of the cost.
///
/// Errors and caveats: those of [`attention_flow`]; a query that does not exist.
///
/// ```
/// # use pellucid::prelude::*;
/// let uniform = Tensor::full(0.5f64, (1, 1, 2, 2), &Device::Cpu)?;
/// let row = attention_flow_row(&[uniform.clone(), uniform], 0, &Rollout::default())?;
/// assert_eq!(row.to_vec2::<f64>()?, [[1.0, 0.5]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn attention_flow_row(attention: &[Tensor], query: usize, options: &Rollout) -> Result<Tensor> {
    let layers = mixing(attention, options)?;
    let t = layers[0].dim(1)?;
    if query >= t {
        return Err(Error::out_of_range("query", query, t));
    }
    Ok(flows(&layers, query..query + 1)?.squeeze(1)?)
}

/// `L × (b,t,t) → (b,q,t)`: the flows from some queries.
fn flows(layers: &[Tensor], queries: Range<usize>) -> Result<Tensor> {
    let (b, t, _) = layers[0].dims3()?;
    let shape = (b, queries.len(), t);
    affordable(layers.len(), t, b * queries.len())?;
    let examples = (0..b).map(|example| Capacities::new(layers, example)).collect::<Result<Vec<_>>>()?;
    let mut progress = Progress::new("attention flow", b * queries.len());
    let mut flows = Vec::with_capacity(b * queries.len() * t);
    for example in &examples {
        for query in queries.clone() {
            flows.par_extend((0..t).into_par_iter().map(|key| example.flow(query, key)));
            progress.advance(1);
        }
    }
    Ok(Tensor::from_vec(flows, shape, &Device::Cpu)?.to_dtype(layers[0].dtype())?.to_device(layers[0].device())?)
}

/// Errors if the flows would take too long.
fn affordable(layers: usize, t: usize, queries: usize) -> Result<()> {
    let edges = (layers * t * t).saturating_mul(queries * t);
    match edges <= EDGES {
        true => Ok(()),
        false => Err(Error::argument(format!(
            "attention flow solves a maximum flow for each of {queries} queries and {t} keys, in a network of {layers}·{t}² \
             edges: {edges} edges, and the limit is {EDGES}. Take one query (`attention_flow_row`), fewer tokens or \
             examples, or `rollout`, which costs L·t³"
        ))),
    }
}

/// One example's capacities, whole numbers, layer by layer from the top.
struct Capacities {
    t: usize,
    layers: Vec<Vec<u64>>,
}

impl Capacities {
    fn new(layers: &[Tensor], example: usize) -> Result<Self> {
        let whole = |layer: &Tensor| -> Result<Vec<u64>> {
            Ok(numbers(&layer.get(example)?)?.into_iter().map(|capacity| (capacity * ONE).round() as u64).collect())
        };
        Ok(Self { t: layers[0].dim(1)?, layers: layers.iter().rev().map(whole).collect::<Result<_>>()? })
    }

    /// The maximum flow from a query at the top to a key at the bottom.
    fn flow(&self, query: usize, key: usize) -> f64 {
        let last = self.layers.len();
        let tokens = |level: usize| match level {
            0 => query..query + 1,
            _ if level == last => key..key + 1,
            _ => 0..self.t,
        };
        let mut network = DiGraph::<(), u64>::with_capacity((last + 1) * self.t, last * self.t * self.t);
        for _ in 0..(last + 1) * self.t {
            network.add_node(());
        }
        let node = |level: usize, token: usize| NodeIndex::new(level * self.t + token);
        for (level, layer) in self.layers.iter().enumerate() {
            for (from, to) in tokens(level).flat_map(|from| tokens(level + 1).map(move |to| (from, to))) {
                network.add_edge(node(level, from), node(level + 1, to), layer[from * self.t + to]);
            }
        }
        dinics(&network, node(0, query), node(last, key)).0 as f64 / ONE
    }
}
