//! What every method returns: scores over features, what they promised, and how far they are from it.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::ablation::Groups;
use crate::context_cite::Sources;
use crate::model::parts::Parts;
use crate::model::text::{Continuation, Text, Token};
use crate::model::{Patches, VisualPrompt};
use crate::tensor::{column_sums, finite, numbers};
use crate::{Error, Result};

/// Scores over the features of one input, for one target.
///
/// Positive scores support the target, negative ones speak against it. Fresh from a method, the features are the elements
/// of the input tensor; [`over`](Self::over) sums a token's channels, [`words`](Self::words) a word's pieces,
/// [`over_pixels`](Self::over_pixels) a pixel's colours, [`patches`](Self::patches) the pixels of a square. Sums keep their
/// sign, so the total, and with it the completeness gap, never changes; where a part is kept and the rest left out, as by
/// [`over_patches`](Self::over_patches), the law goes with the rest, and the figure says so.
///
/// `serde_json` writes and reads it without loss.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let blank = bert.baseline(&text, &Baseline::token("[MASK]"))?;
/// let f = |x: &Tensor| positive.of(&bert.logits(&text, x)?);
///
/// let why = integrated_gradients(f, &bert.embed(&text)?, &blank, &Steps::default())?.over(&text)?.words()?;
/// let why = why.named(positive.describe(&bert.labels()));
/// assert_eq!((why.top(1)[0].0.as_str(), why.target.as_str()), ("loved", "logit of `positive`"));
/// assert_eq!(Attribution::from_json(&why.to_json()?)?, why);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The method, in words: «integrated gradients».
    pub method: String,
    /// What was explained: «logit of `positive`».
    pub target: String,
    /// What the scores are over.
    pub features: Features,
    /// One score per feature, row-major for elements. If several outputs were explained together, the scores of their sum.
    pub scores: Vec<f64>,
    /// The outputs that were explained together, in their order: the tokens of a continuation. Empty if there was one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// The law the method promises, where it promises one.
    pub completeness: Option<Completeness>,
    /// The seed of methods that draw random numbers.
    pub seed: Option<u64>,
    /// The method's settings, by name: `steps` and `quadrature`; `σ` and `draws`; `window` and `stride`; `permutations`,
    /// `coalitions`, `samples`; `α`, `duality gap`, `masks`, `keep probability`; what a measure of trust found; of which `part`
    /// of the whole the scores are.
    pub settings: BTreeMap<String, String>,
}

/// One of several outputs that were explained together, such as a token of a continuation.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
/// let said = llm.generate(&prompt, &Sampling::greedy(3))?;
/// let why = gradient_x_input(|x| llm.log_probs(&said, x), &llm.embed(&prompt)?)?.over(&prompt)?.toward(&said)?;
/// assert_eq!(why.outputs[0].name, said.tokens()[0].text);
/// assert_eq!(why.outputs[0].scores.len(), prompt.len());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// What it is called: the token.
    pub name: String,
    /// One score per feature.
    pub scores: Vec<f64>,
    /// The law for this output, where the method promises one.
    pub completeness: Option<Completeness>,
}

