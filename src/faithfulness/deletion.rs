//! What a model says when features are taken away, the most or the least important first.
//!
//! Samek et al. 2017, arXiv 1509.06321: the area over the perturbation curve. Petsiuk et al. 2018, arXiv 1806.07421: deletion and
//! insertion. Blücher et al. 2024, arXiv 2401.06654: the symmetric relevance gain. The accuracies are those of Mehri et al. 2025,
//! arXiv 2411.16760, §4.1.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::attribution::Attribution;
use crate::bootstrap::mean;
use crate::outcomes::Outcomes;
use crate::seed::seeded;
use crate::{Error, Result};

/// The fractions that are taken away one after the other, if no others are wanted.
pub const TENTHS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// What a model says of one class while features are taken away.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{Measure, deletion};
/// let sum = |present: &Tensor| Ok((present.matmul(&Tensor::new(&[[3.0f64], [-1.0]], &Device::Cpu)?)?).squeeze(1)?);
/// let x = Tensor::new(&[3.0f64, -1.0], &Device::Cpu)?;
/// let curves = deletion(sum, &gradient_x_input(|x| Ok(x.sum(1)?), &x)?, 0, &[0.5])?;
/// assert_eq!(curves.most_first(Measure::Logit), [-1.0]);                         // without what scored 3
/// assert_eq!(curves.least_first(Measure::Logit), [3.0]);                         // without what scored −1
/// assert_eq!((curves.srg(Measure::Logit), curves.fall(Measure::Logit)), (4.0, 3.0));
/// assert_eq!((curves.mif_accuracy(), curves.lif_accuracy()), (100.0, 100.0));    // yes became no, and stayed yes
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Deletion {
    fractions: Vec<f64>,
    whole: Said,
    most: Vec<Said>,
    least: Vec<Said>,
}

/// What a model says of one class, once.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{Measure, Said};
/// let said = Said { logit: 2.0, log_probability: 0.5f64.ln(), stays: true };
/// assert_eq!((said.by(Measure::Logit), said.by(Measure::Accuracy)), (2.0, 1.0));
/// assert!((said.by(Measure::Probability) - 0.5).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The class's logit.
    pub logit: f64,
    /// The natural logarithm of its probability, in nats.
    pub log_probability: f64,
    /// Whether the model's answer, its top class, is the one it gives with all features.
    pub stays: bool,
}

/// A number to read off what a model says.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{Measure, Said};
/// let turned = Said { logit: -1.0, log_probability: 0.25f64.ln(), stays: false };
/// assert_eq!(turned.by(Measure::Accuracy), 0.0);
/// assert_eq!(turned.by(Measure::LogProbability), 0.25f64.ln());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The class's logit.
    Logit,
    /// Its probability, 0 to 1.
    Probability,
    /// The natural logarithm of its probability, in nats.
    LogProbability,
    /// 1 if the answer is the one given with all features, 0 if not; the mean over examples is an accuracy.
    Accuracy,
}

impl Said {
    /// The number.
    pub fn by(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Logit => self.logit,
            Measure::Probability => self.log_probability.exp(),
            Measure::LogProbability => self.log_probability,
            Measure::Accuracy => f64::from(u8::from(self.stays)),
        }
    }
}

impl Measure {
    /// What it is called on an axis.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Logit => "logit",
            Self::Probability => "probability",
            Self::LogProbability => "log-probability, nats",
            Self::Accuracy => "share of answers that stay",
        }
    }
}

