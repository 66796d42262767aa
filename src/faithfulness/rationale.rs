//! Whether what a method points at is needed, and whether it is enough.
//!
//! DeYoung et al., *ERASER: A Benchmark to Evaluate Rationalized NLP Models*, 2020, arXiv 1911.03429, §4.2.

use candle_core::Tensor;

use super::deletion::{Measure, Said, counts, up, without};
use crate::Result;
use crate::attribution::Attribution;
use crate::bootstrap::mean;

/// ERASER's fractions of a text: 1, 5, 10, 20 and 50 percent.
pub const RATIONALES: [f64; 5] = [0.01, 0.05, 0.1, 0.2, 0.5];

/// `f: (n,s) → (n,v)` or `(n,)`, scores over s features → by how much the probability of a class falls without the features of
/// highest score, the mean over fractions of p(x) − p(x \ r) (arXiv 1911.03429, eq. 1). High is good: what was pointed
/// at is needed.
///
/// f is as in [`deletion`](super::deletion()), and so is the order of equal scores. Of m features, ⌈r·m⌉ make a rationale, so that
/// a short text has one of at least one token; a [`Deletion`](super::Deletion) takes ⌊r·m⌋, which may be none, and so its
/// [`aopc`](super::Deletion::aopc) at the same fractions is another number. Special tokens stay and do not count.
/// [`RATIONALES`] are the usual fractions.
///
/// The mean is over the given fractions; ERASER's «AOPC» counts the empty rationale as well and divides by one more: put 0.0
/// among the fractions for that.
///
/// Errors: those of [`deletion`](super::deletion()).
///
/// **When it misleads**: as deletion does: a text with holes is a text the model never saw. Where a second word says the same, no
/// single one is needed.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{RATIONALES, comprehensiveness, sufficiency};
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let positive = bert.label("positive")?;
/// let f = |x: &Tensor| Target::Logit(positive).of(&bert.logits(&text, x)?);
/// let blank = bert.baseline(&text, &Baseline::token("[MASK]"))?;
/// let why = integrated_gradients(f, &bert.embed(&text)?, &blank, &Steps::default())?.over(&text)?;
/// let f = |present: &Tensor| bert.logits_with(&text, present);
/// assert!(comprehensiveness(f, &why, positive, &RATIONALES)? > 0.2);
/// assert!(sufficiency(f, &why, positive, &RATIONALES)? < 0.1);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn comprehensiveness(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    why: &Attribution,
    class: usize,
    fractions: &[f64],
) -> Result<f64> {
    fall(&f, why, class, fractions, &|ranked, rationale| ranked[..rationale].to_vec())
}

/// The same with the features of highest score alone: the mean of p(x) − p(r) (arXiv 1911.03429, eq. 2). Low is good: what was
/// pointed at is enough; below 0, more than enough.
///
/// Errors and caveats: those of [`comprehensiveness`].
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::sufficiency;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let positive = bert.label("positive")?;
/// let f = |x: &Tensor| Target::Logit(positive).of(&bert.logits(&text, x)?);
/// let blank = bert.baseline(&text, &Baseline::token("[MASK]"))?;
/// let why = integrated_gradients(f, &bert.embed(&text)?, &blank, &Steps::default())?.over(&text)?;
/// assert!(sufficiency(|present| bert.logits_with(&text, present), &why, positive, &[0.5])? < 0.1);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn sufficiency(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    why: &Attribution,
    class: usize,
    fractions: &[f64],
) -> Result<f64> {
    fall(&f, why, class, fractions, &|ranked, rationale| ranked[rationale..].to_vec())
}

/// By how much a probability falls if the features that `absent` picks of the ranked ones are taken away.
fn fall(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    why: &Attribution,
    class: usize,
    fractions: &[f64],
    absent: &dyn Fn(&[usize], usize) -> Vec<usize>,
) -> Result<f64> {
    let sets = |ranked: &[usize]| {
        let rationales = counts(fractions, ranked.len(), up)?.into_iter();
        Ok(rationales.map(|rationale| absent(ranked, rationale)).collect())
    };
    let (whole, rest) = without(f, why, class, &sets)?;
    let probability = |said: &Said| said.by(Measure::Probability);
    Ok(probability(&whole) - mean(rest.iter().map(probability)))
}
