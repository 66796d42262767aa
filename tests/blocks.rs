//! Every differentiable block against finite differences and against candle's own operations, in `f64`.

#[path = "common/apart.rs"]
mod apart;

use apart::largest_difference;
use pellucid::model::blocks::{
    Activation, Attention, Chain, Gate, HeadNorm, LayerNorm, Linear, LogProbability, Pairing, RmsNorm, Rope, Setting,
    Stage, UnitLength,
};
use pellucid::prelude::*;

/// Seeded numbers of the size activations have.
fn random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let like = Tensor::zeros(shape, DType::F64, &Device::Cpu)?;
    pellucid::baseline::noise(&like, 0.0, 1.0, seed)
}

fn linear(from: usize, to: usize, seed: u64) -> Result<Linear> {
    Linear::new((random(&[to, from], seed)? * 0.3)?, Some(random(&[to], seed + 1)?))
}

fn layer_norm(channels: usize) -> Result<LayerNorm> {
    LayerNorm::new((random(&[channels], 3)? + 1.0)?, random(&[channels], 4)?, 1e-3)
}

fn rms_norm(channels: usize, seed: u64) -> Result<RmsNorm> {
    RmsNorm::new((random(&[channels], seed)? + 1.0)?, 1e-3)
}

const CHANNELS: usize = 12;

/// Rotary embeddings of heads with two pairs of channels.
fn rope(pairing: Pairing, heads: usize) -> Result<Stage> {
    Ok(Stage::Rope(Rope::new(vec![1.0, 0.1], pairing, heads)?))
}