/// `f: (n,s) → (n,v)` or `(n,)`, scores over s features → what f says of a class without each fraction of the features, those of
/// the highest scores first and those of the lowest first.
///
/// f is asked what is said if the features with ones are present and those with zeros are not:
/// [`Vit::logits_with`](crate::model::Vit::logits_with), [`Clip::logits_with`](crate::model::Clip::logits_with) and
/// [`Bert::logits_with`](crate::model::Bert::logits_with) drop tokens (BEiT's and EVA-02's are zeroed),
/// [`Mixer::logits_with`](crate::model::Mixer::logits_with) zeroes them, and [`replace_absent`](crate::replace_absent) puts a
/// baseline in their place for any other function.
///
/// Logits `(n,v)` are of v classes, one of which is true. A logit `(n,)` answers a question with yes, above 0, or no; its class
/// is 0. So is asked, by `target.of(…)`, of a model whose classes may be true together. Of a number that is no logit, such as the
/// log-probability of a continuation, `log_probs_with(…)?.sum(1)`, only [`Measure::Logit`] means something: the number itself.
///
/// Of m features, ⌊r·m⌋ are taken away at fraction r; special tokens always stay and do not count. Least first is most first
/// backwards. Equal scores are put in an order by chance, another for every example and always the same for one: its seed is
/// what f says with all features, to four digits. [`TENTHS`] are the usual fractions.
///
/// [`comprehensiveness`](super::comprehensiveness) rounds up, ⌈r·m⌉, since a rationale is at least one token; here no more is
/// taken away than a fraction says, and of few features the first may take none.
///
/// Areas are means over the given fractions. Samek's area over L steps counts the step 0, where all features are there, as well,
/// and divides by L + 1: put 0.0 among the fractions for that. Petsiuk's areas go from 0 to 1 with both ends.
///
/// Errors: not a finite score per feature; no features to take away, or no fractions from 0 to 1; a class that does not exist, or
/// has no rival; f's output is not one finite number per row and class.
///
/// **When it misleads**: what is left is no input the model was trained on, and what it says of that may be about the holes. A
/// method that imitates the removal, as ablation does, has an advantage. Read most first and least first together, as
/// [`srg`](Deletion::srg) does, and beside [`random_scores`].
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{Measure, TENTHS, deletion};
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// let (x, star) = (vit.pixels(&scene.image()?)?, Target::Logit(vit.label("star")?));
/// let black = pellucid::baseline::flat(&x, 0.0)?;
/// let why = integrated_gradients(|x| star.of(&vit.logits(x)?), &x, &black, &Steps::default())?.over_pixels()?;
/// let f = |present: &Tensor| star.of(&vit.logits_with(&x, present)?);
/// let curves = deletion(f, &why.patches(vit.patches().side())?, 0, &TENTHS)?;
/// assert!(curves.srg(Measure::Probability) > 0.2 && curves.aopc() > 0.5);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn deletion(
    f: impl Fn(&Tensor) -> Result<Tensor>,
    why: &Attribution,
    class: usize,
    fractions: &[f64],
) -> Result<Deletion> {
    let sets = |ranked: &[usize]| {
        let counts = counts(fractions, ranked.len(), down)?;
        let most = counts.iter().map(|&count| ranked[..count].to_vec());
        let least = counts.iter().map(|&count| ranked[ranked.len() - count..].to_vec());
        Ok(most.chain(least).collect())
    };
    let (whole, mut most) = without(&f, why, class, &sets)?;
    let least = most.split_off(fractions.len());
    Ok(Deletion { fractions: fractions.to_vec(), whole, most, least })
}

/// Curves as they are written, to be checked when they are read.
#[derive(Deserialize)]
struct Written {
    fractions: Vec<f64>,
    whole: Said,
    most: Vec<Said>,
    least: Vec<Said>,
}

impl TryFrom<Written> for Deletion {
    type Error = Error;

    fn try_from(Written { fractions, whole, most, least }: Written) -> Result<Self> {
        check_fractions(&fractions)?;
        match [&most, &least].iter().all(|said| said.len() == fractions.len()) {
            true => Ok(Self { fractions, whole, most, least }),
            false => Err(Error::argument(format!(
                "at each of {} fractions something is said most first and least first; got {} and {}",
                fractions.len(),
                most.len(),
                least.len()
            ))),
        }
    }
}

impl Deletion {
    /// Which fractions of the features were taken away.
    pub fn fractions(&self) -> &[f64] {
        &self.fractions
    }

    /// What is said with all of them.
    pub fn whole(&self) -> Said {
        self.whole
    }

    /// What is said without each fraction, most important first (MIF): deletion.
    pub fn most(&self) -> &[Said] {
        &self.most
    }

    /// What is said without each fraction, least important first (LIF): insertion, read from its end.
    pub fn least(&self) -> &[Said] {
        &self.least
    }

    /// A number of what is said without each fraction, most important first.
    pub fn most_first(&self, measure: Measure) -> Vec<f64> {
        self.most.iter().map(|said| said.by(measure)).collect()
    }

    /// A number of what is said without each fraction, least important first.
    pub fn least_first(&self, measure: Measure) -> Vec<f64> {
        self.least.iter().map(|said| said.by(measure)).collect()
    }