/// What scores are over.
///
/// ```
/// # use pellucid::prelude::*;
/// let picture = Tensor::ones((3, 4, 4), DType::F64, &Device::Cpu)?;
/// let why = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &picture)?;
/// assert_eq!(why.features, Features::Elements { shape: vec![3, 4, 4] });
/// let pixels = why.over_pixels()?;
/// assert_eq!(pixels.features, Features::Pixels { height: 4, width: 4 });
/// assert_eq!(pixels.patches(2)?.features, Features::Patches { rows: 2, columns: 2 });
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Features {
    /// The elements of a tensor of this shape.
    Elements {
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// Tokens of a text.
    Tokens {
        /// The text.
        text: String,
        /// Its tokens, special ones included.
        tokens: Vec<Token>,
    },
    /// Whole words of a text; special tokens stay by themselves.
    Words {
        /// The text.
        text: String,
        /// Its words.
        tokens: Vec<Token>,
    },
    /// Parts of a text that go together: sentences, fields of a template, spans of one's own.
    Spans {
        /// The text.
        text: String,
        /// Its parts.
        tokens: Vec<Token>,
    },
    /// Pixels of a picture, row by row.
    Pixels {
        /// Rows of pixels.
        height: usize,
        /// Columns of pixels.
        width: usize,
    },
    /// Square patches of a picture, row by row.
    Patches {
        /// Rows of patches.
        rows: usize,
        /// Columns of patches.
        columns: usize,
    },
}

impl Features {
    /// The text they are parts of; `None` for elements and parts of a picture.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Tokens { text, .. } | Self::Words { text, .. } | Self::Spans { text, .. } => Some(text),
            Self::Elements { .. } | Self::Pixels { .. } | Self::Patches { .. } => None,
        }
    }

    fn tokens(&self) -> &[Token] {
        match self {
            Self::Tokens { tokens, .. } | Self::Words { tokens, .. } | Self::Spans { tokens, .. } => tokens,
            Self::Elements { .. } | Self::Pixels { .. } | Self::Patches { .. } => &[],
        }
    }

    /// `(h,w)` of a map over a picture; `None` for everything else.
    pub(crate) fn map(&self) -> Option<(usize, usize)> {
        match *self {
            Self::Pixels { height, width } => Some((height, width)),
            Self::Patches { rows, columns } => Some((rows, columns)),
            _ => None,
        }
    }

    /// The shape of a tensor with one number per feature.
    fn shape(&self) -> Vec<usize> {
        match (self, self.map()) {
            (Self::Elements { shape }, _) => shape.clone(),
            (_, Some((height, width))) => vec![height, width],
            _ => vec![self.tokens().len()],
        }
    }

    /// What one feature is called.
    pub(crate) fn name(&self, index: usize) -> String {
        let place = |columns: usize| format!("row {}, column {}", index / columns.max(1), index % columns.max(1));
        match self {
            Self::Elements { .. } => format!("x[{index}]"),
            Self::Pixels { width, .. } => format!("pixel in {}", place(*width)),
            Self::Patches { columns, .. } => format!("patch in {}", place(*columns)),
            _ => self.tokens().get(index).map_or_else(|| format!("x[{index}]"), |token| token.text.clone()),
        }
    }
}

/// The completeness axiom, f(x) − f(x′) = Σ scores (Sundararajan et al. 2017, proposition 1), and by how much it was missed.
///
/// ```
/// # use pellucid::prelude::*;
/// let x = Tensor::new(&[2.0f64], &Device::Cpu)?;
/// let cube = |x: &Tensor| Ok((x.sqr()? * x)?.sum(1)?);
/// let law = integrated_gradients(cube, &x, &x.zeros_like()?, &Steps::until(1e-6))?.completeness.unwrap();
/// assert_eq!(law.promised, 8.0);    // f(x) − f(x′)
/// assert!(law.reached() && law.gap().abs() < 1e-5);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completeness {
    /// f(x) − f(x′), in the target's unit; f(x) by itself for methods without a baseline.
    pub promised: f64,
    /// Σ scores, and what belongs to no feature.
    pub got: f64,
    /// |got − promised| / |promised|; a promise smaller than the ends' own rounding, ε·(|f(x)| + |f(x′)|), counts as that, and
    /// that of a [`span`](Attribution::span) of outputs, if smaller than its rounding floor, as the floor.
    pub relative_gap: f64,
    /// What rounding alone may contribute: ε·√n·(|f(x)| + |f(x′)| + Σ|score|), ε being the precision of the arithmetic and n
    /// the number of steps. A gap of this size says nothing about the steps.
    pub rounding_floor: f64,
    /// Steps that were used; of Shapley values, permutations or coalitions; 1 where there is nothing to refine.
    pub steps: usize,
    /// The relative gap that was asked for, if one was.
    pub tolerance: Option<f64>,
    /// What belongs to no feature and yet counts: the relevance of biases that are added when tokens have become one vector.
    #[serde(default, skip_serializing_if = "is_nil")]
    pub unattributed: f64,
}

fn is_nil(x: &f64) -> bool {
    *x == 0.0
}

/// The setting that says of which part of the whole the scores are, where the law of the whole was lost with the rest.
pub(crate) const PART: &str = "part";

impl Completeness {
    /// From the ends' values and the scores.
    pub(crate) fn new(ends: (f64, f64), scores: &[f64], dtype: DType, steps: usize, tolerance: Option<f64>) -> Self {
        let (promised, got) = (ends.0 - ends.1, scores.iter().sum::<f64>());
        let sizes = ends.0.abs() + ends.1.abs() + scores.iter().map(|s| s.abs()).sum::<f64>();
        let rounding_floor = epsilon(dtype) * (steps as f64).sqrt() * sizes;
        let relative_gap = relative(got - promised, promised, epsilon(dtype) * (ends.0.abs() + ends.1.abs()));
        Self { promised, got, relative_gap, rounding_floor, steps, tolerance, unattributed: 0.0 }
    }

    /// From a number, and scores that are to sum to it together with what belongs to no feature.
    pub(crate) fn of_sum(output: f64, scores: &[f64], unattributed: f64, dtype: DType) -> Self {
        let all = [scores, &[unattributed]].concat();
        Self { unattributed, ..Self::new((output, 0.0), &all, dtype, 1, None) }
    }

