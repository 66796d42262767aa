//! Shapley values: what each player of a game deserves, and three ways to find out.
//!
//! `φᵢ = Σ_{S ∌ i} |S|!·(g − |S| − 1)!/g! · (v(S ∪ i) − v(S))`
//!
//! for g groups of features as the players and v(S) = f(x with the groups outside S ← x′). Shapley 1953; Lundberg & Lee 2017,
//! arXiv 1705.07874, eq. 4.

use candle_core::Tensor;
use linfa_linalg::qr::{LeastSquaresQrInto, QR};
use ndarray::{Array2, ArrayView1, Axis};
use rand::SeedableRng;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedIndex};

use crate::ablation::{Groups, mixtures};
use crate::attribution::{Attribution, Completeness};
use crate::outcomes::Outcomes;
use crate::{Error, Result};

/// Which groups are there, for each of some coalitions.
pub(crate) type Present = Vec<Vec<bool>>;

/// v of each coalition: f at x with the groups that are not there taken from x′.
pub(crate) fn play(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    what: &str,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
    present: &Present,
) -> Result<Outcomes> {
    groups.disjoint()?;
    mixtures(f, what, x, baseline, groups, present.len(), &|mask, coalition| {
        let absent = (0..groups.len()).filter(|&group| !present[coalition][group]);
        absent.for_each(|group| groups.members(group).iter().for_each(|&element| mask[element] = 1));
    })
}

/// `f: (n,…) → (n,)` or `(n,o)`, x, x′ → one score per group: its Shapley value, exactly, from all 2^g coalitions.
///
/// Errors: more than 16 groups; groups that overlap; those of [`ablate`](crate::ablate).
///
/// **When it misleads**: coalitions that no text makes are in the mean like all others.
///
/// ```
/// # use pellucid::prelude::*;
/// let both = |x: &Tensor| Ok((x.narrow(1, 0, 1)? * x.narrow(1, 1, 1)?)?.squeeze(1)?);    // needs both players
/// let x = Tensor::new(&[3.0f64, 4.0], &Device::Cpu)?;
/// let fair = shapley_values(both, &x, &x.zeros_like()?, &Groups::elements(&x))?;
/// assert_eq!(fair.scores, [6.0, 6.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn shapley_values(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
) -> Result<Attribution> {
    const MOST: usize = 16;
    let g = groups.len();
    if g > MOST {
        return Err(Error::argument(format!(
            "{g} groups have 2^{g} coalitions; exact values are computed up to {MOST} groups. Use `shapley_sampling` or \
             `kernel_shap`, or larger groups"
        )));
    }
    let present = (0..1usize << g).map(|set| (0..g).map(|i| set >> i & 1 == 1).collect()).collect();
    let outcomes = play(&f, "Shapley values, coalitions", x, baseline, groups, &present)?;
    let shares = shares(g);
    let scores = |v: &[f64]| {
        let gain = |i: usize, set: usize| shares[set.count_ones() as usize] * (v[set | 1 << i] - v[set]);
        Ok((0..g).map(|i| (0..v.len()).filter(|set| set >> i & 1 == 0).map(|set| gain(i, set)).sum()).collect())
    };
    let attribution = outcomes.explain("Shapley values", &[g], &scores)?;
    efficient(attribution, &outcomes, x, 0, (1 << g) - 1, 1 << g)
}

/// |S|!(g − |S| − 1)!/g! for |S| = 0 … g − 1.
fn shares(g: usize) -> Vec<f64> {
    (0..g).map(|size| 1.0 / (g as f64 * binomial(g - 1, size))).collect()
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

/// How many orders of the players are drawn, and their seed.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
/// let both = |x: &Tensor| Ok((x.narrow(1, 0, 1)? * x.narrow(1, 1, 1)?)?.squeeze(1)?);
/// let why = shapley_sampling(both, &x, &x.zeros_like()?, &Groups::elements(&x), &Permutations::new(200, 0))?;
/// assert!((why.sum() - 2.0).abs() < 1e-9 && (why.scores[0] - 1.0).abs() < 0.2);    // half each, nearly
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutations {
    /// How many orders.
    pub count: usize,
    /// Same seed, same orders.
    pub seed: u64,
}

impl Permutations {
    /// `count` orders from a seed.
    pub fn new(count: usize, seed: u64) -> Self {
        Self { count, seed }
    }
}

/// `f: (n,…) → (n,)` or `(n,o)`, x, x′ → one score per group: the mean of what it adds when the groups come in random orders
/// (Štrumbelj & Kononenko 2010, Journal of Machine Learning Research 11, algorithm 1).
///
/// Σ scores = f(x) − f(x′) in every order, so completeness holds whatever their number; it says nothing about the error of
/// a single score, which falls as 1/√count.
///
/// Errors: no orders; groups that overlap; those of [`ablate`](crate::ablate).
///
/// **When it misleads**: where [`shapley_values`] do; and small scores are chance: draw with another seed before you believe one.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, 2.0, 3.0], &Device::Cpu)?;
/// let sum = shapley_sampling(|x| Ok(x.sum(1)?), &x, &x.zeros_like()?, &Groups::elements(&x), &Permutations::new(5, 0))?;
/// assert_eq!(sum.scores, [1.0, 2.0, 3.0]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn shapley_sampling(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
    permutations: &Permutations,
) -> Result<Attribution> {
    let (g, count) = (groups.len(), permutations.count);
    if count == 0 {
        return Err(Error::argument("Shapley sampling needs at least one permutation"));
    }
    let orders = orders(g, permutations);
    let mut present = vec![vec![false; g], vec![true; g]];
    present.extend(orders.iter().flat_map(|order| (1..g).map(|joined| members(g, &order[..joined]))));
    let outcomes = play(&f, "Shapley sampling, coalitions", x, baseline, groups, &present)?;
    let scores = |v: &[f64]| {
        let mut sums = vec![0.0; g];
        for (k, order) in orders.iter().enumerate() {
            let between = &v[2 + k * (g - 1)..2 + (k + 1) * (g - 1)];
            let values: Vec<f64> = std::iter::once(v[0]).chain(between.iter().copied()).chain([v[1]]).collect();
            order.iter().zip(values.windows(2)).for_each(|(&player, step)| sums[player] += step[1] - step[0]);
        }
        Ok(sums.into_iter().map(|sum| sum / count as f64).collect())
    };
    let attribution = outcomes.explain("Shapley sampling", &[g], &scores)?;
    let attribution = Attribution { seed: Some(permutations.seed), ..attribution }.setting("permutations", count);
    efficient(attribution, &outcomes, x, 0, 1, count)
}

