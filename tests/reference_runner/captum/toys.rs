//! Captum's toy networks. Their weights are in the descriptions, so a network is known by its whole description.

use pellucid::prelude::*;

use crate::reference_runner::Fallible;

/// A toy network: inputs `(n,…)` and further arguments → `(n,v)`.
#[derive(Clone, Copy)]
pub struct Toy {
    description: &'static str,
    pub forward: fn(&[Tensor], &[f64]) -> Result<Tensor>,
    /// Its output is one for the whole batch, so the batch is one example.
    pub aggregates: bool,
}

macro_rules! multi_layer {
    ($module:literal, $between:literal, $suffix:literal) => {
        concat!(
            "BasicModel_MultiLayer",
            $module,
            ": linear0 = identity 3x3, bias 0; linear1 = ones 4x3, bias [-10,1,1,1]; ",
            $between,
            "; linear2 = ones 2x4, bias [-1,1]; output (batch,2)",
            $suffix
        )
    };
}

/// The one network whose layers are explained from both sides.
pub const MULTI_RELU: &str = multi_layer!(
    "(multi_input_module=True)",
    "multi_relu = relu(linear1(x)) + relu(linear1_alt(x)) with linear1_alt identical to linear1",
    ""
);
/// The same with one relu.
pub const MULTI_LAYER: &str = multi_layer!("", "relu", "");

const CONV: &str = "BasicModel_ConvNet_One_Conv: conv1 1->2 channels 3x3 stride 1 no padding, all weights 1, bias [-50,-75]; \
    relu1; flatten to 8 (channel major); fc1 8->4: each row = [1,1,1,1,1,-1,-1,-1], bias 0; relu2; optional 2nd input is \
    added to the first";
const FOUR: &str = "BasicModel4_MultiArgs: f(x1,x2,a,j)=relu(relu(x1-1)-relu(x2)/a)[:,j]; a is an additional forward arg \
    (not attributed)";
const THREE: &str = "BasicModel_MultiLayer_MultiInput: BasicModel_MultiLayer(scale*(x1+x2+x3)), scale=1 unless noted";

const fn each(description: &'static str, forward: fn(&[Tensor], &[f64]) -> Result<Tensor>) -> Toy {
    Toy { description, forward, aggregates: false }
}

const fn whole(description: &'static str, forward: fn(&[Tensor], &[f64]) -> Result<Tensor>) -> Toy {
    Toy { description, forward, aggregates: true }
}

#[rustfmt::skip]
const TOYS: &[Toy] = &[
    each("BasicModel: f(x)=1-relu(1-x), elementwise, no parameters", |x, _| below_one(&x[0])),
    each("BasicModel2: f(x1,x2)=relu(relu(x1)-1-relu(x2)), elementwise, no parameters", basic2),
    each("BasicModel3: f(x1,x2)=relu(relu(x1-1)-relu(x2)), elementwise", basic3),
    each(FOUR, basic4),
    each("BasicModel5_MultiArgs: f(x1,x2,a,j)=relu(relu(x1-1)*a[0]-relu(x2)*a[1])[:,j]", basic5),
    each("BasicModel6_MultiTensor: f(x1,x2)=(1-relu(1-(x1+x2)))[:,1]", basic6),
    each("f(x)=2*x0+3*x1", |x, _| Ok(x[0].broadcast_mul(&row(&x[0], &[2.0, 3.0])?)?.sum_keepdim(1)?)),
    each("f(x1,x2,x3)=sum of all elements per example", everything),
    each(MULTI_LAYER, multi_layer),
    each(multi_layer!("", "relu", "; 2nd input added to the first"), multi_layer),
    each(THREE, multi_layer),
    each("BasicModelBoolInput: BasicModel_MultiLayer(10.0*float(x)), x boolean", |x, _| multi_layer(&[(&x[0] * 10.0)?], &[])),
    each(CONV, conv),
    whole("f(x)=x[0:1] (batch-aggregating forward)", |x, _| Ok(x[0].narrow(1, 0, 1)?.squeeze(1)?)),
    whole(multi_layer!("", "relu", "; forward returns sum over batch and classes"), total),
];