    /// The mean over fractions of what is said most first: the area under the deletion curve (arXiv 1806.07421). Low is good.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::faithfulness::{Measure, deletion};
    /// let sum = |present: &Tensor| Ok(present.matmul(&Tensor::new(&[[3.0f64], [1.0]], &Device::Cpu)?)?.squeeze(1)?);
    /// let x = Tensor::new(&[3.0f64, 1.0], &Device::Cpu)?;
    /// let curves = deletion(sum, &gradient_x_input(|x| Ok(x.sum(1)?), &x)?, 0, &[0.0, 0.5])?;
    /// assert_eq!(curves.most_first(Measure::Logit), [4.0, 1.0]);
    /// assert_eq!((curves.deletion_area(Measure::Logit), curves.insertion_area(Measure::Logit)), (2.5, 3.5));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn deletion_area(&self, measure: Measure) -> f64 {
        mean(self.most_first(measure).into_iter())
    }

    /// The mean over fractions of what is said least first. Read from its end the curve is that of insertion, where the most
    /// important features come first into nothing, so this is the area under that (arXiv 1806.07421). High is good.
    pub fn insertion_area(&self, measure: Measure) -> f64 {
        mean(self.least_first(measure).into_iter())
    }

    /// The symmetric relevance gain, the area between the curves: that of insertion less that of deletion (arXiv 2401.06654). 0
    /// by chance; distinct scores have it with the other sign if theirs are turned.
    pub fn srg(&self, measure: Measure) -> f64 {
        self.insertion_area(measure) - self.deletion_area(measure)
    }

    /// By how much a number falls most first, the mean over fractions.
    ///
    /// With the other sign, that of the log-probability is what tables for texts call log-odds (Sanyal & Ren 2021, arXiv
    /// 2108.13654): a difference of ln p, not of ln p − ln(1 − p).
    pub fn fall(&self, measure: Measure) -> f64 {
        self.whole.by(measure) - self.deletion_area(measure)
    }

    /// By how much the probability falls most first, the mean over fractions: the area over the perturbation curve (AOPC, arXiv
    /// 1509.06321).
    pub fn aopc(&self) -> f64 {
        self.fall(Measure::Probability)
    }

    /// MIF accuracy, in percent, higher is better: 100 less the mean share of fractions at which the answer stays, most first
    /// (arXiv 2411.16760, table 6).
    pub fn mif_accuracy(&self) -> f64 {
        100.0 - 100.0 * self.deletion_area(Measure::Accuracy)
    }

    /// LIF accuracy, in percent, higher is better: the mean share of fractions at which the answer stays, least first.
    pub fn lif_accuracy(&self) -> f64 {
        100.0 * self.insertion_area(Measure::Accuracy)
    }
}

/// The scores of a method that knows nothing, over the same features: uniform between −1 and 1. What is not better than these is
/// no explanation.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::random_scores;
/// let why = gradient_x_input(|x| Ok(x.sum(1)?), &Tensor::new(&[3.0f64, 5.0], &Device::Cpu)?)?;
/// assert_eq!(random_scores(&why, 1), random_scores(&why, 1));
/// assert_ne!(random_scores(&why, 1).scores, random_scores(&why, 2).scores);
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn random_scores(like: &Attribution, seed: u64) -> Attribution {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let scores = like.scores.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
    let (method, outputs, settings) = ("random".into(), Vec::new(), BTreeMap::new());
    Attribution { method, scores, outputs, completeness: None, seed: Some(seed), settings, ..like.clone() }
}

/// 0.29 · 100 is less than 29, and 0.07 · 100 more than 7.
const ROUNDING: f64 = 1e-9;

pub(super) fn down(count: f64) -> usize {
    (count + ROUNDING).floor() as usize
}

pub(super) fn up(count: f64) -> usize {
    (count - ROUNDING).ceil() as usize
}

fn check_fractions(fractions: &[f64]) -> Result<()> {
    match !fractions.is_empty() && fractions.iter().all(|r| (0.0..=1.0).contains(r)) {
        true => Ok(()),
        false => {
            Err(Error::argument(format!("fractions of features lie from 0 to 1, and one is needed; got {fractions:?}")))
        }
    }
}