fn orders(g: usize, permutations: &Permutations) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(permutations.seed);
    let mut order: Vec<usize> = (0..g).collect();
    let mut draw = |_| {
        order.shuffle(&mut rng);
        order.clone()
    };
    (0..permutations.count).map(&mut draw).collect()
}

/// The coalition of these players.
fn members(g: usize, players: &[usize]) -> Vec<bool> {
    let mut there = vec![false; g];
    players.iter().for_each(|&player| there[player] = true);
    there
}

/// How many coalitions are drawn, and their seed.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
/// let both = |x: &Tensor| Ok((x.narrow(1, 0, 1)? * x.narrow(1, 1, 1)?)?.squeeze(1)?);
/// let why = kernel_shap(both, &x, &x.zeros_like()?, &Groups::elements(&x), &Coalitions::new(16, 0))?;
/// assert!(why.scores.iter().all(|score| (score - 1.0).abs() < 1e-9));    // half each, exactly
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalitions {
    /// How many coalitions.
    pub count: usize,
    /// Same seed, same coalitions.
    pub seed: u64,
}

impl Coalitions {
    /// `count` coalitions from a seed.
    pub fn new(count: usize, seed: u64) -> Self {
        Self { count, seed }
    }
}

/// `f: (n,…) → (n,)` or `(n,o)`, x, x′ → one score per group: the linear game that is nearest to v, with the Shapley kernel as
/// the weight of a coalition (Lundberg & Lee 2017, arXiv 1705.07874, theorem 2).
///
/// minimise `Σ_S π(S)·(v(∅) + Σ_{i∈S} φᵢ − v(S))²` with `π(S) = (g − 1)/(C(g,|S|)·|S|·(g − |S|))`
///
/// subject to Σφ = f(x) − f(x′), which is put into the equations and not merely weighted. Coalitions are drawn in pairs with
/// their complements; if `count` allows for all 2ᵍ − 2, they are all taken and the values are exact.
///
/// Errors: fewer coalitions than 2(g − 1), or such as cannot tell the groups apart; groups that overlap; those of [`ablate`](crate::ablate).
///
/// **When it misleads**: the sum is an equation of the fit, so the gap is 0 however wrong single scores are; unless all
/// coalitions were asked, draw with another seed to see how far they hold.
///
/// ```
/// # use pellucid::prelude::*;
/// let both = |x: &Tensor| Ok((x.narrow(1, 0, 1)? * x.narrow(1, 1, 1)?)?.squeeze(1)?);
/// let x = Tensor::new(&[3.0f64, 4.0], &Device::Cpu)?;
/// let fair = kernel_shap(both, &x, &x.zeros_like()?, &Groups::elements(&x), &Coalitions::new(64, 0))?;
/// assert!((fair.scores[0] - 6.0).abs() < 1e-9 && (fair.scores[1] - 6.0).abs() < 1e-9);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn kernel_shap(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    baseline: &Tensor,
    groups: &Groups,
    coalitions: &Coalitions,
) -> Result<Attribution> {
    let g = groups.len();
    let least = 2 * g.saturating_sub(1);
    if coalitions.count < least {
        return Err(Error::argument(format!(
            "{} coalitions cannot tell {g} groups apart: draw at least {least}, better ten times as many",
            coalitions.count
        )));
    }
    let (mut present, weights) = drawn(g, coalitions)?;
    present.extend([vec![false; g], vec![true; g]]);
    let outcomes = play(&f, "KernelSHAP, coalitions", x, baseline, groups, &present)?;
    let scores = |v: &[f64]| nearest_linear_game(&present, &weights, v);
    let attribution = outcomes.explain("KernelSHAP", &[g], &scores)?;
    let attribution = Attribution { seed: Some(coalitions.seed), ..attribution };
    let count = present.len() - 2;
    efficient(attribution.setting("coalitions", count), &outcomes, x, count, count + 1, count)
}

