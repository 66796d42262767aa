//! Which sources are kept, many times over.

use candle_core::{Device, Tensor};
use rand_mt::Mt;

use crate::attribution::Attribution;
use crate::{Error, Result};

/// m masks over s sources: in each, which of them are kept.
///
/// ```
/// # use pellucid::prelude::*;
/// let masks = draw_masks(3, 4, 0.5, 0)?;                               // four masks over three sources
/// assert_eq!((masks.len(), masks.sources(), masks.tensor()?.dims()), (4, 3, &[4, 3][..]));
/// assert_eq!(draw_masks(3, 9, 0.5, 0)?.rows()[..4], *masks.rows());    // more masks begin alike
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Masks {
    rows: Vec<Vec<bool>>,
    /// If they were drawn, with which probability of being kept, and from which seed.
    drawn: Option<(f64, u32)>,
}

/// Masks are their rows, however they were made.
impl PartialEq for Masks {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl Eq for Masks {}

impl Masks {
    /// Masks of one's own, a row each.
    ///
    /// Errors: no masks; no sources; rows of different lengths.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let without_one = Masks::new(vec![vec![true, true], vec![false, true], vec![true, false]])?;
    /// assert_eq!((without_one.len(), without_one.sources()), (3, 2));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn new(rows: Vec<Vec<bool>>) -> Result<Self> {
        let sources = rows.first().map_or(0, Vec::len);
        if sources == 0 {
            return Err(Error::argument("masks need at least one row, and a row at least one source"));
        }
        match rows.iter().find(|row| row.len() != sources) {
            Some(odd) => Err(Error::shape("a mask", format!("({sources},), the first's"), &[odd.len()])),
            None => Ok(Self { rows, drawn: None }),
        }
    }

    /// The masks that keep all sources, and all but one of each: s + 1 of them.
    ///
    /// Errors: no sources.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Masks::leave_one_out(2)?.rows(), [[true, true], [false, true], [true, false]]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn leave_one_out(sources: usize) -> Result<Self> {
        let without = |dropped: usize| (0..sources).map(|source| source + 1 != dropped).collect();
        Self::new((0..=sources).map(without).collect())
    }

    /// How many masks there are; at least one.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none, which cannot be made.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many sources each is over; at least one.
    pub fn sources(&self) -> usize {
        self.rows[0].len()
    }

    /// The masks, row by row: whether each source is kept.
    pub fn rows(&self) -> &[Vec<bool>] {
        &self.rows
    }

    /// Weights `(s,)` → for each mask, the sum of those of the sources that it keeps, `(m,)`.
    ///
    /// Errors: not a weight per source.
    pub(crate) fn sums(&self, weights: &[f64]) -> Result<Vec<f64>> {
        if self.sources() != weights.len() {
            let wanted = format!("(m, {}), a column per weight", weights.len());
            return Err(Error::shape("the masks", wanted, &[self.len(), self.sources()]));
        }
        let kept = |(&kept, &weight): (&bool, &f64)| if kept { weight } else { 0.0 };
        Ok(self.rows.iter().map(|row| row.iter().zip(weights).map(kept).sum()).collect())
    }

    /// Scores that were made from them, with how to draw them again.
    pub(super) fn note(&self, scores: Attribution) -> Attribution {
        let scores = scores.setting("masks", self.len());
        match self.drawn {
            Some((probability, seed)) => {
                Attribution { seed: Some(seed.into()), ..scores }.setting("keep probability", probability)
            }
            None => scores,
        }
    }

    /// Some of the masks, in this order.
    pub(super) fn some(&self, numbers: &[usize]) -> Result<Self> {
        Self::new(numbers.iter().map(|number| self.rows[*number].clone()).collect())
    }

    /// `(m,s)`: ones where a source is kept, as [`log_probs_with`](crate::model::CausalLm::log_probs_with) takes them.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Masks::leave_one_out(2)?.tensor()?.to_vec2::<f64>()?, [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn tensor(&self) -> Result<Tensor> {
        let flags: Vec<f64> = self.rows.iter().flatten().map(|&kept| f64::from(u8::from(kept))).collect();
        Ok(Tensor::from_vec(flags, (self.len(), self.sources()), &Device::Cpu)?)
    }
}

/// `count` masks over `sources`, `(m,s)`, in which every source is kept with the same probability, independently.
/// context-cite draws 64 masks with probability ½.
///
/// Mask m is that of numpy's `RandomState(seed + m).choice([False, True], s, p=[1 − p, p])`, bit for bit; context-cite's seed
/// is 0. It is thus the same whatever `count` is, and the masks of fewer sources are the beginnings of those of more.
///
/// Errors: no sources; no masks; a probability that is not between 0 and 1; seeds beyond 2³².
///
/// **When it misleads**: few sources give equal masks, and of many a mask keeps about half, so that a source which needs two
/// others is seldom seen with both. Seed 1 has all masks of seed 0 but the first: for fresh masks take a seed at least as far
/// away as there are masks, such as 1 000 000, and sources enough that few masks coincide, 2ˢ ≫ m.
///
/// ```
/// # use pellucid::prelude::*;
/// assert_eq!(draw_masks(4, 2, 0.5, 0)?.rows(), [[true, true, true, true], [false, true, false, false]]);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn draw_masks(sources: usize, count: usize, keep_probability: f64, seed: u32) -> Result<Masks> {
    if !(keep_probability > 0.0 && keep_probability < 1.0) {
        return Err(Error::argument(format!(
            "a source is kept with a probability between 0 and 1, got {keep_probability}: try 0.5"
        )));
    }
    let last = count.checked_sub(1).and_then(|last| u32::try_from(last).ok()?.checked_add(seed));
    let last = last.ok_or_else(|| {
        Error::argument(format!("at least one mask is needed, and seeds below 2³²; got {count} masks from seed {seed}"))
    })?;
    let dropped = (1.0 - keep_probability) / ((1.0 - keep_probability) + keep_probability);
    let row = |seed| {
        let mut twister = Mt::new(seed);
        (0..sources).map(|_| uniform(&mut twister) >= dropped).collect()
    };
    Ok(Masks { drawn: Some((keep_probability, seed)), ..Masks::new((seed..=last).map(row).collect())? })
}

/// A number in `[0, 1)` with 53 random bits: Matsumoto & Nishimura's `genrand_res53`, which numpy uses.
fn uniform(twister: &mut Mt) -> f64 {
    let (high, low) = (twister.next_u32() >> 5, twister.next_u32() >> 6);
    (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
}