/// How many of m features each fraction is.
pub(super) fn counts(fractions: &[f64], features: usize, rounded: fn(f64) -> usize) -> Result<Vec<usize>> {
    check_fractions(fractions)?;
    Ok(fractions.iter().map(|r| rounded(r * features as f64)).collect())
}

/// Features, most important first → the sets that are taken away.
type Sets<'a> = dyn Fn(&[usize]) -> Result<Vec<Vec<usize>>> + 'a;

/// What f says of a class with all features, and then without each of the sets that are made of them, most important first.
pub(super) fn without(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    why: &Attribution,
    class: usize,
    sets: &Sets,
) -> Result<(Said, Vec<Said>)> {
    why.consistent()?;
    let answers = |absent: &[Vec<usize>]| answers(f, why.scores.len(), class, absent);
    let whole = answers(&[Vec::new()])?.remove(0);
    let rest = answers(&sets(&ranked(why, &whole.logits)?)?)?;
    Ok((whole.said(&whole), rest.iter().map(|answer| answer.said(&whole)).collect()))
}

/// The features that can be taken away, most important first. Where scores are equal, chance decides, and what is said of the
/// whole is its seed: one order for all examples would favour the same places in all. Digits that another machine rounds in
/// another way do not count.
fn ranked(why: &Attribution, whole: &[f64]) -> Result<Vec<usize>> {
    let scores: Vec<f64> = why.scores.iter().map(|score| score + 0.0).collect(); // −0 + 0 is 0
    let digits = whole.iter().flat_map(|logit| format!("{logit:.3e}").into_bytes());
    let mut order: Vec<usize> = (0..scores.len()).filter(|&feature| !why.is_special(feature)).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seeded(0, digits)));
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    match order.is_empty() {
        true => Err(Error::argument("there are no features that can be taken away")),
        false => Ok(order),
    }
}

/// The logits of all classes at once, and which of them is asked for.
struct Answer {
    logits: Vec<f64>,
    class: usize,
}

/// So many variants are asked for at once, at most.
const AT_ONCE: usize = 128;

/// What f answers without each of these sets.
fn answers(
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
    features: usize,
    class: usize,
    absent: &[Vec<usize>],
) -> Result<Vec<Answer>> {
    let present = |absent: &Vec<usize>| {
        let mut row = vec![1.0; features];
        absent.iter().for_each(|&feature| row[feature] = 0.0);
        row
    };
    let outcomes = Outcomes::of(f, "deletion", absent.len(), AT_ONCE, &|range| {
        let rows: Vec<f64> = absent[range.clone()].iter().flat_map(present).collect();
        Ok(Tensor::from_vec(rows, (range.len(), features), &Device::Cpu)?)
    })?;
    let (columns, several) = (outcomes.columns(), outcomes.several());
    check_class(class, columns.len(), several)?;
    let logits = |variant: usize| columns.iter().map(|column| column[variant]).collect();
    Ok((0..absent.len()).map(|variant| Answer::new(logits(variant), class, several)).collect())
}

/// Errors if there is no such class, or none that it could lose to.
fn check_class(class: usize, classes: usize, several: bool) -> Result<()> {
    if several && classes == 1 {
        return Err(Error::argument(
            "one class has no rival, so its probability is always 1: give several classes or prompts, or answer a question of \
             yes or no, `(n,)`, as `target.of(…)` does",
        ));
    }
    match class < classes {
        true => Ok(()),
        false => Err(Error::out_of_range("class", class, classes)),
    }
}

impl Answer {
    /// Of a question of yes or no there is one logit, z; «no» has 0: then softmax is the sigmoid, and the greater one z's sign.
    fn new(logits: Vec<f64>, class: usize, several: bool) -> Self {
        match several {
            true => Self { logits, class },
            false => Self { logits: vec![0.0, logits[0]], class: 1 },
        }
    }

    /// What is said of the class, beside the answer with all features.
    fn said(&self, whole: &Self) -> Said {
        Said {
            logit: self.logits[self.class],
            log_probability: log_softmax(&self.logits, self.class),
            stays: top(&self.logits) == top(&whole.logits),
        }
    }
}

/// The class of the greatest logit, the first of equals.
fn top(logits: &[f64]) -> usize {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0)
}

fn log_softmax(logits: &[f64], class: usize) -> f64 {
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    logits[class] - most - logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln()
}
