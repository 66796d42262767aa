//! How the gradient walks back through products: exactly, or so that relevance is conserved.
//!
//! Mehri, Soleymani Baghshah & Pilehvar, *LibraGrad: Balancing Gradient Flow for Universally Better Vision Transformer
//! Attributions*, 2025, arXiv 2411.16760. Everything in a transformer that is not affine is a product f·g: what is
//! normalised and 1/σ, values and the attention pattern, x and the gate G(x) of an activation x·G(x), the two branches of
//! a gated feed-forward network. The exact gradient of a product counts its value twice, f·∇g + g·∇f. A rule says which
//! share of it is walked back.

use std::fmt;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// What is walked back of a product f·g, whose second factor g is named in [`Rules`].
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::model::blocks::{Activation, Chain, Gate, Stage};
/// let gate = Chain::new(vec![Stage::Gate(Gate(Activation::Relu))]);
/// let x = Tensor::new(&[[[2.0f64, 3.0]]], &Device::Cpu)?;    // y = 2·3
/// for (rule, slopes) in [(Product::Exact, [3.0, 2.0]), (Product::Halved, [1.5, 1.0]), (Product::Frozen, [0.0, 2.0])] {
///     let gate = gate.under(Rules { gate: rule, ..Rules::exact() });
///     let slope = grad_at(|x| Ok(gate.forward(x, None, &mut Clear)?.sum((1, 2))?), &x)?;
///     assert_eq!(slope.flatten_all()?.to_vec1::<f64>()?, slopes);
/// }
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// All of it: the gradient.
    #[default]
    Exact,
    /// g is a constant: nothing is walked back through it. Right whatever g is (arXiv 2411.16760, theorem 5).
    Frozen,
    /// Half of it through each factor. Right where both factors are balanced themselves (theorem 4 with a = b = ½).
    Halved,
}

impl Product {
    /// f·g by candle's operations: `times` of g, walked back as the rule says.
    pub(crate) fn of(
        self,
        g: &Tensor,
        times: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        self.shared(&times(&self.factor(g))?)
    }

    /// The factor g, a constant if it is frozen.
    pub(crate) fn factor(self, g: &Tensor) -> Tensor {
        if self == Self::Frozen { g.detach() } else { g.clone() }
    }

    /// The product y, of which half is a constant if it is halved.
    pub(crate) fn shared(self, y: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Halved => (y.detach() * 0.5)? + (y * 0.5)?,
            Self::Exact | Self::Frozen => Ok(y.clone()),
        }
    }

    /// The share of each factor's gradient, if it has one.
    pub(crate) fn share(self) -> f64 {
        if self == Self::Halved { 0.5 } else { 1.0 }
    }
}

/// How gradients walk back through a model: a rule for each kind of product. Its values are the same under all rules.
///
/// [`Bert::under`](super::Bert::under) and its like make a model of one that walks back by rules, so that every method of
/// this crate can be used with any of them: gradient × input, Integrated Gradients, gradients of attention.
///
/// Other rules than those of the table are written as `Rules { norm: Product::Exact, ..Rules::libragrad() }`, or by
/// [`without`](Self::without) and [`with`](Self::with).
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let libra = bert.under(Rules::libragrad());
/// let text = bert.read("I absolutely loved the movie!")?;
/// let positive = Target::Logit(bert.label("positive")?);
/// let f = |x: &Tensor| positive.of(&libra.logits(&text, x)?);
/// let why = gradient_x_input(f, &bert.embed(&text)?)?.over(&text)?;
/// assert_eq!(why.top(1)[0].0, "loved");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rules {
    /// A norm: what is centred or plain, times 1/σ or 1/ρ. The mean that is taken off is linear, and always walked back.
    pub norm: Product,
    /// An attention score: a query times a key. It is not reached where `attention` is frozen.
    pub score: Product,
    /// Attention: values times the pattern.
    pub attention: Product,
    /// An activation: x times its gate G(x) = a(x)/x.
    pub activation: Product,
    /// A gated feed-forward network: the value u times the activated a(g).
    pub gate: Product,
    /// A vector of length one, as CLIP's: the vector times 1/‖x‖.
    pub length: Product,
}

/// One of the rules by its name.
///
/// ```
/// # use pellucid::prelude::*;
/// let bare = Rules::libragrad().without(Rule::Attention);
/// assert_eq!((bare.attention, bare.norm), (Product::Exact, Product::Frozen));
/// assert_eq!(Rules::exact().with(Rule::Norm, Rules::libragrad()).norm, Product::Frozen);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// [`Rules::norm`].
    Norm,
    /// [`Rules::score`].
    Score,
    /// [`Rules::attention`].
    Attention,
    /// [`Rules::activation`].
    Activation,
    /// [`Rules::gate`].
    Gate,
    /// [`Rules::length`].
    Length,
}

use Product::{Exact, Frozen, Halved};