    /// The law of the sum of two targets with the same steps.
    fn and(&self, other: &Self) -> Self {
        let (promised, got) = (self.promised + other.promised, self.got + other.got);
        let rounding_floor = self.rounding_floor + other.rounding_floor;
        let relative_gap = relative(got - promised, promised, rounding_floor);
        let unattributed = self.unattributed + other.unattributed;
        Self { promised, got, rounding_floor, relative_gap, unattributed, ..*self }
    }

    /// Σ scores − (f(x) − f(x′)): Captum's convergence delta, with its sign.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[2.0f64], &Device::Cpu)?;
    /// let cube = |x: &Tensor| Ok((x.sqr()? * x)?.sum(1)?);
    /// let left = integrated_gradients(cube, &x, &x.zeros_like()?, &Steps::new(Quadrature::Left, 4))?.completeness.unwrap();
    /// assert!((left.gap() - (5.25 - 8.0)).abs() < 1e-12);    // 2·¼·Σ 3·(k/2)², k = 0 … 3, is 5.25
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn gap(&self) -> f64 {
        self.got - self.promised
    }

    /// Whether the tolerance that was asked for was reached, or rounding forbids to come closer. True if none was asked for.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[2.0f64], &Device::Cpu)?;
    /// let cube = |x: &Tensor| Ok((x.sqr()? * x)?.sum(1)?);
    /// let asked = integrated_gradients(cube, &x, &x.zeros_like()?, &Steps::until(1e-6))?.completeness.unwrap();
    /// assert!(asked.reached() && asked.relative_gap <= 1e-6);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn reached(&self) -> bool {
        self.tolerance.is_none_or(|tolerance| self.relative_gap <= tolerance || self.gap().abs() <= self.rounding_floor)
    }
}

/// Indices of the k largest scores above 0, the largest first; of equals the earlier.
pub(crate) fn supporting(scores: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > 0.0).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(k);
    order
}

fn relative(gap: f64, promised: f64, least: f64) -> f64 {
    gap.abs() / promised.abs().max(least).max(f64::MIN_POSITIVE)
}

fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => f64::from(f32::EPSILON),
    }
}

impl Attribution {
    /// The scores of several outputs, `(o,features)`, as a tensor.
    ///
    /// Errors: there was one output.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
    /// let why = gradient_x_input(|x| Ok(x.sqr()?), &x)?;    // two outputs: x₀² and x₁²
    /// assert_eq!(why.matrix()?.to_vec2::<f64>()?, [[2.0, 0.0], [0.0, 8.0]]);
    /// assert_eq!(why.scores, [2.0, 8.0]);                   // their sum
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn matrix(&self) -> Result<Tensor> {
        if self.outputs.is_empty() {
            return Err(Error::argument(
                "one output was explained, so there is no matrix: explain a function with several, such as `log_probs`",
            ));
        }
        let rows: Vec<f64> = self.outputs.iter().flat_map(|output| output.scores.clone()).collect();
        Ok(Tensor::from_vec(rows, (self.outputs.len(), self.scores.len()), &Device::Cpu)?)
    }

    /// Scores over the elements of a tensor of this shape.
    pub(crate) fn of_elements(method: &str, shape: &[usize], scores: Vec<f64>) -> Result<Self> {
        finite("a score", &scores)?;
        Ok(Self {
            method: method.into(),
            target: "f(x)".into(),
            features: Features::Elements { shape: shape.to_vec() },
            scores,
            outputs: Vec::new(),
            completeness: None,
            seed: None,
            settings: BTreeMap::new(),
        })
    }