/// Coalitions that are neither empty nor full, and their weights.
fn drawn(g: usize, coalitions: &Coalitions) -> Result<(Present, Vec<f64>)> {
    if g < 2 {
        return Ok((Vec::new(), Vec::new()));
    }
    if g < 24 && coalitions.count >= (1 << g) - 2 {
        let kernel = |size: usize| (g - 1) as f64 / (binomial(g, size) * (size * (g - size)) as f64);
        let all: Present = (1..(1usize << g) - 1).map(|set| (0..g).map(|i| set >> i & 1 == 1).collect()).collect();
        let weights = all.iter().map(|there| kernel(there.iter().filter(|there| **there).count())).collect();
        return Ok((all, weights));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(coalitions.seed);
    let sizes = (1..g).map(|size| 1.0 / (size * (g - size)) as f64); // π·C(g,|S|), up to a factor: all of one size together
    let sizes = WeightedIndex::new(sizes).map_err(Error::argument)?;
    let mut pair = |_| {
        let size = sizes.sample(&mut rng) + 1;
        let there = members(g, &index::sample(&mut rng, g, size).into_vec());
        let rest = there.iter().map(|there| !there).collect();
        [there, rest]
    };
    let present: Present = (0..coalitions.count.div_ceil(2)).flat_map(&mut pair).collect();
    let weights = vec![1.0; present.len()];
    Ok((present, weights))
}

/// φ by weighted least squares; the last two coalitions are the empty and the full one, and the last player gets what the
/// others leave of the whole.
fn nearest_linear_game(present: &Present, weights: &[f64], v: &[f64]) -> Result<Vec<f64>> {
    let (rows, g) = (weights.len(), present[0].len());
    let (none, gain) = (v[rows], v[rows + 1] - v[rows]);
    if g == 1 {
        return Ok(vec![gain]);
    }
    let is = |row: usize, player: usize| f64::from(u8::from(present[row][player]));
    let left = Array2::from_shape_fn((rows, g - 1), |(row, i)| weights[row].sqrt() * (is(row, i) - is(row, g - 1)));
    let right: Vec<f64> = (0..rows).map(|row| weights[row].sqrt() * (v[row] - none - is(row, g - 1) * gain)).collect();
    let right = ArrayView1::from(&right).insert_axis(Axis(1)).to_owned();
    let few = |_| Error::argument("the coalitions that were drawn cannot tell the groups apart: draw more of them");
    let (_, r) = left.qr().map_err(few)?.into_decomp();
    let (least, most) = r.diag().iter().fold((f64::MAX, 0f64), |(low, high), x| (low.min(x.abs()), high.max(x.abs())));
    if least <= 1e-9 * most {
        return Err(few(linfa_linalg::LinalgError::NonInvertible));
    }
    let solved = left.least_squares_into(right).map_err(few)?;
    let mut scores = solved.column(0).to_vec();
    scores.push(gain - scores.iter().sum::<f64>());
    Ok(scores)
}

/// With the law that Shapley values promise: Σφ = v(all) − v(none), for every output.
fn efficient(
    mut attribution: Attribution,
    outcomes: &Outcomes,
    x: &Tensor,
    none: usize,
    all: usize,
    count: usize,
) -> Result<Attribution> {
    let law = |v: &[f64], scores: &[f64]| Some(Completeness::new((v[all], v[none]), scores, x.dtype(), count, None));
    attribution.completeness = law(&outcomes.sum(), &attribution.scores);
    let outputs = attribution.outputs.iter_mut().zip(outcomes.columns());
    outputs.for_each(|(output, column)| output.completeness = law(column, &output.scores));
    Ok(attribution)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C(1100, 550) is beyond `f64`.
    #[test]
    fn of_many_groups_coalitions_are_drawn_too_and_mostly_the_smallest_and_largest() -> Result<()> {
        let (present, weights) = drawn(1100, &Coalitions::new(400, 0))?;
        let sizes: Vec<usize> = present.iter().map(|there| there.iter().filter(|there| **there).count()).collect();
        assert!(sizes.len() == 400 && weights == [1.0; 400] && sizes.chunks(2).all(|pair| pair[0] + pair[1] == 1100));
        let extreme = sizes.iter().filter(|size| **size == 1 || **size == 1099).count();
        assert!((30..80).contains(&extreme), "1/1099 · 2 of Σ 1/(k(1100 − k)) is 0.13, and of 400 there are {extreme}");
        Ok(())
    }
}