/// The rules that have names.
#[rustfmt::skip]
const TABLE: [(&str, Rules); 6] = [
    //                     norm    score   attention activation gate    length
    ("exact",     Rules::of(Exact,  Exact,  Exact,    Exact,     Exact,  Exact)),
    ("LibraGrad", Rules::of(Frozen, Exact,  Frozen,   Frozen,    Halved, Frozen)),
    ("AttnLRP",   Rules::of(Frozen, Halved, Halved,   Frozen,    Halved, Frozen)),
    ("CP-LRP",    Rules::of(Frozen, Exact,  Frozen,   Frozen,    Frozen, Frozen)),
    ("AliLRP",    Rules::of(Frozen, Exact,  Frozen,   Exact,     Exact,  Frozen)),
    ("DecompX",   Rules::of(Frozen, Exact,  Frozen,   Frozen,    Exact,  Frozen)),
];

impl Rules {
    const fn of(
        norm: Product,
        score: Product,
        attention: Product,
        activation: Product,
        gate: Product,
        length: Product,
    ) -> Self {
        Self { norm, score, attention, activation, gate, length }
    }

    /// The gradient as it is.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Rules::exact(), Rules::default());
    /// ```
    pub const fn exact() -> Self {
        TABLE[0].1
    }

    /// LibraGrad: every product counts once, so that Σ x·x̄ of any layer and the relevance of the biases above it sum to the
    /// output (arXiv 2411.16760, §3).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!((Rules::libragrad().gate, Rules::libragrad().attention), (Product::Halved, Product::Frozen));
    /// ```
    pub const fn libragrad() -> Self {
        TABLE[1].1
    }

    /// AttnLRP as a gradient: relevance is shared evenly over both factors of q·k and of A·V (Achtibat et al. 2024, arXiv
    /// 2402.05602). What softmax adds to it is dropped, so it does not sum to the output.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!((Rules::attn_lrp().score, Rules::attn_lrp().attention), (Product::Halved, Product::Halved));
    /// ```
    pub const fn attn_lrp() -> Self {
        TABLE[2].1
    }

    /// CP-LRP as AttnLRP's code has it: nothing through attention patterns, and nothing through gates either, so that all
    /// relevance of a gated network goes to the values. It sums to the output as LibraGrad does.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Rules { gate: Product::Frozen, ..Rules::libragrad() }, Rules::cp_lrp());
    /// ```
    pub const fn cp_lrp() -> Self {
        TABLE[3].1
    }

    /// Norms and attention patterns frozen, and nothing else (Ali et al. 2022, arXiv 2202.07304).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let exact = Rules::ali_lrp().without(Rule::Norm).without(Rule::Attention).without(Rule::Length);
    /// assert_eq!(exact, Rules::exact());
    /// ```
    pub const fn ali_lrp() -> Self {
        TABLE[4].1
    }

    /// DecompX as a gradient: LibraGrad without the half of gated products (Modarressi et al. 2023, arXiv 2306.02873).
    /// The same as LibraGrad where there are none.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// assert_eq!(Rules::libragrad().without(Rule::Gate), Rules::decompx());
    /// ```
    pub const fn decompx() -> Self {
        TABLE[5].1
    }

    /// All rules that have names, with these: a table to compare them by.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let names: Vec<&str> = Rules::named().into_iter().map(|(name, _)| name).collect();
    /// assert_eq!(names, ["exact", "LibraGrad", "AttnLRP", "CP-LRP", "AliLRP", "DecompX"]);
    /// ```
    pub fn named() -> Vec<(&'static str, Self)> {
        TABLE.to_vec()
    }

    /// The same with the exact gradient in place of one rule: what is missing without it?
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let rules = Rules::libragrad().without(Rule::Norm);
    /// assert_eq!(rules, Rules { norm: Product::Exact, ..Rules::libragrad() });
    /// ```
    pub fn without(mut self, rule: Rule) -> Self {
        *self.rule(rule) = Exact;
        self
    }

    /// The same with one rule taken from others: `Rules::exact().with(Rule::Norm, Rules::libragrad())` has LibraGrad's rule
    /// for norms alone.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let norms = Rules::exact().with(Rule::Norm, Rules::libragrad());
    /// assert_eq!(norms, Rules { norm: Product::Frozen, ..Rules::exact() });
    /// ```
    pub fn with(mut self, rule: Rule, mut other: Self) -> Self {
        *self.rule(rule) = *other.rule(rule);
        self
    }

    fn rule(&mut self, rule: Rule) -> &mut Product {
        match rule {
            Rule::Norm => &mut self.norm,
            Rule::Score => &mut self.score,
            Rule::Attention => &mut self.attention,
            Rule::Activation => &mut self.activation,
            Rule::Gate => &mut self.gate,
            Rule::Length => &mut self.length,
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.iter().find(|(_, rules)| rules == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{self:?}"),
        }
    }
}