    /// `(rows,columns)` → patches: scores that a vision model's own tokens have, such as the class token's row of an attention
    /// rollout, without the class token ([`on_grid`](crate::model::Vision::on_grid)). The method is named by its words,
    /// «attention rollout»; the target is «any target» until it is [`named`](Self::named), because attention knows of none.
    ///
    /// Scores of the tokens that are an [`Attribution`] already keep their seed, settings and law in
    /// [`over_patches`](Self::over_patches).
    ///
    /// Errors: not `(rows,columns)`, or not finite.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let map = Tensor::new(&[[0.1f64, 0.2, 0.3], [0.2, 0.1, 0.0]], &Device::Cpu)?;
    /// let patches = Attribution::of_patches("attention rollout", &map)?;
    /// assert_eq!(patches.top(1)[0], ("patch in row 0, column 2".into(), 0.3));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn of_patches(method: &str, map: &Tensor) -> Result<Self> {
        let &[rows, columns] = map.dims() else {
            return Err(Error::shape("the scores of patches", "(rows, columns)", map.dims()));
        };
        let attribution = Self::of_elements(method, map.dims(), numbers(map)?)?;
        Ok(Self { features: Features::Patches { rows, columns }, ..attribution }.named("any target"))
    }

    /// `(t,)` → tokens of a text: scores that a model's own tokens have, such as the class token's row of an attention rollout.
    /// The target is «any target» until it is [`named`](Self::named).
    ///
    /// Errors: not one finite score per token.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let rolled = rollout(&bert.attention(&text)?, &Rollout::default())?;
    /// let why = Attribution::of_tokens("attention rollout", &rolled.i((0, 0))?, &text)?;
    /// assert!((why.sum() - 1.0).abs() < 1e-5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn of_tokens(method: &str, row: &Tensor, text: &Text) -> Result<Self> {
        Ok(Self::of_elements(method, row.dims(), numbers(row)?)?.over(text)?.named("any target"))
    }

    /// The same of one output, or of several together, whose scores stand below those of their sum.
    pub(crate) fn of_outputs(method: &str, shape: &[usize], sum: Vec<f64>, outputs: Vec<Vec<f64>>) -> Result<Self> {
        outputs.iter().try_for_each(|scores| finite("a score", scores))?;
        let named = |(i, scores)| Output { name: format!("output {i}"), scores, completeness: None };
        let outputs = outputs.into_iter().enumerate().map(named).collect();
        Ok(Self { outputs, ..Self::of_elements(method, shape, sum)? })
    }

    pub(crate) fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.into(), value.to_string());
        self
    }

    /// The same scores with the target named, which a method that sees only f cannot know.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
    /// let why = gradient_x_input(|x| Ok(x.sum(1)?), &x)?.named("the sum");
    /// assert_eq!(why.target, "the sum");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn named(mut self, target: impl ToString) -> Self {
        self.target = target.to_string();
        self
    }

    /// The same scores with the outputs named after the tokens of a continuation.
    ///
    /// Errors: not one output per token.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
    /// let said = llm.generate(&prompt, &Sampling::greedy(3))?;
    /// let why = gradient_x_input(|x| llm.log_probs(&said, x), &llm.embed(&prompt)?)?.over(&prompt)?.toward(&said)?;
    /// assert_eq!(why.target, format!("«{}»", said.text().trim()));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn toward(mut self, said: &Continuation) -> Result<Self> {
        if self.outputs.len() != said.len() {
            let wanted = format!("({},), one per token of «{}»", said.len(), said.text().trim());
            return Err(Error::shape("the outputs", wanted, &[self.outputs.len()]));
        }
        self.outputs.iter_mut().zip(said.tokens()).for_each(|(output, token)| output.name = token.text.clone());
        self.target = format!("«{}»", said.text().trim());
        Ok(self)
    }

    /// One output by itself.
    ///
    /// Errors: there is no such output.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
    /// let why = gradient_x_input(|x| Ok(x.sqr()?), &x)?;    // two outputs: x₀² and x₁²
    /// assert_eq!(why.output(1)?.scores, [0.0, 8.0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn output(&self, index: usize) -> Result<Self> {
        let missing = || Error::out_of_range("output", index, self.outputs.len());
        let Output { name, scores, completeness } = self.outputs.get(index).ok_or_else(missing)?.clone();
        let target = format!("«{}»", name.trim());
        Ok(Self { target, scores, completeness, outputs: Vec::new(), ..self.clone() })
    }

    /// Some outputs together: the sum of their scores, which explains the sum of their targets. For log-probabilities that
    /// is the log-probability of the span.
    ///
    /// Errors: an empty span, or one that sticks out.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, 2.0, 3.0], &Device::Cpu)?;
    /// let why = gradient_x_input(|x| Ok(x.sqr()?), &x)?;    // three outputs: x₀², x₁², x₂²
    /// assert_eq!(why.span(0..2)?.scores, [2.0, 8.0, 0.0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn span(&self, outputs: Range<usize>) -> Result<Self> {
        let some = self.outputs.get(outputs.clone()).filter(|some| !some.is_empty());
        let some = some.ok_or_else(|| {
            Error::argument(format!(
                "a span of outputs must lie within 0..{} and not be empty; got {outputs:?}",
                self.outputs.len()
            ))
        })?;
        let mut scores = vec![0.0; self.scores.len()];
        some.iter().for_each(|output| scores.iter_mut().zip(&output.scores).for_each(|(sum, score)| *sum += score));
        let target = format!("«{}»", some.iter().map(|output| output.name.as_str()).collect::<String>().trim());
        let completeness = some.iter().map(|output| output.completeness).reduce(|a, b| Some(a?.and(&b?))).flatten();
        Ok(Self { target, scores, completeness, outputs: some.to_vec(), ..self.clone() })
    }

    /// Scores of every output and of their sum, aggregated alike.
    fn aggregated(self, features: Features, sum: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let of = |output: Output| Output { scores: sum(&output.scores), ..output };
        let outputs = self.outputs.into_iter().map(of).collect();
        Self { scores: sum(&self.scores), outputs, features, ..self }
    }

    /// The scores of a part of the whole, of which the law of the whole says nothing.
    fn only(mut self, part: &str) -> Self {
        self.outputs.iter_mut().for_each(|output| output.completeness = None);
        self.completeness = None;
        self.setting(PART, part)
    }

    /// `(t,c)` or `(t,)` elements → tokens: Σ over the channels of each token.
    ///
    /// Errors: the scores are not over the elements of a tensor with one row per token of `text`.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I absolutely loved the movie!")?;
    /// let x = bert.embed(&text)?;    // (t,c)
    /// let positive = Target::Logit(bert.label("positive")?);
    /// let why = gradient_x_input(|x| positive.of(&bert.logits(&text, x)?), &x)?;
    /// let tokens = why.clone().over(&text)?;
    /// assert_eq!((why.scores.len(), tokens.scores.len()), (x.elem_count(), text.len()));
    /// assert!((why.sum() - tokens.sum()).abs() < 1e-9);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over(self, text: &Text) -> Result<Self> {
        let shape = self.elements()?;
        if !matches!(shape.len(), 1 | 2) || shape[0] != text.len() || shape.contains(&0) {
            let wanted = format!("({0}, c) or ({0},), a row per token, none of them empty", text.len());
            return Err(Error::shape("the scores", wanted, shape));
        }
        self.consistent()?;
        let channels = self.scores.len() / text.len();
        let features = Features::Tokens { text: text.source().into(), tokens: text.tokens().to_vec() };
        Ok(self.aggregated(features, |scores| scores.chunks(channels).map(|row| row.iter().sum()).collect()))
    }

    /// `(t,c)` or `(t,)` elements of a prompt with a picture → its tokens, the picture being one: Σ over its visual tokens. How much
    /// of the evidence was the picture, and how much the question.
    ///
    /// Errors: the scores are not over the elements of a tensor with one row per token of the prompt.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Square, Colour::Red, 18.0, 20.0, 10.0)?;
    /// let prompt = vlm.ask("What colour is the square?", &scene.image()?)?;
    /// let x = vlm.embed(&prompt, &prompt.pixels()?.unsqueeze(0)?)?.squeeze(0)?;
    /// let black = vlm.baseline(&prompt, &Baseline::mean(), &prompt.pixels()?.zeros_like()?)?;
    /// let red = Target::Logit(vlm.tokenizer().id("red")? as usize);
    /// let f = |x: &Tensor| red.of(&vlm.logits_from(&prompt, x)?);
    /// let why = integrated_gradients(f, &x, &black, &Steps::gauss_legendre(8))?.over_prompt(&prompt)?;
    /// assert_eq!(why.top(1)[0].0, "⟨picture⟩");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over_prompt(self, prompt: &VisualPrompt) -> Result<Self> {
        let (text, visual) = (prompt.text(), prompt.visual());
        let mut tokens = text.tokens().to_vec();
        let end = tokens[visual.end - 1].end;
        let picture = Token { text: "⟨picture⟩".into(), end, special: false, ..tokens[visual.start].clone() };
        tokens.splice(visual.clone(), [picture]);
        let sum = |scores: &[f64]| {
            let whole = scores[visual.clone()].iter().sum();
            [&scores[..visual.start], &[whole], &scores[visual.end..]].concat()
        };
        Ok(self.over(text)?.aggregated(Features::Tokens { text: text.source().into(), tokens }, sum))
    }

    /// The same elements → the picture's visual tokens alone, as patches of the picture. What the words have is left out, and with
    /// it the law of the whole.
    ///
    /// Errors: those of [`over_prompt`](Self::over_prompt).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vlm = Vlm::load("pellucid/tiny-vlm-shapes")?;
    /// # let scene = Scene::empty(1).with(Shape::Square, Colour::Red, 18.0, 20.0, 10.0)?;
    /// let prompt = vlm.ask("What colour is the square?", &scene.image()?)?;
    /// let x = vlm.embed(&prompt, &prompt.pixels()?.unsqueeze(0)?)?.squeeze(0)?;
    /// let red = Target::Logit(vlm.tokenizer().id("red")? as usize);
    /// let map = gradient_x_input(|x| red.of(&vlm.logits_from(&prompt, x)?), &x)?.within_picture(&prompt)?;
    /// let [rows, columns] = prompt.grid();
    /// assert_eq!(map.features, Features::Patches { rows, columns });
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn within_picture(self, prompt: &VisualPrompt) -> Result<Self> {
        let (visual, [rows, columns]) = (prompt.visual(), prompt.grid());
        let by_token = self.over(prompt.text())?;
        let of_picture = |scores: &[f64]| scores[visual.clone()].to_vec();
        Ok(by_token.aggregated(Features::Patches { rows, columns }, of_picture).only("the picture"))
    }

    /// `(t,)` elements → patches of the picture: scores of a vision model's tokens, without the class token and others in
    /// front, and without the law of the whole if any are left out; or `(count,)`, one score for each patch.
    ///
    /// Errors: not one score per token or per patch.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?.under(Rules::libragrad());
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
    /// let x = vit.pixels(&scene.image()?)?.unsqueeze(0)?;
    /// let star = Target::Logit(vit.label("star")?);
    /// let layers = layer_gradients(|hook| star.of(&vit.logits_hooked(&x, hook)?), vit.layers())?;
    /// let map = full_grad(&layers)?.over_patches(vit.patches())?;
    /// assert_eq!(map.tensor()?.dims(), vit.patches().grid());
    /// assert_eq!((map.completeness, map.settings["part"].as_str()), (None, "the patches"));    // the class token has its share
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over_patches(self, patches: &Patches) -> Result<Self> {
        let (ahead, count, [rows, columns]) = (patches.ahead(), patches.count(), patches.grid());
        let features = Features::Patches { rows, columns };
        let shape = self.elements()?;
        if shape != [count] && shape != [ahead + count] {
            let wanted = format!("({},), one per token, or ({count},), one per patch", ahead + count);
            return Err(Error::shape("the scores", wanted, shape));
        }
        self.consistent()?;
        match self.scores.len() == count {
            true => Ok(Self { features, ..self }),
            false => Ok(self.aggregated(features, |scores| scores[ahead..].to_vec()).only("the patches")),
        }
    }

    /// The shape of the tensor whose elements the scores are over.
    fn elements(&self) -> Result<&[usize]> {
        match &self.features {
            Features::Elements { shape } => Ok(shape),
            other => {
                let what = if other.map().is_some() { "of a picture" } else { "of a text" };
                Err(Error::argument(format!("these scores are over parts {what} already")))
            }
        }
    }

    /// `(c,h,w)` elements → pixels: Σ over the channels of each pixel.
    ///
    /// Errors: the scores are not over the elements of a `(c,h,w)` tensor.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let picture = Tensor::ones((3, 2, 2), DType::F64, &Device::Cpu)?;
    /// let pixels = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &picture)?.over_pixels()?;
    /// assert_eq!(pixels.scores, [3.0; 4]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over_pixels(self) -> Result<Self> {
        let (height, width) = match *self.elements()? {
            [c, height, width] if c * height * width > 0 => (height, width),
            ref other => {
                let wanted = "(c, h, w), channels of a picture's pixels, none of them 0";
                return Err(Error::shape("the scores", wanted, other));
            }
        };
        self.consistent()?;
        let sum = |scores: &[f64]| column_sums(&scores.chunks(height * width).map(<[f64]>::to_vec).collect::<Vec<_>>());
        Ok(self.aggregated(Features::Pixels { height, width }, sum))
    }

    /// `(g,)` elements → pixels: scores of groups over a `(c,h,w)` picture, each divided evenly among the elements of its
    /// group, so that the total stays; pixels in no group have 0.
    ///
    /// A picture of it shows scores per pixel: a large segment is paler than a small one of the same score.
    ///
    /// Errors: not one score per group; groups over something else than a picture.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let picture = Tensor::ones((3, 4, 4), DType::F64, &Device::Cpu)?;
    /// let squares = Groups::patches(&picture, 2)?;
    /// let drop = feature_ablation(|x| Ok(x.sum((1, 2, 3))?), &picture, &picture.zeros_like()?, &squares)?;
    /// assert_eq!(drop.over_segments(&squares)?.scores, [3.0; 16]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over_segments(self, groups: &Groups) -> Result<Self> {
        if self.elements()? != [groups.len()] {
            let wanted = format!("({},), one per group", groups.len());
            return Err(Error::shape("the scores", wanted, self.elements()?));
        }
        self.consistent()?;
        let shape = groups.shape().to_vec();
        self.aggregated(Features::Elements { shape }, |scores| groups.divided(scores)).over_pixels()
    }

    /// Pixels → square patches of `size` by `size` pixels: Σ over the pixels of each.
    ///
    /// Errors: the scores are not over pixels; patches that do not divide the picture.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let picture = Tensor::ones((3, 4, 4), DType::F64, &Device::Cpu)?;
    /// let pixels = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &picture)?.over_pixels()?;
    /// assert_eq!(pixels.patches(2)?.scores, [12.0; 4]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn patches(&self, size: usize) -> Result<Self> {
        self.consistent()?;
        let Features::Pixels { height, width } = self.features else {
            return Err(Error::argument(
                "only scores over pixels can be summed to patches: call `over_pixels()` first",
            ));
        };
        if size == 0 || height % size != 0 || width % size != 0 {
            return Err(Error::argument(format!(
                "patches of {size} × {size} pixels do not divide a picture of {height} rows and {width} columns"
            )));
        }
        let (rows, columns) = (height / size, width / size);
        let sum = |scores: &[f64]| {
            let mut sums = vec![0.0; rows * columns];
            let patch = |pixel: usize| pixel / width / size * columns + pixel % width / size;
            scores.iter().enumerate().for_each(|(pixel, score)| sums[patch(pixel)] += score);
            sums
        };
        Ok(self.clone().aggregated(Features::Patches { rows, columns }, sum))
    }

    /// Elements `(s,)` → the parts of a text they stand for.
    ///
    /// Errors: not one score per part.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let parts = Parts::words(&bert.read("I loved it.")?)?;
    /// let why = gradient_x_input(|present| Ok(present.sum(1)?), &parts.all()?)?.over_parts(&parts)?;
    /// assert_eq!(why.tokens()[1].text, "loved");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over_parts(self, parts: &Parts) -> Result<Self> {
        match self.elements()? == [parts.len()] {
            true => {
                let features = Features::Spans { text: parts.source().into(), tokens: parts.tokens().to_vec() };
                Ok(Self { features, ..self })
            }
            false => Err(Error::shape("the scores", format!("({},), one per part", parts.len()), self.elements()?)),
        }
    }

    /// Tokens of a prompt → the sources of its context: Σ over the tokens of each, to be compared with
    /// [`ContextCite`](crate::ContextCite). What other tokens have is left out, and with it the law of the whole, as every figure
    /// says.
    ///
    /// Errors: the scores are not over tokens; the text does not say the context.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let sources = Sources::sentences("Sarah plays the piano. The lamp is in the bedroom.")?;
    /// let prompt = llm.read(format!("{} Where is the lamp?", sources.context()))?;
    /// let why = gradient_x_input(|x| Ok(x.sum((1, 2))?), &llm.embed(&prompt)?)?.over(&prompt)?.over_sources(&sources)?;
    /// assert_eq!(why.tokens()[1].text, "The lamp is in the bedroom.");
    /// assert_eq!(why.scores.len(), 2);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over_sources(&self, sources: &Sources) -> Result<Self> {
        self.consistent()?;
        let Features::Tokens { text, tokens } = &self.features else {
            return Err(Error::argument("only scores over tokens can be summed to sources: call `over(&text)` first"));
        };
        let places = sources.tokens_in(text, tokens)?;
        let sum = |scores: &[f64]| places.iter().map(|tokens| scores[tokens.clone()].iter().sum()).collect();
        Ok(self.clone().aggregated(sources.features(), sum).only("the sources"))
    }

    /// Tokens → words: Σ over the pieces of each word. Special tokens stay by themselves; words and other parts of a text
    /// stay as they are.
    ///
    /// Errors: the scores are over elements (call [`over`](Self::over) first), or over a picture.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I adored it.")?;    // some words are several tokens
    /// let tokens = gradient_x_input(|x| Ok(x.sum((1, 2))?), &bert.embed(&text)?)?.over(&text)?;
    /// let words = tokens.words()?;
    /// assert!(words.scores.len() < tokens.scores.len() && words.tokens()[2].text == "adored");
    /// assert!((words.sum() - tokens.sum()).abs() < 1e-9);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn words(&self) -> Result<Self> {
        self.consistent()?;
        let (text, tokens) = match &self.features {
            Features::Tokens { text, tokens } => (text, tokens),
            Features::Words { .. } | Features::Spans { .. } => return Ok(self.clone()),
            Features::Elements { .. } | Features::Pixels { .. } | Features::Patches { .. } => {
                return Err(Error::argument(
                    "only scores over tokens can be summed to words: call `over(&text)` first",
                ));
            }
        };
        let mut words: Vec<Token> = Vec::new();
        let mut pieces: Vec<usize> = Vec::with_capacity(tokens.len());
        for token in tokens {
            match words.last_mut() {
                Some(last) if token.continues(last) => last.absorb(token, text),
                _ => words.push(token.as_word(text)),
            }
            pieces.push(words.len() - 1);
        }
        let count = words.len();
        let sum = |scores: &[f64]| {
            let mut sums = vec![0.0; count];
            pieces.iter().zip(scores).for_each(|(&word, score)| sums[word] += score);
            sums
        };
        Ok(self.clone().aggregated(Features::Words { text: text.clone(), tokens: words }, sum))
    }

    /// The tokens, words or parts the scores are over; none for elements and pictures.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let why = gradient_x_input(|x| Ok(x.sum((1, 2))?), &bert.embed(&text)?)?.over(&text)?;
    /// assert_eq!(why.tokens(), text.tokens());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn tokens(&self) -> &[Token] {
        self.features.tokens()
    }

    /// The scores as a tensor of the features' shape, `f64`: `(h,w)` over a picture.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let picture = Tensor::ones((3, 2, 5), DType::F64, &Device::Cpu)?;
    /// let pixels = gradient_x_input(|x| Ok(x.sum((1, 2, 3))?), &picture)?.over_pixels()?;
    /// assert_eq!(pixels.tensor()?.dims(), [2, 5]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn tensor(&self) -> Result<Tensor> {
        self.consistent()?;
        Ok(Tensor::from_slice(&self.scores, self.features.shape(), &Device::Cpu)?)
    }

    /// Σ scores.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, -3.0, 2.5], &Device::Cpu)?;
    /// assert_eq!(gradient_x_input(|x| Ok(x.sum(1)?), &x)?.sum(), 0.5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn sum(&self) -> f64 {
        self.scores.iter().sum()
    }

    /// Indices of the features, special tokens included, largest |score| first.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, -3.0, 2.5], &Device::Cpu)?;
    /// assert_eq!(gradient_x_input(|x| Ok(x.sum(1)?), &x)?.order(), [1, 2, 0]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_by(|&a, &b| self.scores[b].abs().total_cmp(&self.scores[a].abs()));
        order
    }

    /// The k features that support the target most, the first of them the most: those of the largest scores above 0, special
    /// tokens included.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, -3.0, 2.5], &Device::Cpu)?;
    /// assert_eq!(gradient_x_input(|x| Ok(x.sum(1)?), &x)?.supporting(3), [2, 0]);    // −3 speaks against it
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn supporting(&self, k: usize) -> Vec<usize> {
        supporting(&self.scores, k)
    }

    /// Whether a feature is a special token.
    pub(crate) fn is_special(&self, index: usize) -> bool {
        self.tokens().get(index).is_some_and(|token| token.special)
    }

    /// The k features of largest |score|, special tokens left out: their text and score.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, -3.0, 2.5], &Device::Cpu)?;
    /// let why = gradient_x_input(|x| Ok(x.sum(1)?), &x)?;
    /// assert_eq!(why.top(2), [("x[1]".to_string(), -3.0), ("x[2]".to_string(), 2.5)]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn top(&self, k: usize) -> Vec<(String, f64)> {
        let plain = self.order().into_iter().filter(|&i| !self.is_special(i));
        plain.take(k).map(|i| (self.features.name(i), self.scores[i])).collect()
    }

    /// The attribution as JSON.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
    /// let why = gradient_x_input(|x| Ok(x.sum(1)?), &x)?;
    /// assert!(why.to_json()?.contains("\"kind\": \"elements\""));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// Errors: not JSON of an attribution, or not one score per feature.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
    /// let why = gradient_x_input(|x| Ok(x.sum(1)?), &x)?;
    /// assert_eq!(Attribution::from_json(&why.to_json()?)?, why);
    /// assert!(Attribution::from_json(&why.to_json()?.replace("[\n    1.0,", "[")).is_err());    // a score is missing
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn from_json(json: &str) -> Result<Self> {
        let attribution: Self = serde_json::from_str(json)?;
        attribution.consistent()?;
        Ok(attribution)
    }

    /// Errors unless there is one finite score per feature, for every output.
    pub(crate) fn consistent(&self) -> Result<()> {
        let features: usize = self.features.shape().iter().product();
        let mut all = std::iter::once(&self.scores).chain(self.outputs.iter().map(|output| &output.scores));
        match all.clone().map(Vec::len).find(|len| *len != features) {
            None => all.try_for_each(|scores| finite("a score", scores)),
            Some(len) => Err(Error::shape("the scores", format!("({features},), one per feature"), &[len])),
        }
    }
}