/// The same where five tokens stand at places of their own, on two axes.
fn placed_rope() -> Result<Rope> {
    let rope = Rope::new(vec![1.0, 0.1], Pairing::Neighbours, 2)?.along(vec![0, 1])?;
    Ok(rope.at(vec![[0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [2, 3, 0]]))
}

/// Attention of five tokens that has a say in how they stand to each other.
fn biased_attention() -> Result<Attention> {
    Attention::new(2)?.biased(random(&[2, 5, 5], 24)?)
}

/// Each kind of stage, by name, taking `CHANNELS` channels.
fn stages() -> Result<Vec<(String, Vec<Stage>)>> {
    use Activation::{Gelu, GeluNew, QuickGelu, Relu, Silu, Tanh};
    let attention = || -> Result<_> { Ok(Stage::Attention(Attention::new(2)?, Site::Pattern(0))) };
    let inner = || -> Result<_> { Ok(vec![Stage::Linear(linear(CHANNELS, CHANNELS, 7)?), Stage::Activation(Gelu)]) };
    let mut stages = vec![
        ("linear".to_string(), vec![Stage::Linear(linear(CHANNELS, 5, 1)?)]),
        ("layer norm".to_string(), vec![Stage::LayerNorm(layer_norm(CHANNELS)?)]),
        ("attention".to_string(), vec![attention()?]),
        ("residual".to_string(), vec![Stage::Residual(inner()?)]),
        ("RMS norm".to_string(), vec![Stage::RmsNorm(rms_norm(CHANNELS, 21)?)]),
        ("head norm".to_string(), vec![Stage::HeadNorm(HeadNorm::new(rms_norm(3, 22)?, rms_norm(3, 23)?, 2, 1)?)]),
        ("rope, halves".to_string(), vec![rope(Pairing::Halves, 2)?]),
        ("rope, neighbours".to_string(), vec![rope(Pairing::Neighbours, 2)?]),
        ("rope at places".to_string(), vec![Stage::Rope(placed_rope()?)]),
        ("attention with a bias".to_string(), vec![Stage::Attention(biased_attention()?, Site::Pattern(0))]),
        ("causal attention".to_string(), vec![Stage::Attention(Attention::causal(2, 1)?, Site::Pattern(0))]),
        ("gate".to_string(), vec![Stage::Gate(Gate(Silu))]),
        ("log-probability".to_string(), vec![Stage::LogProbability(LogProbability::new(&[3, 0, 11, 3, 7]))]),
        ("unit length".to_string(), vec![Stage::UnitLength(UnitLength)]),
        ("transposed".to_string(), vec![Stage::Transposed(mixing()?)]),
        ("encoder block".to_string(), block()?),
        ("mixer block".to_string(), mixer_block()?),
        ("decoder block".to_string(), decoder_block()?),
    ];
    let activations = [Gelu, GeluNew, QuickGelu, Silu, Relu, Tanh];
    stages.extend(activations.map(|a| (format!("{a:?}"), vec![Stage::Activation(a)])));
    Ok(stages)
}

/// A whole post-norm encoder block.
fn block() -> Result<Vec<Stage>> {
    Ok(vec![
        Stage::Residual(vec![
            Stage::Linear(linear(CHANNELS, 3 * CHANNELS, 11)?),
            Stage::Attention(Attention::new(3)?, Site::Pattern(0)),
            Stage::Linear(linear(CHANNELS, CHANNELS, 13)?),
        ]),
        Stage::LayerNorm(layer_norm(CHANNELS)?),
        Stage::Residual(vec![
            Stage::Linear(linear(CHANNELS, 20, 15)?),
            Stage::Activation(Activation::Gelu),
            Stage::Linear(linear(20, CHANNELS, 17)?),
        ]),
        Stage::LayerNorm(layer_norm(CHANNELS)?),
    ])
}

/// Five tokens mixed by two layers, gated as gMixer's are, for every channel alike.
fn mixing() -> Result<Vec<Stage>> {
    let (wide, narrow) = (Stage::Linear(linear(5, 14, 71)?), Stage::Linear(linear(7, 5, 73)?));
    Ok(vec![Stage::At(Site::MixBias(0)), wide, Stage::Gate(Gate(Activation::Silu)), narrow])
}

/// A whole MLP-Mixer block.
fn mixer_block() -> Result<Vec<Stage>> {
    Ok(vec![
        Stage::Residual(vec![
            Stage::LayerNorm(layer_norm(CHANNELS)?),
            Stage::Transposed(mixing()?),
            Stage::At(Site::AttnOut(0)),
        ]),
        Stage::Residual(vec![
            Stage::LayerNorm(layer_norm(CHANNELS)?),
            Stage::Linear(linear(CHANNELS, 20, 75)?),
            Stage::Activation(Activation::Gelu),
            Stage::Linear(linear(20, CHANNELS, 77)?),
        ]),
    ])
}

/// A whole pre-norm decoder block: 4 query heads of 4 channels over 2 keys and values.
fn decoder_block() -> Result<Vec<Stage>> {
    Ok(vec![
        Stage::Residual(vec![
            Stage::RmsNorm(rms_norm(CHANNELS, 31)?),
            Stage::Linear(linear(CHANNELS, 8 * 4, 32)?),
            Stage::HeadNorm(HeadNorm::new(rms_norm(4, 33)?, rms_norm(4, 34)?, 4, 2)?),
            rope(Pairing::Halves, 6)?,
            Stage::Attention(Attention::causal(4, 2)?, Site::Pattern(0)),
            Stage::Linear(linear(4 * 4, CHANNELS, 35)?),
        ]),
        Stage::Residual(vec![
            Stage::RmsNorm(rms_norm(CHANNELS, 37)?),
            Stage::Linear(linear(CHANNELS, 40, 38)?),
            Stage::Gate(Gate(Activation::Silu)),
            Stage::Linear(linear(20, CHANNELS, 39)?),
        ]),
    ])
}

/// The first key is seen, as a causal model's must be.
const MASK: [bool; 5] = [true, true, false, true, false];

/// A number per example that depends on every output: Σ y·w for fixed random w.
fn read_out(y: &Tensor) -> Result<Tensor> {
    let weights = random(&y.dims()[1..], 99)?;
    Ok(y.broadcast_mul(&weights)?.sum((1, 2))?)
}

#[test]
fn every_block_passes_finite_differences() -> Result<()> {
    for (name, stages) in stages()? {
        for mask in [None, Some(&MASK[..])] {
            let chain = Chain::new(stages.clone());
            let f = |x: &Tensor| read_out(&chain.forward(x, mask, &mut Clear)?);
            let deviation = grad_check(f, &random(&[5, CHANNELS], 42)?)?;
            assert!(deviation < 1e-8, "{name}, mask {mask:?}: {deviation:e}");
        }
    }
    Ok(())
}

/// A hook that wants what attention or mixing does and changes nothing: it makes the chain run stage by stage.
struct Watching;

impl Hook for Watching {
    fn sites(&self) -> Vec<Site> {
        vec![Site::Pattern(0), Site::AttnOut(0)]
    }

    fn at(&mut self, _: Site, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }
}

/// The roads a chain can take.
const ROADS: [fn(&Chain, &Tensor) -> Result<Tensor>; 3] = [
    |chain, x| chain.forward(x, Some(&MASK), &mut Clear),
    |chain, x| chain.forward(x, Some(&MASK), &mut Watching),
    |chain, x| chain.composed(x, Some(&MASK)),
];

/// Every named rule, LibraGrad without each of its own, and each of those alone.
fn all_rules() -> Vec<(String, Rules)> {
    const OWN: [Rule; 5] = [Rule::Norm, Rule::Attention, Rule::Activation, Rule::Gate, Rule::Length];
    let named = Rules::named().into_iter().map(|(name, rules)| (name.to_string(), rules));
    let without = OWN.map(|rule| (format!("without {rule:?}"), Rules::libragrad().without(rule)));
    let alone = OWN.map(|rule| (format!("{rule:?} alone"), Rules::exact().with(rule, Rules::libragrad())));
    let keys = Rules { score: Product::Frozen, ..Rules::exact() };
    named.chain(without).chain(alone).chain([("keys frozen".to_string(), keys)]).collect()
}

#[test]
fn fused_watched_and_composed_roads_meet_under_every_rule() -> Result<()> {
    let x = random(&[4, 5, CHANNELS], 5)?;
    for ((name, stages), (rule, rules)) in
        stages()?.into_iter().flat_map(|stage| all_rules().into_iter().map(move |rule| (stage.clone(), rule)))
    {
        let name = format!("{name}, {rule}");
        let chain = Chain::new(stages).under(rules);
        let values = ROADS.map(|road| road(&chain, &x));
        let slopes = ROADS.map(|road| grad_at(|x| read_out(&road(&chain, x)?), &x));
        for results in [values, slopes] {
            let [fused, watched, composed] = results;
            let fused = fused?;
            assert!(largest_difference(&fused, &watched?)? < 1e-12, "{name}: fused and watched differ");
            // candle's GELU has constants of six digits
            assert!(largest_difference(&fused, &composed?)? < 2e-6, "{name}: fused and composed differ");
        }
    }
    Ok(())
}

#[test]
fn single_precision_follows_double() -> Result<()> {
    let x = random(&[4, 5, CHANNELS], 6)?;
    for activation in ["gelu", "gelu_new", "quick_gelu", "silu", "tanh", "relu"] {
        let activation: Activation = serde_json::from_value(activation.into())?;
        let chain = Chain::new(vec![Stage::Activation(activation)]);
        let at = |dtype| -> Result<(Tensor, Tensor)> {
            let x = x.to_dtype(dtype)?;
            let y = chain.forward(&x, None, &mut Clear)?.to_dtype(DType::F64)?;
            let g = grad_at(|x| Ok(chain.forward(x, None, &mut Clear)?.sum((1, 2))?), &x)?.to_dtype(DType::F64)?;
            Ok((y, g))
        };
        let ((y32, g32), (y64, g64)) = (at(DType::F32)?, at(DType::F64)?);
        assert!(largest_difference(&y32, &y64)? < 1e-6, "{activation:?}: values");
        assert!(largest_difference(&g32, &g64)? < 1e-6, "{activation:?}: slopes");
    }
    Ok(())
}

#[test]
fn attention_is_permutation_equivariant_and_blind_to_hidden_keys() -> Result<()> {
    let chain = Chain::new(vec![Stage::Attention(Attention::new(2)?, Site::Pattern(0))]);
    let x = random(&[1, 5, CHANNELS], 8)?;
    let y = chain.forward(&x, Some(&MASK), &mut Clear)?;
    let shaken = x.slice_assign(&[0..1, 2..3, 0..CHANNELS], &random(&[1, 1, CHANNELS], 9)?)?;
    let z = chain.forward(&shaken, Some(&MASK), &mut Clear)?;
    for seen in [0, 1, 3] {
        assert!(largest_difference(&y.i((0, seen))?, &z.i((0, seen))?)? == 0.0, "a hidden key was seen");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let chain = Chain::new(vec![Stage::Linear(linear(CHANNELS, 5, 1)?)]);
    let said = |result: Result<Tensor>| result.map_or_else(|error| error.to_string(), |_| "no error".into());
    let run = |shape: &[usize], mask: Option<&[bool]>| -> Result<String> {
        Ok(said(chain.forward(&Tensor::zeros(shape, DType::F64, &Device::Cpu)?, mask, &mut Clear)))
    };
    assert!(run(&[2, 5, 7], None)?.contains("expected (n, t, 12)"));
    assert!(run(&[0, 5, CHANNELS], None)?.contains("none of them 0"));
    assert!(run(&[5, CHANNELS], None)?.contains("(n, t, c)"));
    assert!(run(&[2, 5, CHANNELS], Some(&[true; 4]))?.contains("(5,), one per token"));
    assert!(Linear::new(random(&[5], 1)?, None).is_err_and(|e| e.to_string().contains("(d, c)")));
    assert!(Linear::new(random(&[5, 4], 1)?, Some(random(&[4], 1)?)).is_err_and(|e| e.to_string().contains("(5,)")));
    assert!(LayerNorm::new(random(&[5], 1)?, random(&[4], 1)?, 1e-5).is_err());
    assert!(Attention::new(0).is_err());
    let wrong = Attention::new(2)?.biased(random(&[3, 5, 5], 1)?);
    assert!(wrong.is_err_and(|error| error.to_string().contains("(2, t, t)")));
    let longer = random(&[1, 6, CHANNELS], 1)?;
    let biased = Chain::new(vec![Stage::Attention(biased_attention()?, Site::Pattern(0))]);
    assert!(said(biased.forward(&longer, None, &mut Clear)).contains("a bias for 5 tokens, and it was given 6"));
    let placed = Chain::new(vec![Stage::Rope(placed_rope()?)]);
    assert!(said(placed.forward(&longer, None, &mut Clear)).contains("places for 5 tokens, and were given 6"));
    for (context, queries) in [(0, 1), (1, 1), (8, 4)] {
        let stretched = Rope::new(vec![1.0, 0.1], Pairing::Halves, 3)?.stretching(context, queries);
        assert!(stretched.is_err_and(|error| error.to_string().contains("among 3 heads")));
    }
    let narrowing = Chain::new(vec![Stage::Residual(vec![Stage::Linear(linear(CHANNELS, 5, 1)?)])]);
    let narrowed = narrowing.forward(&random(&[1, 5, CHANNELS], 1)?, None, &mut Clear);
    assert!(said(narrowed).contains("what a residual adds"));
    Ok(())
}

#[test]
fn mixing_is_the_same_steps_on_the_transpose() -> Result<()> {
    let x = random(&[3, 5, CHANNELS], 70)?;
    let mixed = Chain::new(vec![Stage::Transposed(mixing()?)]).forward(&x, None, &mut Clear)?;
    let turned = Chain::new(mixing()?).forward(&x.transpose(1, 2)?.contiguous()?, None, &mut Clear)?;
    assert!(largest_difference(&mixed, &turned.transpose(1, 2)?)? < 1e-12);
    let twice = Chain::new(vec![Stage::Transposed(vec![Stage::Transposed(vec![])])]);
    assert_eq!(largest_difference(&twice.forward(&x, None, &mut Clear)?, &x)?, 0.0);
    Ok(())
}

#[test]
fn mixing_that_does_not_fit_is_refused() -> Result<()> {
    let said = |stages: Vec<Stage>, tokens: usize| -> Result<[String; 2]> {
        let (chain, x) = (Chain::new(vec![Stage::Transposed(stages)]), random(&[1, tokens, CHANNELS], 1)?);
        let roads = [chain.forward(&x, None, &mut Clear), chain.composed(&x, None)];
        Ok(roads.map(|result| result.map_or_else(|error| error.to_string(), |_| "no error".into())))
    };
    for message in said(mixing()?, 6)? {
        assert!(message.contains("expected (n, t, 5)") && message.contains("[6]"), "{message}");
    }
    for message in said(vec![Stage::Linear(linear(5, 7, 1)?)], 5)? {
        assert!(message.contains("what is mixed along tokens") && message.contains("(n, 5, c)"), "{message}");
    }
    for message in said(vec![Stage::Transposed(vec![Stage::Linear(linear(5, 5, 1)?)])], 5)? {
        assert!(message.contains("expected (n, t, 5)") && message.contains("[12]"), "{message}");
    }
    Ok(())
}

#[test]
fn a_scaled_projection_is_the_projection_times_the_scale() -> Result<()> {
    let (x, scale) = (random(&[2, 5, CHANNELS], 80)?, random(&[7], 81)?);
    let run = |linear: Linear| Chain::new(vec![Stage::Linear(linear)]).forward(&x, None, &mut Clear);
    let bare = Linear::new(random(&[7, CHANNELS], 82)?, None)?;
    let stacked = Linear::stacked(&[linear(CHANNELS, 3, 83)?, linear(CHANNELS, 4, 85)?])?;
    for linear in [linear(CHANNELS, 7, 87)?, bare, stacked] {
        let expected = run(linear.clone())?.broadcast_mul(&scale)?;
        assert!(largest_difference(&run(linear.scaled(&scale)?)?, &expected)? < 1e-12);
    }
    let narrow = linear(CHANNELS, 7, 87)?.scaled(&random(&[CHANNELS], 81)?);
    assert!(
        narrow.is_err_and(|error| error.to_string().contains("a linear block's scale has shape [12], expected (7,)"))
    );
    Ok(())
}

#[test]
fn odd_batches_are_shared_out_whole() -> Result<()> {
    let chain = Chain::new(block()?);
    let x = random(&[7, 5, CHANNELS], 12)?;
    let together = grad_at(|x| read_out(&chain.forward(x, Some(&MASK), &mut Clear)?), &x)?;
    for example in 0..7 {
        let alone = grad_at(|x| read_out(&chain.forward(x, Some(&MASK), &mut Clear)?), &x.narrow(0, example, 1)?)?;
        assert!(largest_difference(&alone, &together.narrow(0, example, 1)?)? < 1e-12, "example {example}");
    }
    Ok(())
}

#[test]
fn activations_hold_at_the_ends_of_single_precision() -> Result<()> {
    use Activation::{Gelu, GeluNew, QuickGelu, Silu, Tanh};
    let ends = [-1e30f32, -200.0, -88.5, -87.0, -1e-6, 0.0, 1e-6, 1e-4, 0.19, 0.21, 87.0, 88.5, 200.0, 1e30];
    let x = Tensor::new(&ends, &Device::Cpu)?.reshape((1, ends.len(), 1))?;
    for activation in [Gelu, GeluNew, QuickGelu, Silu, Tanh] {
        let chain = Chain::new(vec![Stage::Activation(activation)]);
        let run = |x: &Tensor| -> Result<Vec<f64>> {
            Ok(chain.forward(x, None, &mut Clear)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
        };
        for ((got, exact), x) in run(&x)?.into_iter().zip(run(&x.to_dtype(DType::F64)?)?).zip(ends) {
            let tolerance = 3e-6 * exact.abs() + 1e-30_f64.max(f64::from(x.abs().min(1.0)) * 1e-7);
            assert!((got - exact).abs() <= tolerance, "{activation:?}({x}) = {got}, not {exact}");
        }
    }
    Ok(())
}

#[test]
fn the_graph_can_be_walked_back_twice() -> Result<()> {
    let chain = Chain::new(block()?);
    let x = Var::from_tensor(&random(&[3, 5, CHANNELS], 10)?)?;
    let y = chain.forward(&x, None, &mut Clear)?;
    let first = y.sum_all()?.backward()?.remove(&x).ok_or(Error::GraphCut)?;
    let second = y.sum_all()?.backward()?.remove(&x).ok_or(Error::GraphCut)?;
    assert_eq!(largest_difference(&first, &second)?, 0.0);
    Ok(())
}

/// A decoder block that shows what its attention reads.
fn caching_block() -> Result<Chain> {
    let [Stage::Residual(mut attention), feed_forward] = <[Stage; 2]>::try_from(decoder_block()?).unwrap() else {
        panic!("a decoder block is two residuals")
    };
    attention.insert(4, Stage::At(Site::Qkv(0)));
    Ok(Chain::new(vec![Stage::Residual(attention), feed_forward]))
}

/// Settings that five tokens can stand in, and stages for which they matter.
fn settings() -> Result<Vec<(&'static str, Setting, Vec<Stage>)>> {
    let places: [[u32; 3]; 5] = [[0, 0, 0], [1, 1, 1], [1, 1, 2], [1, 2, 1], [3, 3, 3]];
    let along = Rope::new(vec![1.0, 0.5, 0.1], Pairing::Halves, 2)?.along(vec![0, 1, 2])?;
    let windows = |sizes: &[usize]| Setting { windows: Some(sizes.into()), ..Setting::default() };
    let windowed = || -> Result<_> { Ok(vec![Stage::Attention(Attention::new(2)?.in_windows(), Site::Pattern(0))]) };
    let turned = Setting { positions: Some(places.into()), ..Setting::default() };
    let stretched = Rope::new(vec![1.0, 0.1], Pairing::Halves, 3)?.stretching(3, 2)?;
    Ok(vec![
        ("places on three axes", turned, vec![Stage::Rope(along)]),
        ("windows of all sizes", windows(&[2, 2, 1]), windowed()?),
        ("windows of one size", windows(&[1; 5]), windowed()?),
        ("one window", windows(&[5]), windowed()?),
        ("a text beyond the context", Setting::default(), vec![Stage::Rope(stretched)]),
    ])
}

#[test]
fn settings_pass_finite_differences_and_meet_candles_operations() -> Result<()> {
    let x = random(&[3, 5, CHANNELS], 80)?;
    for (name, setting, stages) in settings()? {
        let chain = Chain::new(stages);
        let f = |x: &Tensor| read_out(&chain.forward_in(x, setting.clone(), &mut Clear)?);
        let deviation = grad_check(f, &random(&[5, CHANNELS], 81)?)?;
        assert!(deviation < 1e-8, "{name}: {deviation:e}");
        let (fused, composed) =
            (chain.forward_in(&x, setting.clone(), &mut Clear)?, chain.composed_in(&x, setting.clone())?);
        assert!(largest_difference(&fused, &composed)? < 1e-12, "{name}: the two roads differ");
        let watched = chain.forward_in(&x, setting, &mut Watching)?;
        assert!(largest_difference(&fused, &watched)? < 1e-12, "{name}: the watched road differs");
    }
    Ok(())
}

#[test]
fn windows_do_not_see_each_other() -> Result<()> {
    let chain = Chain::new(vec![Stage::Attention(Attention::new(2)?.in_windows(), Site::Pattern(0))]);
    let windows = Setting { windows: Some([2, 3].into()), ..Setting::default() };
    let x = random(&[1, 5, CHANNELS], 82)?;
    let whole = chain.forward_in(&x, windows.clone(), &mut Clear)?;
    let apart = [x.narrow(1, 0, 2)?, x.narrow(1, 2, 3)?].map(|x| chain.forward(&x, None, &mut Clear));
    let apart = Tensor::cat(&apart.into_iter().collect::<Result<Vec<_>>>()?, 1)?;
    assert!(largest_difference(&whole, &apart)? < 1e-12);

    let mut record = Record::new(&[Site::Pattern(0)]);
    chain.forward_in(&x, windows, &mut record)?;
    let across = record.get(Site::Pattern(0))?.narrow(2, 0, 2)?.narrow(3, 2, 3)?;
    assert_eq!(across.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
    Ok(())
}

#[test]
fn places_in_a_row_are_the_same_on_every_axis() -> Result<()> {
    let rope = Rope::new(vec![1.0, 0.5, 0.1], Pairing::Halves, 2)?;
    let (plain, along) = (Stage::Rope(rope.clone()), Stage::Rope(rope.along(vec![2, 0, 1])?));
    let row: Vec<[u32; 3]> = (0..5).map(|place| [place; 3]).collect();
    let x = random(&[2, 5, CHANNELS], 83)?;
    let setting = Setting { positions: Some(row.into()), ..Setting::default() };
    let plain = Chain::new(vec![plain]).forward(&x, None, &mut Clear)?;
    let along = Chain::new(vec![along]).forward_in(&x, setting, &mut Clear)?;
    assert_eq!(largest_difference(&plain, &along)?, 0.0);
    Ok(())
}

/// Qwen's rule in its own words: with 5 tokens of 3, α = 2^⌈log₂(5/3) + 1⌉ − 1 = 3, θ₁ becomes 0.1·3⁻¹, and the fourth
/// token's query is ln 4/ln 3 times as long.
#[test]
fn beyond_the_context_frequencies_fall_and_queries_grow() -> Result<()> {
    let (angle, length) = (3.0 * 0.1 / 3.0_f64, 4f64.ln() / 3f64.ln());
    let rope = Rope::new(vec![1.0, 0.1], Pairing::Halves, 3)?.stretching(3, 2)?;
    let x = Tensor::new(&[0.0, 1.0, 0.0, 0.0].repeat(3)[..], &Device::Cpu)?.broadcast_as((1, 5, CHANNELS))?;
    let y = Chain::new(vec![Stage::Rope(rope)]).forward(&x.contiguous()?, None, &mut Clear)?;
    let row: Vec<f64> = y.i((0, 3))?.to_vec1()?;
    for (head, length) in [length, length, 1.0].into_iter().enumerate() {
        assert!((row[4 * head + 1] - length * angle.cos()).abs() < 1e-12, "head {head}");
        assert!((row[4 * head + 3] - length * angle.sin()).abs() < 1e-12, "head {head}");
    }
    Ok(())
}

#[test]
fn a_setting_of_another_number_of_tokens_is_refused() -> Result<()> {
    let chain = Chain::new(vec![rope(Pairing::Halves, 2)?]);
    let x = random(&[1, 5, CHANNELS], 84)?;
    let wrong = Setting { positions: Some([[0; 3]; 4].into()), ..Setting::default() };
    assert!(chain.forward_in(&x, wrong, &mut Clear).is_err_and(|error| error.to_string().contains("the positions")));
    let wrong = Setting { windows: Some([2, 2].into()), ..Setting::default() };
    assert!(chain.forward_in(&x, wrong, &mut Clear).is_err_and(|error| error.to_string().contains("windows")));
    assert!(Rope::new(vec![1.0, 0.1], Pairing::Halves, 2)?.along(vec![0]).is_err());
    Ok(())
}

fn after(past: &Tensor) -> Setting {
    Setting { past: Some(past.clone()), ..Setting::default() }
}

#[test]
fn a_text_can_be_continued_from_its_past() -> Result<()> {
    let chain = caching_block()?;
    let x = random(&[1, 7, CHANNELS], 50)?;
    let whole = chain.forward(&x, None, &mut Clear)?;
    let mut record = Record::new(&[Site::Qkv(0)]);
    chain.forward(&x.narrow(1, 0, 3)?, None, &mut record)?;
    let past = record.get(Site::Qkv(0))?;
    let rest = chain.forward_in(&x.narrow(1, 3, 4)?, after(past), &mut Clear)?;
    assert!(largest_difference(&whole.narrow(1, 3, 4)?, &rest)? < 1e-12);

    let watched = chain.forward_in(&x.narrow(1, 3, 4)?, after(past), &mut Watching)?;
    assert!(largest_difference(&rest, &watched)? < 1e-12, "the watched road differs");
    let f = |x: &Tensor| read_out(&chain.forward_in(x, after(past), &mut Clear)?);
    let deviation = grad_check(f, &random(&[4, CHANNELS], 51)?)?;
    assert!(deviation < 1e-8, "the gradient after a past is off by {deviation:e}");

    let narrow = chain.forward_in(&x.narrow(1, 3, 4)?, after(&past.narrow(2, 0, 8)?), &mut Clear);
    assert!(narrow.is_err_and(|error| error.to_string().contains("the past holds other channels")));
    Ok(())
}

#[test]
fn every_example_sees_its_own_part_of_the_past() -> Result<()> {
    let (chain, p) = (caching_block()?, 4);
    let mut record = Record::new(&[Site::Qkv(0)]);
    chain.forward(&random(&[1, p, CHANNELS], 52)?, None, &mut record)?;
    let past = record.get(Site::Qkv(0))?;
    let masks =
        [[true, true, true, true], [false, true, true, false], [false; 4], [true, false, false, false], [true; 4]];
    let seen = |masks: &[[bool; 4]]| Setting { past_mask: Some(masks.concat().into()), ..after(past) };
    let x = random(&[masks.len(), 3, CHANNELS], 53)?;
    let all = chain.forward_in(&x, seen(&masks), &mut Clear)?;
    for (i, mask) in masks.iter().enumerate() {
        let alone = chain.forward_in(&x.narrow(0, i, 1)?, seen(&[*mask]), &mut Clear)?;
        assert!(largest_difference(&all.narrow(0, i, 1)?, &alone)? < 1e-12, "example {i}");
    }
    let unmasked = chain.forward_in(&x, after(past), &mut Clear)?;
    assert!(largest_difference(&all.narrow(0, 0, 1)?, &unmasked.narrow(0, 0, 1)?)? < 1e-12);
    assert!(largest_difference(&all.narrow(0, 1, 1)?, &unmasked.narrow(0, 1, 1)?)? > 1e-3);
    let (composed, watched) =
        (chain.composed_in(&x, seen(&masks))?, chain.forward_in(&x, seen(&masks), &mut Watching)?);
    assert!(largest_difference(&all, &composed)? < 1e-12 && largest_difference(&all, &watched)? < 1e-12);
    let x = Var::from_tensor(&x)?;
    let slope = |y: Tensor| read_out(&y)?.sum_all()?.backward()?.remove(&x).ok_or(Error::GraphCut);
    let slopes = [chain.forward_in(&x, seen(&masks), &mut Clear)?, chain.composed_in(&x, seen(&masks))?].map(slope);
    let [fused, composed] = slopes;
    assert!(largest_difference(&fused?, &composed?)? < 1e-12, "gradients differ");
    let short = chain.forward_in(&x, seen(&masks[..2]), &mut Clear);
    assert!(short.is_err_and(|error| error.to_string().contains("the mask of the past")));
    Ok(())
}

#[test]
fn causal_attention_does_not_look_ahead() -> Result<()> {
    let chain = Chain::new(decoder_block()?);
    let x = random(&[1, 5, CHANNELS], 60)?;
    let y = chain.forward(&x, None, &mut Clear)?;
    let shaken = x.slice_assign(&[0..1, 3..4, 0..CHANNELS], &random(&[1, 1, CHANNELS], 61)?)?;
    let z = chain.forward(&shaken, None, &mut Clear)?;
    assert_eq!(largest_difference(&y.narrow(1, 0, 3)?, &z.narrow(1, 0, 3)?)?, 0.0);
    assert!(largest_difference(&y.narrow(1, 3, 2)?, &z.narrow(1, 3, 2)?)? > 1e-3);
    Ok(())
}

/// ⟨a, b⟩.
fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok((a * b)?.sum_all()?.to_scalar::<f64>()?)
}

/// ⟨y,ȳ⟩ less ⟨x,x̄⟩ and the relevance of all biases, relative to the size of what is added up.
fn imbalance(stages: &[Stage], rules: Rules) -> Result<f64> {
    let sites = [Site::AttnBias(0), Site::MixBias(0)];
    let chain = Chain::new([&[Stage::At(sites[0])], stages].concat()).under(rules);
    let (mut tap, x) = (Tap::new(&sites), Var::from_tensor(&random(&[2, 5, CHANNELS], 90)?)?);
    let y = read_out(&chain.forward(&x, Some(&MASK), &mut tap)?)?.sum_all()?;
    let grads = y.backward()?;
    let relevance = (x.as_tensor() * grads.get(&x).ok_or(Error::GraphCut)?)?;
    let size = relevance.abs()?.sum_all()?.to_scalar::<f64>()? + y.to_scalar::<f64>()?.abs();
    // a stage without biases has no gradient there
    let biases = sites.map(|site| tap.grad(&grads, site).and_then(|grad| Ok(grad.sum_all()?.to_scalar::<f64>()?)));
    let biases: f64 = biases.into_iter().map(|sum| sum.unwrap_or(0.0)).sum();
    Ok((y.to_scalar::<f64>()? - relevance.sum_all()?.to_scalar::<f64>()? - biases).abs() / size)
}

/// Local balance, ⟨x,x̄⟩ + ⟨b,b̄⟩ = ⟨y,ȳ⟩, of every block and of whole networks of them.
#[test]
fn every_block_is_balanced_under_libragrad() -> Result<()> {
    for (name, stages) in stages()?.into_iter().filter(|(name, _)| name != "log-probability") {
        for (rule, rules) in [("LibraGrad", Rules::libragrad()), ("CP-LRP", Rules::cp_lrp())] {
            let gap = imbalance(&stages, rules)?;
            assert!(gap < 1e-12, "{name} under {rule}: {gap:e}");
        }
    }
    Ok(())
}

/// What each rule is there for: without it, the block that it is about is out of balance.
#[test]
fn without_its_rule_a_block_is_out_of_balance() -> Result<()> {
    let about = |rule| match rule {
        Rule::Norm => ["layer norm", "RMS norm", "encoder block", "decoder block"].as_slice(),
        Rule::Attention => {
            &["attention", "causal attention", "attention with a bias", "encoder block", "decoder block"]
        }
        Rule::Activation => &["Gelu", "GeluNew", "QuickGelu", "Silu", "Tanh", "gate", "encoder block", "decoder block"],
        Rule::Gate => &["gate", "transposed", "mixer block", "decoder block"],
        Rule::Length => &["unit length"],
        Rule::Score => &[],
    };
    for rule in [Rule::Norm, Rule::Attention, Rule::Activation, Rule::Gate, Rule::Length] {
        for (name, stages) in stages()?.into_iter().filter(|(name, _)| about(rule).contains(&name.as_str())) {
            let gap = imbalance(&stages, Rules::libragrad().without(rule))?;
            assert!(gap > 1e-4, "{name} without the rule for {rule:?}: {gap:e}");
        }
    }
    Ok(())
}

#[test]
fn rules_change_no_value() -> Result<()> {
    let x = random(&[4, 5, CHANNELS], 91)?;
    let bits = |y: Tensor| -> Result<Vec<u64>> {
        Ok(y.flatten_all()?.to_vec1::<f64>()?.into_iter().map(|y| (y + 0.0).to_bits()).collect())
    };
    for (name, stages) in stages()? {
        for road in ROADS {
            let run = |rules| bits(road(&Chain::new(stages.clone()).under(rules), Var::from_tensor(&x)?.as_tensor())?);
            let exact = run(Rules::exact())?;
            for (rule, rules) in all_rules() {
                assert!(run(rules)? == exact, "{name}: other values under {rule}");
            }
        }
    }
    Ok(())
}

/// Gradient and what comes from above, of one chain under rules: (Σ x·x̄, ⟨y,ȳ⟩).
fn sums(stages: Vec<Stage>, rules: Rules, x: &Tensor) -> Result<(f64, f64)> {
    let chain = Chain::new(stages).under(rules);
    let f = |x: &Tensor| read_out(&chain.forward(x, None, &mut Clear)?);
    Ok((dot(x, &grad_at(f, x)?)?, f(x)?.sum_all()?.to_scalar::<f64>()?))
}

/// The exact gradient of a norm keeps ε/(σ² + ε) of what it gets, token by token; with ε as large as σ², half.
#[test]
fn an_exact_norm_keeps_the_share_of_its_epsilon() -> Result<()> {
    let row = random(&[1, 1, CHANNELS], 92)?;
    let centred = row.broadcast_sub(&row.mean_keepdim(D::Minus1)?)?;
    let square = |x: &Tensor| -> Result<f64> { Ok(x.sqr()?.mean_all()?.to_scalar::<f64>()?) };
    let (gamma, nil) = (random(&[CHANNELS], 93)?, Tensor::zeros(CHANNELS, DType::F64, &Device::Cpu)?);
    for eps in [1e-3, 1.0, 10.0] {
        let rms = Stage::RmsNorm(RmsNorm::new(gamma.clone(), eps)?);
        let layer = Stage::LayerNorm(LayerNorm::new(gamma.clone(), nil.clone(), eps)?);
        for (norm, size) in [(rms, square(&row)?), (layer, square(&centred)?)] {
            let (relevance, above) = sums(vec![norm], Rules::exact(), &row)?;
            assert!((relevance - above * eps / (size + eps)).abs() < 1e-12 * above.abs(), "ε = {eps}");
        }
    }
    Ok(())
}

/// What an exact activation adds: Σ ȳ·x²·σ(x)(1 − σ(x)) for SiLU, Σ ȳ·x²·φ(x) for GELU.
#[test]
fn an_exact_activation_misses_its_gates_slope() -> Result<()> {
    let x = random(&[1, 5, CHANNELS], 94)?;
    let above = random(&[5, CHANNELS], 99)?.unsqueeze(0)?;
    let gate = sigmoid(&x)?;
    let silu = (&gate * (1.0 - &gate)?)?;
    let gelu = ((x.sqr()? * -0.5)?.exp()? * (2.0 * std::f64::consts::PI).sqrt().recip())?;
    for (activation, slope) in [(Activation::Silu, silu), (Activation::Gelu, gelu)] {
        let (relevance, value) = sums(vec![Stage::Activation(activation)], Rules::exact(), &x)?;
        let missed = dot(&above, &(x.sqr()? * slope)?)?;
        assert!((relevance - value - missed).abs() < 1e-9, "{activation:?}: {relevance} is not {value} + {missed}");
    }
    Ok(())
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((x.neg()?.exp()? + 1.0)?.recip()?)
}

/// An exact product counts twice: with an activation that is linear where its input is positive, a gate's Σ x·x̄ is 2·⟨y,ȳ⟩, and
/// an exact length's is 0.
#[test]
fn an_exact_product_doubles_and_an_exact_quotient_vanishes() -> Result<()> {
    let x = (random(&[1, 5, CHANNELS], 95)?.abs()? + 0.1)?;
    let (relevance, above) = sums(vec![Stage::Gate(Gate(Activation::Relu))], Rules::exact(), &x)?;
    assert!((relevance - 2.0 * above).abs() < 1e-12 * above.abs());
    let (relevance, above) = sums(vec![Stage::UnitLength(UnitLength)], Rules::exact(), &x)?;
    assert!(relevance.abs() < 1e-12 * above.abs());
    Ok(())
}

/// Under LibraGrad a network is, walked back, an affine one: its norms' scales, patterns and gates are those of x, and gated
/// products ½·(a₀·u + G₀·u₀·g). Computed forwards only, at any other point, its change is gradient · step.
#[test]
fn the_balanced_gradient_is_that_of_the_network_with_frozen_products() -> Result<()> {
    let (x, step) = (random(&[1, 5, CHANNELS], 96)?, (random(&[1, 5, CHANNELS], 97)? * 10.0)?);
    let chain = Chain::new(decoder_block()?).under(Rules::libragrad());
    let gradient = grad_at(|x| read_out(&chain.forward(x, None, &mut Clear)?), &x)?;
    let change = (read_out(&frozen(&x, &(&x + &step)?)?)? - read_out(&frozen(&x, &x)?)?)?.to_vec1::<f64>()?[0];
    assert!((change - dot(&gradient, &step)?).abs() < 1e-10 * change.abs(), "{change} is not the gradient's");
    let value = chain.forward(&x, None, &mut Clear)?;
    assert!(largest_difference(&frozen(&x, &x)?, &value)? < 1e-12);
    Ok(())
}

/// The decoder block at x, with every factor that LibraGrad freezes taken from x0: written out once more, forwards only.
fn frozen(x0: &Tensor, x: &Tensor) -> Result<Tensor> {
    let run = |stage: Stage, x: &Tensor| Chain::new(vec![stage]).forward(x, None, &mut Clear);
    let scaled = |x0: &Tensor, x: &Tensor, seed: u64| -> Result<Tensor> {
        let size = (x0.sqr()?.mean_keepdim(D::Minus1)? + 1e-3)?.sqrt()?;
        Ok(x.broadcast_div(&size)?.broadcast_mul(&(random(&[CHANNELS], seed)? + 1.0)?)?)
    };
    let attention = |x0: &Tensor, x: &Tensor| -> Result<Tensor> {
        let mut record = Record::new(&[Site::Pattern(0)]);
        Chain::new(decoder_block()?).forward(x0, None, &mut record)?;
        let values = run(Stage::Linear(linear(CHANNELS, 8 * 4, 32)?), &scaled(x0, x, 31)?)?.narrow(2, 6 * 4, 2 * 4)?;
        let heads = (0..4).map(|head| {
            let values = values.narrow(2, head / 2 * 4, 4)?.contiguous()?;
            record.get(Site::Pattern(0))?.i((.., head))?.matmul(&values).map_err(Error::from)
        });
        let mixed = Tensor::cat(&heads.collect::<Result<Vec<_>>>()?, 2)?;
        run(Stage::Linear(linear(4 * 4, CHANNELS, 35)?), &mixed)
    };
    let middle = (x + attention(x0, x)?)?;
    let middle0 = (x0 + attention(x0, x0)?)?;
    let both = |x: &Tensor| -> Result<(Tensor, Tensor)> {
        let both = run(Stage::Linear(linear(CHANNELS, 40, 38)?), &scaled(&middle0, x, 37)?)?;
        Ok((both.narrow(2, 0, 20)?, both.narrow(2, 20, 20)?))
    };
    let ((g0, u0), (g, u)) = (both(&middle0)?, both(&middle)?);
    let gate = sigmoid(&g0)?;
    let halves = (((&g0 * &gate)? * &u)? + ((&gate * &u0)? * &g)?)?;
    Ok((&middle + run(Stage::Linear(linear(20, CHANNELS, 39)?), &(halves * 0.5)?)?)?)
}

/// AttnLRP's code divides the gradients of queries and keys by four and those of values by two; so do halved products.
#[test]
fn halved_attention_is_a_quarter_of_queries_and_keys_and_half_of_values() -> Result<()> {
    let x = random(&[1, 5, CHANNELS], 98)?;
    let at = |rules: Rules| {
        let chain = Chain::new(vec![Stage::Attention(Attention::causal(2, 1)?, Site::Pattern(0))]).under(rules);
        grad_at(|x| read_out(&chain.forward(x, None, &mut Clear)?), &x)
    };
    let (exact, halved, frozen) = (at(Rules::exact())?, at(Rules::attn_lrp())?, at(Rules::libragrad())?);
    // two queries, a key and a value, of three channels each
    for (from, width, share) in [(0, 9, 0.25), (9, 3, 0.5)] {
        let part = |g: &Tensor| g.narrow(2, from, width);
        assert!(largest_difference(&(part(&exact)? * share)?, &part(&halved)?)? < 1e-14);
    }
    assert_eq!(frozen.narrow(2, 0, 9)?.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
    assert_eq!(largest_difference(&frozen.narrow(2, 9, 3)?, &exact.narrow(2, 9, 3)?)?, 0.0);
    Ok(())
}

/// Taking away the biases by their factor is the network without them.
#[test]
fn biases_can_be_taken_away_by_their_factor() -> Result<()> {
    let x = random(&[2, 5, CHANNELS], 89)?;
    let with = Chain::new(vec![Stage::At(Site::AttnBias(0)), Stage::Linear(linear(CHANNELS, 5, 1)?)]);
    let without = with.forward(&x, None, &mut Edit::ablate(Site::AttnBias(0)))?;
    let plain = Linear::new((random(&[5, CHANNELS], 1)? * 0.3)?, None)?;
    let plain = Chain::new(vec![Stage::Linear(plain)]).forward(&x, None, &mut Clear)?;
    assert!(largest_difference(&without, &plain)? < 1e-14);
    let narrow =
        with.forward(&x, None, &mut Edit::patch(Site::AttnBias(0), Tensor::ones((2, 5), DType::F64, &Device::Cpu)?));
    assert!(largest_difference(&narrow?, &with.forward(&x, None, &mut Clear)?)? < 1e-14);
    let wrong = with.forward(&x, None, &mut Edit::new(Site::AttnBias(0), |x| Ok(x.narrow(1, 0, 1)?)));
    assert!(wrong.is_err_and(|error| error.to_string().contains("what a hook returns at `blocks.0.attn.bias`")));
    Ok(())
}

/// A single example with so many tokens that its heads are shared out over the cores walks back as it does within a batch.
#[test]
fn shared_heads_walk_back_as_single_ones() -> Result<()> {
    let (heads, keys, d, tokens) = (8, 4, 4, 72);
    let x = random(&[1, tokens, (heads + 2 * keys) * d], 77)?;
    let direction = random(&[1, tokens, heads * d], 78)?;
    for (name, rules) in Rules::named() {
        let chain = Chain::new(vec![Stage::Attention(Attention::causal(heads, keys)?, Site::Pattern(0))]).under(rules);
        let walked = |examples: usize| -> Result<Tensor> {
            let x = Var::from_tensor(&x.repeat((examples, 1, 1))?)?;
            let y = chain.forward(&x, None, &mut Clear)?.broadcast_mul(&direction)?.sum_all()?;
            Ok(y.backward()?.get(&x).ok_or(Error::GraphCut)?.narrow(0, 0, 1)?)
        };
        assert!(largest_difference(&walked(1)?, &walked(3)?)? < 1e-13, "{name}");
    }
    Ok(())
}

/// A text longer than causal attention works on at a time, its patterns kept and worked out again, heads shared out and not.
#[test]
fn long_texts_are_worked_on_in_pieces() -> Result<()> {
    const TOKENS: usize = 300;
    for (d, examples) in [(4, 1), (4, 3), (40, 1), (40, 3)] {
        let (past, x) = (random(&[1, 5, 8 * d], 90)?, random(&[examples, TOKENS, 8 * d], 91)?);
        let causal = vec![Stage::Attention(Attention::causal(4, 2)?, Site::Pattern(0))];
        for rules in [Rules::exact(), Rules::libragrad()] {
            let chain = Chain::new(causal.clone()).under(rules);
            let in_pieces = grad_at(|x| read_out(&chain.forward_in(x, after(&past), &mut Clear)?), &x)?;
            let whole = grad_at(|x| read_out(&chain.composed_in(x, after(&past))?), &x)?;
            assert!(largest_difference(&in_pieces, &whole)? < 1e-12, "heads {d} wide, {examples} examples");
        }
    }
    Ok(())
}
