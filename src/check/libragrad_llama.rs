//! The exercises of chapter 09.

use candle_core::{D, DType, Device, Tensor};

use super::{Gap, Outcome, Verdict, near, require, same};
use crate::baseline::noise;
use crate::model::{CausalLm, Load, Rules};
use crate::tensor::numbers;
use crate::{LayerGradients, Result, Target, grad_at, layer_gradients};

const MODEL: &str = "pellucid/tiny-llama-facts";
const EPSILON: f64 = 1e-5;

/// Seeded numbers, `(1,4,6)`.
fn drawn(mean: f64, seed: u64) -> Result<Tensor> {
    noise(&Tensor::zeros((1, 4, 6), DType::F64, &Device::Cpu)?, mean, 1.0, seed)
}

/// x̄ of y = f(x), for ȳ.
fn walked_back(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, y_bar: &Tensor) -> Result<Tensor> {
    grad_at(|x| Ok((f(x)? * y_bar)?.flatten_from(1)?.sum(1)?), x)
}

/// Σ a·b.
fn product(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok((a * b)?.sum_all()?.to_scalar::<f64>()?)
}

/// (x, γ, β) → LayerNorm with ε = 1e-5 whose 1/σ is a constant on the way back, and whose mean is not.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::frozen_layer_norm(|x, _, _| Ok(x.clone())).passed);
/// ```
pub fn frozen_layer_norm(mine: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>) -> Verdict {
    Verdict::new(is_frozen_layer_norm(&mine))
}

type OfThree<'a> = dyn Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + 'a;

fn is_frozen_layer_norm(mine: &OfThree) -> Outcome {
    let (x, y_bar) = (drawn(1.0, 0)?, drawn(0.0, 1)?);
    let [gamma, beta] = [drawn(1.0, 2)?, drawn(0.0, 3)?].map(|rows| rows.get(0).and_then(|rows| rows.get(0)));
    let (gamma, beta) = (gamma?, beta?);
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let sigma = (centred.sqr()?.mean_keepdim(D::Minus1)? + EPSILON)?.sqrt()?;
    let value = centred.broadcast_div(&sigma)?.broadcast_mul(&gamma)?.broadcast_add(&beta)?;
    same("The values of the norm", &numbers(&mine(&x, &gamma, &beta)?)?, &numbers(&value)?, 1e-6)?;
    let x_bar = walked_back(|x| mine(x, &gamma, &beta), &x, &y_bar)?;
    let (got, bias) = (product(&x, &x_bar)?, product(&beta.broadcast_as(x.shape())?, &y_bar)?);
    let wanted = product(&value, &y_bar)? - bias;
    require(!near(got, 0.0, 1e-3), || format!("Σ x·x̄ is {got:.4}: 1/σ is walked back too, and takes all of it."))?;
    let upstream = y_bar.broadcast_mul(&gamma)?.broadcast_div(&sigma)?;
    let hint = match near(got, product(&x, &upstream)?, 1e-6) {
        true => "The mean is linear.",
        false => "Only 1/σ is a factor; all else is walked back.",
    };
    require(near(got, wanted, 1e-6), || {
        format!("Σ x·x̄ + Σ β·ȳ is {:.4}, and Σ y·ȳ is {:.4}. {hint}", got + bias, wanted + bias)
    })?;
    let balanced = upstream.broadcast_sub(&upstream.mean_keepdim(D::Minus1)?)?;
    same("It adds up, but is not γ·ȳ/σ less its mean", &numbers(&x_bar)?, &numbers(&balanced)?, 1e-6)?;
    Ok("What goes in is what comes out, with β's share of it.".into())
}

/// (x, c) → c·tanh(x/c) as x times a gate that is a constant on the way back, also where x is 0.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::soft_cap(|x, cap| Ok(((x / cap)?.tanh()? * cap)?)).passed);
/// ```
pub fn soft_cap(mine: impl Fn(&Tensor, f64) -> Result<Tensor>) -> Verdict {
    Verdict::new(is_soft_cap(&mine))
}

fn is_soft_cap(mine: &dyn Fn(&Tensor, f64) -> Result<Tensor>) -> Outcome {
    const X: [f64; 5] = [-70.0, -3.0, 0.0, 0.5, 40.0];
    let x = Tensor::new(&[X], &Device::Cpu)?;
    for cap in [30.0, 2.0] {
        let values = X.map(|x| cap * (x / cap).tanh());
        let got = numbers(&mine(&x, cap)?)?;
        require(got.iter().all(|y| y.is_finite()), || "At x = 0 the gate is 0/0; what is its limit there?".into())?;
        same("The values", &got, &values, 1e-9)?;
        let slopes = numbers(&walked_back(|x| mine(x, cap), &x, &x.ones_like()?)?)?;
        let exact = X.map(|x| 1.0 - (x / cap).tanh().powi(2));
        require(!slopes.iter().zip(exact).all(|(got, exact)| near(*got, exact, 1e-6)), || {
            format!(
                "x·x̄ of {} is {:.4}, and y is {:.4}: that is the gradient as it was.",
                X[1],
                X[1] * slopes[1],
                values[1]
            )
        })?;
        let gates: Vec<f64> = X.iter().zip(values).map(|(x, y)| if *x == 0.0 { 1.0 } else { y / x }).collect();
        same("The gates", &slopes, &gates, 1e-9)?;
    }
    Ok("x·x̄ = y at every x, and at 0 the gate is 1.".into())
}

/// Rules under which every layer's relevance sums to the logit, and which walk back otherwise than LibraGrad's.
///
/// ```
/// # use pellucid::prelude::*;
/// assert!(!check::other_balance(Rules::libragrad()).passed);
/// ```
pub fn other_balance(rules: Rules) -> Verdict {
    Verdict::new(is_other_balance(rules))
}

fn is_other_balance(rules: Rules) -> Outcome {
    let llm = CausalLm::load_with(MODEL, &Load::f64())?;
    let mut apart = 0.0f64;
    for text in ["The capital of France is", "How many legs does a spider have?"] {
        let (mine, libra) = (relevance(&llm, text, rules)?, relevance(&llm, text, Rules::libragrad())?);
        for (layer, law) in mine.balance()?.iter().enumerate() {
            require(near(law.got, law.promised, 1e-6), || {
                format!("«{text}», layer {layer}: Σ x·x̄ is {:.2}, and the logit {:.2}.", law.got, law.promised)
            })?;
        }
        apart = apart.max((mine.relevance(0)? - libra.relevance(0)?)?.abs()?.max_all()?.to_scalar::<f64>()?);
    }
    match apart > 1e-6 {
        true => Ok(format!("It adds up at every layer, and a token's score differs by {apart:.2} from LibraGrad's.")),
        false => Err(Gap("It adds up, and every token has LibraGrad's own score.".into())),
    }
}

/// Every layer's relevance for the logit of the next token.
fn relevance(llm: &CausalLm, text: &str, rules: Rules) -> Result<LayerGradients> {
    let (model, x) = (llm.under(rules), llm.embed(&llm.read(text)?)?.unsqueeze(0)?);
    let next = Target::Logit(llm.logits(&x)?.argmax(1)?.to_vec1::<u32>()?[0] as usize);
    layer_gradients(|hook| next.of(&model.next_logits_hooked(&x, hook)?), llm.layers())
}