impl Toy {
    /// By its description.
    pub fn new(description: &str) -> Fallible<Self> {
        let found = TOYS.iter().find(|toy| toy.description == description).copied();
        found.ok_or_else(|| format!("the toy network `{description}` is not known").into())
    }
}

/// max(x, 0) with slope 0 at 0, as PyTorch has it (candle's has slope 1).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Ok((x * x.detach().gt(0.0)?.to_dtype(x.dtype())?)?)
}

/// Numbers as a row of x's precision, on its device.
fn row(x: &Tensor, numbers: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(numbers, x.device())?.to_dtype(x.dtype())?)
}

/// `linear1`: `(n,3) → (n,4)`.
pub fn linear1(x: &Tensor) -> Result<Tensor> {
    Ok(x.sum_keepdim(D::Minus1)?.broadcast_add(&row(x, &[-10.0, 1.0, 1.0, 1.0])?)?)
}

/// `linear2`: `(n,4) → (n,2)`.
pub fn linear2(x: &Tensor) -> Result<Tensor> {
    Ok(x.sum_keepdim(D::Minus1)?.broadcast_add(&row(x, &[-1.0, 1.0])?)?)
}

/// The sum of all inputs, `(n,3) → (n,2)`.
fn multi_layer(x: &[Tensor], _: &[f64]) -> Result<Tensor> {
    linear2(&relu(&linear1(&sum(x)?)?)?)
}

fn sum(x: &[Tensor]) -> Result<Tensor> {
    let (first, rest) = x.split_first().ok_or_else(|| Error::Argument("no inputs".into()))?;
    Ok(rest.iter().try_fold(first.clone(), |total, x| total.broadcast_add(x))?)
}

fn total(x: &[Tensor], _: &[f64]) -> Result<Tensor> {
    Ok(multi_layer(x, &[])?.sum((1, 2))?.unsqueeze(1)?)
}

fn below_one(x: &Tensor) -> Result<Tensor> {
    Ok((1.0 - relu(&(1.0 - x)?)?)?)
}

fn basic2(x: &[Tensor], _: &[f64]) -> Result<Tensor> {
    relu(&((relu(&x[0])? - 1.0)? - relu(&x[1])?)?)
}

fn basic3(x: &[Tensor], _: &[f64]) -> Result<Tensor> {
    relu(&(relu(&(&x[0] - 1.0)?)? - relu(&x[1])?)?)
}

fn basic4(x: &[Tensor], a: &[f64]) -> Result<Tensor> {
    relu(&(relu(&(&x[0] - 1.0)?)? - relu(&x[1])?.broadcast_div(&row(&x[1], a)?)?)?)
}

fn basic5(x: &[Tensor], a: &[f64]) -> Result<Tensor> {
    relu(&((relu(&(&x[0] - 1.0)?)? * a[0])? - (relu(&x[1])? * a[1])?)?)
}

fn basic6(x: &[Tensor], _: &[f64]) -> Result<Tensor> {
    Ok(below_one(&(&x[0] + &x[1])?)?.narrow(1, 1, 1)?)
}

fn everything(x: &[Tensor], _: &[f64]) -> Result<Tensor> {
    let sums: Vec<_> = x.iter().map(|x| x.flatten_from(1)?.sum_keepdim(1)).collect::<Result<_, _>>()?;
    sum(&sums)
}

/// `(n,1,h,w)`, h and w at least 3 → `(n,4)`.
fn conv(x: &[Tensor], _: &[f64]) -> Result<Tensor> {
    let windows = sum_of_windows(&sum(x)?)?.flatten_from(1)?;
    let channels = [-50.0, -75.0].map(|bias| relu(&(&windows + bias)?)).into_iter().collect::<Result<Vec<_>>>()?;
    let signs = row(&windows, &[1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0])?;
    let one = Tensor::cat(&channels, 1)?.broadcast_mul(&signs)?.sum_keepdim(1)?;
    relu(&one.repeat((1, 4))?)
}

/// A convolution with 3×3 ones.
fn sum_of_windows(x: &Tensor) -> Result<Tensor> {
    let (.., h, w) = x.dims4()?;
    let part = |k: usize| x.narrow(2, k / 3, h - 2)?.narrow(3, k % 3, w - 2);
    Ok((1..9).try_fold(part(0)?, |total, k| total + part(k)?)?)
}
