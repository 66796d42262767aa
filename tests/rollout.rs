//! Attention rollout and its family: what must hold whatever the maps.

#[path = "common/apart.rs"]
mod apart;

use apart::largest_difference as gap;
use pellucid::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const FUSIONS: [HeadFusion; 3] = [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min];

const PLAIN: Rollout = Rollout { fusion: HeadFusion::Mean, discard: 0.0, start_layer: 0 };

/// Random numbers of a shape.
fn random(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| StandardNormal.sample(&mut rng)).collect();
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

/// Random patterns, `layers × (b,h,t,t)`.
fn maps(seed: u64, layers: usize, shape: [usize; 3]) -> Result<Vec<Tensor>> {
    let [b, h, t] = shape;
    let pattern = |layer: usize| -> Result<Tensor> {
        let weights = (random(seed + 100 * layer as u64, &[b, h, t, t])? * 1.5)?.exp()?;
        Ok(weights.broadcast_div(&weights.sum_keepdim(3)?)?)
    };
    (0..layers).map(pattern).collect()
}

/// Random patterns that look back only.
fn causal_maps(seed: u64, layers: usize, shape: [usize; 3]) -> Result<Vec<Tensor>> {
    let back = Tensor::tril2(shape[2], DType::F64, &Device::Cpu)?;
    let cut = |map: &Tensor| {
        let map = map.broadcast_mul(&back)?;
        Ok(map.broadcast_div(&map.sum_keepdim(3)?)?)
    };
    maps(seed, layers, shape)?.iter().map(cut).collect()
}

fn identity(t: usize) -> Result<Tensor> {
    Ok(Tensor::eye(t, DType::F64, &Device::Cpu)?)
}

/// ½(A + I) of the heads' mean.
fn mixed(map: &Tensor) -> Result<Tensor> {
    Ok((map.mean(1)?.broadcast_add(&identity(map.dim(3)?)?)? * 0.5)?)
}

fn lowest(x: &Tensor) -> Result<f64> {
    Ok(x.min_all()?.to_scalar()?)
}

/// How far rows are from summing to one.
fn rows_gap(x: &Tensor) -> Result<f64> {
    let sums = x.sum(D::Minus1)?;
    gap(&sums, &sums.ones_like()?)
}

/// Batch element by itself.
fn example(maps: &[Tensor], b: usize) -> Result<Vec<Tensor>> {
    maps.iter().map(|map| Ok(map.narrow(0, b, 1)?)).collect()
}

fn message<T>(result: Result<T>) -> String {
    result.err().map_or_else(|| "no error".into(), |error| error.to_string())
}

#[test]
fn rows_sum_to_one_and_examples_keep_to_themselves() -> Result<()> {
    let maps = maps(1, 4, [3, 2, 6])?;
    let class = identity(6)?.get(0)?;
    for fusion in FUSIONS {
        for discard in [0.0, 0.3, 0.9] {
            let options = Rollout { fusion, discard, ..PLAIN };
            let (rolled, row) = (rollout(&maps, &options)?, rollout_row(&maps, &class, &options)?);
            let (levels, heads) = (rollout_levels(&maps, &options)?, rollout_heads(&maps, &options)?);
            assert_eq!((levels.len(), heads.dims(), row.dims()), (4, &[3, 2, 6, 6][..], &[3, 6][..]));
            for map in [&rolled, &heads, &row].into_iter().chain(&levels) {
                assert!(rows_gap(map)? < 1e-12 && lowest(map)? >= 0.0);
            }
            for b in 0..3 {
                let alone = example(&maps, b)?;
                assert!(gap(&rollout(&alone, &options)?, &rolled.narrow(0, b, 1)?)? < 1e-14);
                assert!(gap(&rollout_heads(&alone, &options)?, &heads.narrow(0, b, 1)?)? < 1e-14);
                assert!(gap(&rollout_row(&alone, &class, &options)?, &row.narrow(0, b, 1)?)? < 1e-14);
            }
        }
    }
    Ok(())
}

#[test]
fn a_row_is_the_readout_times_the_rollout() -> Result<()> {
    let maps = maps(2, 5, [2, 3, 7])?;
    let class = identity(7)?.get(0)?;
    let two = ((&class + identity(7)?.get(1)?)? * 0.5)?;
    let mean = (class.ones_like()? / 7.0)?;
    for readout in [class, two, mean] {
        for options in [PLAIN, Rollout { fusion: HeadFusion::Max, discard: 0.5, start_layer: 2 }] {
            let product = readout.reshape((1, 1, 7))?.broadcast_matmul(&rollout(&maps, &options)?)?.squeeze(1)?;
            assert!(gap(&rollout_row(&maps, &readout, &options)?, &product)? < 1e-14);
        }
    }
    Ok(())
}

#[test]
fn the_heads_mean_is_the_rollout() -> Result<()> {
    for layers in [1, 4] {
        let maps = maps(3, layers, [2, 3, 5])?;
        assert!(gap(&rollout_heads(&maps, &PLAIN)?.mean(1)?, &rollout(&maps, &PLAIN)?)? < 1e-14);
    }
    Ok(())
}

#[test]
fn levels_are_the_rollouts_below_and_a_start_leaves_layers_out() -> Result<()> {
    let maps = maps(4, 4, [2, 2, 5])?;
    for (below, level) in (1..).zip(rollout_levels(&maps, &PLAIN)?) {
        assert!(gap(&level, &rollout(&maps[..below], &PLAIN)?)? < 1e-14);
        let later = Rollout { start_layer: below - 1, ..PLAIN };
        assert!(gap(&rollout(&maps, &later)?, &rollout(&maps[below - 1..], &PLAIN)?)? < 1e-14);
    }
    Ok(())
}

/// The last layer stands on the left.
#[test]
fn layers_are_multiplied_in_order() -> Result<()> {
    let maps = maps(5, 2, [1, 2, 4])?;
    let (first, second) = (mixed(&maps[0])?, mixed(&maps[1])?);
    let rolled = rollout(&maps, &PLAIN)?;
    assert!(gap(&rolled, &second.matmul(&first)?)? < 1e-14);
    assert!(gap(&rolled, &first.matmul(&second)?)? > 1e-3);
    Ok(())
}

#[test]
fn uniform_attention_has_a_closed_form_and_identity_stays() -> Result<()> {
    let (t, layers) = (9, 6);
    let uniform = Tensor::full(1.0 / t as f64, (1, 2, t, t), &Device::Cpu)?;
    let kept = 0.5f64.powi(layers);
    let closed = (identity(t)? * kept)?.affine(1.0, (1.0 - kept) / t as f64)?.unsqueeze(0)?;
    let still = identity(t)?.broadcast_as((1, 2, t, t))?.contiguous()?;
    for fusion in FUSIONS {
        let options = Rollout { fusion, ..PLAIN };
        assert!(gap(&rollout(&vec![uniform.clone(); layers as usize], &options)?, &closed)? < 1e-15);
        assert_eq!(gap(&rollout(&vec![still.clone(); 5], &options)?, &identity(t)?.unsqueeze(0)?)?, 0.0);
    }
    Ok(())
}

#[test]
fn permuted_tokens_are_permuted_in_the_result() -> Result<()> {
    let maps = maps(6, 3, [2, 2, 5])?;
    let order = Tensor::new(&[3u32, 0, 4, 1, 2], &Device::Cpu)?;
    let permuted = |map: &Tensor, axis: usize| -> Result<Tensor> {
        Ok(map.index_select(&order, axis)?.index_select(&order, axis + 1)?)
    };
    let shuffled = maps.iter().map(|map| permuted(map, 2)).collect::<Result<Vec<_>>>()?;
    for family in [rollout, attention_flow] {
        assert!(gap(&family(&shuffled, &PLAIN)?, &permuted(&family(&maps, &PLAIN)?, 1)?)? < 1e-14);
    }
    Ok(())
}

#[test]
fn half_precision_is_added_up_in_single() -> Result<()> {
    let maps = maps(7, 12, [1, 4, 40])?;
    let exact = rollout(&maps, &PLAIN)?;
    for half in [DType::BF16, DType::F16] {
        let maps = maps.iter().map(|map| Ok(map.to_dtype(half)?)).collect::<Result<Vec<_>>>()?;
        let rolled = rollout(&maps, &PLAIN)?;
        assert_eq!(rolled.dtype(), DType::F32);
        assert!(rows_gap(&rolled)? < 1e-5 && gap(&rolled, &exact)? < 1e-3);
    }
    Ok(())
}

/// A unit that is sent down in shares Ã uses no edge beyond its capacity; so the flow is at least what arrives.
#[test]
fn flow_lies_between_the_rollout_and_one() -> Result<()> {
    for layers in 1..5 {
        let maps = maps(8, layers, [2, 2, 6])?;
        let (flow, rolled) = (attention_flow(&maps, &PLAIN)?, rollout(&maps, &PLAIN)?);
        assert!(lowest(&(&flow - &rolled)?)? > -1e-14);
        assert!(lowest(&flow.affine(-1.0, 1.0)?)? > -1e-14);
    }
    Ok(())
}

/// In one layer there is one edge; in two layers there is one path through each token.
#[test]
fn flow_of_one_and_two_layers_has_a_closed_form() -> Result<()> {
    let maps = maps(9, 2, [2, 3, 5])?;
    let (first, second) = (mixed(&maps[0])?, mixed(&maps[1])?);
    assert!(gap(&attention_flow(&maps[..1], &PLAIN)?, &first)? < 1e-14);
    let (b, t) = (2, 5);
    let upper = second.reshape((b, t, t, 1))?.broadcast_as((b, t, t, t))?;
    let paths = upper.broadcast_minimum(&first.reshape((b, 1, t, t))?)?.sum(2)?;
    assert!(gap(&attention_flow(&maps, &PLAIN)?, &paths)? < 1e-14);
    Ok(())
}

/// Ford and Fulkerson 1956: the maximum flow is the least capacity that cuts source from sink.
#[test]
fn flow_is_the_minimal_cut() -> Result<()> {
    let (layers, t) = (4, 3);
    let maps = maps(10, layers, [1, 2, t])?;
    let flow = attention_flow(&maps, &PLAIN)?.squeeze(0)?.to_vec2::<f64>()?;
    let mut down =
        maps.iter().map(|map| Ok(mixed(map)?.squeeze(0)?.to_vec2()?)).collect::<Result<Vec<Vec<Vec<f64>>>>>()?;
    down.reverse();
    let inner = (layers - 1) * t;
    for (source, sink) in (0..t * t).map(|pair| (pair / t, pair % t)) {
        let cut = |sides: u32| {
            let on_source_side = |level: usize, token: usize| match level {
                0 => token == source,
                _ if level == layers => token != sink,
                _ => sides >> ((level - 1) * t + token) & 1 == 1,
            };
            // edges of other tokens at the top and the bottom carry nothing
            let there = |level: usize, from: usize, to: usize| {
                (level > 0 || from == source) && (level + 1 < layers || to == sink)
            };
            let edges = (0..layers * t * t).map(|edge| (edge / (t * t), edge / t % t, edge % t));
            let crossing = edges.filter(|&(level, from, to)| {
                there(level, from, to) && on_source_side(level, from) && !on_source_side(level + 1, to)
            });
            crossing.map(|(level, from, to)| down[level][from][to]).sum::<f64>()
        };
        let least = (0..1 << inner).map(cut).fold(f64::INFINITY, f64::min);
        assert!((flow[source][sink] - least).abs() < 1e-13, "{source} → {sink}: {} is not {least}", flow[source][sink]);
    }
    Ok(())
}

/// The source sends one at most, and a layer of identities carries one everywhere.
#[test]
fn a_layer_that_does_nothing_changes_no_flow() -> Result<()> {
    let maps = maps(11, 3, [1, 2, 5])?;
    let flow = attention_flow(&maps, &PLAIN)?;
    let still = identity(5)?.broadcast_as((1, 2, 5, 5))?.contiguous()?;
    for at in 0..=3 {
        let mut longer = maps.clone();
        longer.insert(at, still.clone());
        assert!(gap(&attention_flow(&longer, &PLAIN)?, &flow)? < 1e-13);
    }
    Ok(())
}

/// Half of either head's flow fits into the mean of the two: flows only grow when capacities are put together.
#[test]
fn flow_of_two_heads_is_at_least_the_mean_of_their_flows() -> Result<()> {
    let maps = maps(12, 3, [1, 2, 6])?;
    let head = |h: usize| -> Result<Tensor> {
        let alone = maps.iter().map(|map| Ok(map.narrow(1, h, 1)?)).collect::<Result<Vec<_>>>()?;
        attention_flow(&alone, &PLAIN)
    };
    let mean = ((head(0)? + head(1)?)? * 0.5)?;
    assert!(lowest(&(attention_flow(&maps, &PLAIN)? - mean)?)? > -1e-14);
    Ok(())
}

#[test]
fn one_query_is_a_row_of_the_flow() -> Result<()> {
    let maps = maps(13, 3, [2, 2, 5])?;
    let options = Rollout { fusion: HeadFusion::Max, discard: 0.4, start_layer: 1 };
    let flow = attention_flow(&maps, &options)?;
    for query in 0..5 {
        assert_eq!(gap(&attention_flow_row(&maps, query, &options)?, &flow.i((.., query))?)?, 0.0);
    }
    Ok(())
}

fn weighed(seed: u64, shape: [usize; 3]) -> Result<AttentionGradients> {
    let patterns = maps(seed, 3, shape)?;
    let gradient = |(layer, map): (u64, &Tensor)| random(1000 + seed + layer, map.dims());
    let gradients = (0..).zip(&patterns).map(gradient).collect::<Result<_>>()?;
    Ok(AttentionGradients { patterns, gradients })
}

#[test]
fn gae_is_the_product_of_identity_and_relevance() -> Result<()> {
    let why = weighed(14, [2, 3, 5])?;
    let (mut sum, mut normalised) = (identity(5)?.broadcast_as((2, 5, 5))?.contiguous()?, None::<Tensor>);
    for (pattern, gradient) in why.patterns.iter().zip(&why.gradients) {
        let cam = (pattern * gradient)?.relu()?.mean(1)?;
        sum = (&sum + cam.matmul(&sum)?)?;
        let layer = cam.broadcast_add(&identity(5)?)?;
        let layer = layer.broadcast_div(&layer.sum_keepdim(2)?)?;
        normalised = Some(if let Some(below) = normalised { layer.matmul(&below)? } else { layer });
    }
    assert!(gap(&gae(&why)?, &sum)? < 1e-13);
    let rows = gae_normalised(&why)?;
    assert!(gap(&rows, &normalised.expect("three layers"))? < 1e-13 && rows_gap(&rows)? < 1e-13);
    Ok(())
}

/// With a gradient of one everywhere nothing is weighted; with none, everything stays where it is.
#[test]
fn gradient_rollout_of_even_gradients_is_the_rollout() -> Result<()> {
    let patterns = maps(15, 3, [2, 2, 5])?;
    let even = |value: f64| -> Result<AttentionGradients> {
        let gradients = patterns.iter().map(|map| Ok((map.ones_like()? * value)?)).collect::<Result<_>>()?;
        Ok(AttentionGradients { patterns: patterns.clone(), gradients })
    };
    for options in [PLAIN, Rollout { fusion: HeadFusion::Min, discard: 0.5, start_layer: 1 }] {
        assert!(gap(&gradient_rollout(&even(1.0)?, &options)?, &rollout(&patterns, &options)?)? < 1e-14);
        let nothing = identity(5)?.broadcast_as((2, 5, 5))?.contiguous()?;
        assert_eq!(gap(&gradient_rollout(&even(-1.0)?, &options)?, &nothing)?, 0.0);
    }
    assert!(rows_gap(&gradient_rollout(&weighed(16, [2, 3, 5])?, &PLAIN)?)? < 1e-14);
    Ok(())
}

/// One layer over two tokens, worked out by hand: the first is turned by a right angle in the end.
#[test]
fn token_tm_weighs_attention_with_what_became_of_tokens() -> Result<()> {
    let two = |rows: [[f64; 2]; 2]| Ok::<_, Error>(Tensor::new(&[rows], &Device::Cpu)?);
    let (x, pattern) = (two([[3.0, 4.0], [0.0, 2.0]])?, two([[0.5, 0.5], [0.25, 0.75]])?.unsqueeze(0)?);
    let (slope, turned) = (two([[1.0, -1.0], [2.0, 4.0]])?, two([[-8.0, 6.0], [0.0, 4.0]])?);
    let model = |hook: &mut dyn Hook| -> Result<Tensor> {
        let x = hook.at(Site::ResidPre(0), x.clone())?;
        let pattern = hook.at(Site::Pattern(0), pattern.clone())?;
        let mid = hook.at(Site::ResidMid(0), (x * 2.0)?)?;
        hook.at(Site::ResidPost(0), ((mid * 0.0)? + &turned)?)?;
        Ok((pattern.squeeze(0)? * &slope)?.sum((1, 2))?)
    };
    let [kept, other] = [1.0, std::f64::consts::E].map(|cosine| 1.0 + cosine / (1.0 + std::f64::consts::E));
    let by_hand = two([[7.5 * kept, 0.0], [2.5 * other, 8.0 * other]])?;
    assert!(gap(&token_tm(model, 1)?, &by_hand)? < 1e-14);
    let nowhere = |hook: &mut dyn Hook| Ok(model(hook)?.mul(&Tensor::zeros(1, DType::F64, &Device::Cpu)?)?);
    let lengths = two([[5.0 * kept, 0.0], [0.0, 2.0 * other]])?;
    assert!(gap(&token_tm(nowhere, 1)?, &lengths)? < 1e-14);
    assert!(message(token_tm(model, 0)).contains("at least one layer"));
    assert!(message(token_tm(model, 2)).contains("blocks.1."));
    Ok(())
}

/// Two layers of two heads, each sum written out.
#[test]
fn token_tm_multiplies_layers_and_averages_heads() -> Result<()> {
    let (layers, t) = (2, 3);
    let stream: Vec<Tensor> = (0..5).map(|i| random(60 + i, &[1, t, 4])).collect::<Result<_>>()?;
    let (patterns, slopes) = (maps(70, layers, [1, 2, t])?, [random(80, &[1, 2, t, t])?, random(81, &[1, 2, t, t])?]);
    let model = |hook: &mut dyn Hook| -> Result<Tensor> {
        let mut y = Tensor::zeros(1, DType::F64, &Device::Cpu)?;
        for l in 0..layers {
            let sites = [Site::ResidPre(l), Site::ResidMid(l), Site::ResidPost(l)];
            for (site, x) in sites.into_iter().zip(&stream[2 * l..]) {
                hook.at(site, x.clone())?;
            }
            let pattern = hook.at(Site::Pattern(l), patterns[l].clone())?;
            y = (y + (pattern * &slopes[l])?.sum((1, 2, 3))?)?;
        }
        Ok(y)
    };
    let rows = |x: &Tensor| Ok::<_, Error>(x.squeeze(0)?.to_vec2::<f64>()?);
    let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let change = |before: &Tensor, after: &Tensor| -> Result<Vec<f64>> {
        let (before, after) = (rows(before)?, rows(after)?);
        let dots = before.iter().zip(&after).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>());
        let cosines: Vec<f64> =
            dots.zip(before.iter().zip(&after)).map(|(dot, (a, b))| (dot / length(a) / length(b)).exp()).collect();
        let all: f64 = cosines.iter().sum();
        Ok((0..t).map(|i| length(&after[i]) / length(&before[i]) * cosines[i] / all).collect())
    };
    let x0 = rows(&stream[0])?;
    let mut map: Vec<Vec<f64>> =
        (0..t).map(|i| (0..t).map(|j| if i == j { length(&x0[i]) } else { 0.0 }).collect()).collect();
    for l in 0..layers {
        let attention = change(&stream[2 * l], &stream[2 * l + 1])?;
        let mlp = change(&stream[2 * l + 1], &stream[2 * l + 2])?;
        let heads = |x: &Tensor| Ok::<_, Error>(x.squeeze(0)?.to_vec3::<f64>()?);
        let (a, g) = (heads(&patterns[l])?, heads(&slopes[l])?);
        let weight = |i: usize, j: usize| {
            let pattern = (a[0][i][j] + a[1][i][j]) / 2.0;
            pattern * attention[j] * (g[0][i][j].max(0.0) + g[1][i][j].max(0.0)) / 2.0
        };
        let step =
            |i: usize, j: usize| (1.0 + mlp[i]) * (map[i][j] + (0..t).map(|k| weight(i, k) * map[k][j]).sum::<f64>());
        map = (0..t).map(|i| (0..t).map(|j| step(i, j)).collect()).collect();
    }
    let by_hand = Tensor::new(map, &Device::Cpu)?.unsqueeze(0)?;
    assert!(gap(&token_tm(model, layers)?, &by_hand)? < 1e-12);
    Ok(())
}

const MODEL: &str = "pellucid/tiny-bert-sentiment";

fn bert() -> Result<Bert> {
    Bert::load_with(MODEL, &Load::f64())
}

#[test]
fn gradients_of_patterns_are_difference_quotients() -> Result<()> {
    let bert = bert()?;
    let text = bert.read("The food was good, but the service was terrible.")?;
    let x = bert.embed(&text)?.unsqueeze(0)?;
    let f = |hook: &mut dyn Hook| Target::Logit(0).of(&bert.logits_hooked(&text, &x, hook)?);
    let why = attention_gradients(f, bert.layers())?;
    for (pattern, seen) in why.patterns.iter().zip(bert.attention(&text)?) {
        assert!(gap(pattern, &seen)? < 1e-14);
    }
    for layer in 0..bert.layers() {
        let gradient = &why.gradients[layer];
        let direction = random(17 + layer as u64, gradient.dims())?;
        let promised = (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
        let at = |step: f64| -> Result<f64> {
            let shift = (&direction * step)?;
            let mut edit = Edit::new(Site::Pattern(layer), move |pattern| Ok((pattern + &shift)?));
            Ok(f(&mut edit)?.to_vec1::<f64>()?[0])
        };
        let quotient = (at(1e-5)? - at(-1e-5)?) / 2e-5;
        assert!((promised - quotient).abs() < 1e-7 * promised.abs().max(1.0), "layer {layer}: {promised}, {quotient}");
        assert!(promised.abs() > 1e-3, "layer {layer} has no say");
    }
    Ok(())
}

#[test]
fn two_classes_have_two_maps_and_one_rollout() -> Result<()> {
    let bert = bert()?;
    let text = bert.read("The food was good, but the service was terrible.")?;
    let x = bert.embed(&text)?;
    let x = Tensor::stack(&[&x, &(&x * 0.5)?], 0)?;
    let of = |class: usize| {
        attention_gradients(|hook| Target::Logit(class).of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())
    };
    let (negative, positive) = (of(0)?, of(1)?);
    assert_eq!(gap(&rollout(&negative.patterns, &PLAIN)?, &rollout(&positive.patterns, &PLAIN)?)?, 0.0);
    assert!(gap(&gae(&negative)?, &gae(&positive)?)? > 1e-3);
    assert!(gap(&gradient_rollout(&negative, &PLAIN)?, &gradient_rollout(&positive, &PLAIN)?)? > 1e-3);
    let single = x.narrow(0, 1, 1)?;
    let alone =
        attention_gradients(|hook| Target::Logit(1).of(&bert.logits_hooked(&text, &single, hook)?), bert.layers())?;
    assert!(gap(&gae(&alone)?, &gae(&positive)?.narrow(0, 1, 1)?)? < 1e-11);
    Ok(())
}

#[test]
fn a_causal_rollout_is_known_by_its_corrections() -> Result<()> {
    let maps = causal_maps(18, 4, [2, 3, 6])?;
    for fusion in FUSIONS {
        let rolled = causal_rollout(&maps, &Rollout { fusion, ..PLAIN })?;
        let ahead = (Tensor::triu2(6, DType::F64, &Device::Cpu)? - identity(6)?)?;
        for map in [&rolled.raw, &rolled.null, &rolled.reweighted] {
            assert!(rows_gap(map)? < 1e-14 && lowest(map)? >= 0.0);
            assert_eq!(map.broadcast_mul(&ahead)?.sum_all()?.to_scalar::<f64>()?, 0.0);
        }
        let lift = rolled.lift()?;
        assert!(gap(&lift.broadcast_mul(&rolled.null)?, &rolled.raw)? < 1e-15);
        assert_eq!(lift.broadcast_mul(&ahead)?.sum_all()?.to_scalar::<f64>()?, 0.0);
    }
    Ok(())
}

/// Uniform attention says nothing but position, and lift says so.
#[test]
fn the_lift_of_uniform_attention_is_one() -> Result<()> {
    let back = Tensor::tril2(7, DType::F64, &Device::Cpu)?;
    let uniform = back.broadcast_div(&back.sum_keepdim(1)?)?.broadcast_as((2, 3, 7, 7))?.contiguous()?;
    let rolled = causal_rollout(&vec![uniform; 5], &PLAIN)?;
    assert!(gap(&rolled.lift()?, &back.broadcast_as((2, 7, 7))?.contiguous()?)? < 1e-13);
    Ok(())
}

/// What has arrived at the first token stays there: leaving it out at the end is never having gone there.
#[test]
fn without_the_first_token_is_without_all_paths_through_it() -> Result<()> {
    let maps = causal_maps(19, 4, [2, 3, 6])?;
    let left = causal_rollout(&maps, &PLAIN)?.without_first()?;
    let mut paths = identity(5)?.broadcast_as((2, 5, 5))?.contiguous()?;
    for map in &maps {
        paths = mixed(map)?.narrow(1, 1, 5)?.narrow(2, 1, 5)?.contiguous()?.matmul(&paths)?;
    }
    let paths = paths.broadcast_div(&paths.sum_keepdim(2)?)?;
    assert!(gap(&left.narrow(1, 1, 5)?.narrow(2, 1, 5)?, &paths)? < 1e-13);
    assert_eq!(left.i((.., 0))?.sum_all()?.to_scalar::<f64>()?, 0.0);
    assert_eq!(left.i((.., .., 0))?.sum_all()?.to_scalar::<f64>()?, 0.0);
    let single = causal_rollout(&[Tensor::ones((1, 1, 1, 1), DType::F64, &Device::Cpu)?], &PLAIN)?;
    assert_eq!(single.without_first()?.to_vec3::<f64>()?, [[[0.0]]]);
    Ok(())
}

#[test]
fn a_causal_rollout_says_what_is_what() -> Result<()> {
    let rolled = causal_rollout(&causal_maps(20, 4, [2, 3, 6])?, &PLAIN)?;
    let shown = format!("{rolled:?}");
    for part in
        ["[2, 6, 6]", "`raw`, the rollout as it is, mostly position", "`null`", "`reweighted`", "0.400 in `null`"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    Ok(())
}

#[test]
fn maps_that_are_no_patterns_are_refused() -> Result<()> {
    let good = maps(21, 2, [1, 2, 4])?;
    let tell = |maps: &[Tensor]| message(rollout(maps, &PLAIN));
    assert!(tell(&[]).contains("at least one layer"));
    assert!(tell(&[good[0].squeeze(0)?]).contains("expected (b, h, t, t)"));
    assert!(tell(&[good[0].narrow(2, 0, 3)?]).contains("expected (b, h, t, t)"));
    assert!(tell(&[good[0].clone(), good[1].narrow(1, 0, 1)?]).contains("the same in every layer"));
    let scores = random(22, &[1, 2, 4, 4])?;
    let no_pattern = tell(&[good[0].clone(), scores]);
    assert!(no_pattern.contains("the attention of layer 1 is no pattern: a row sums to"), "{no_pattern}");
    assert!(no_pattern.contains("each row sums to one"));
    let columns = good[0].transpose(2, 3)?.contiguous()?;
    assert!(tell(&[columns]).contains("transposed maps"));
    let negative = Tensor::new(&[[[[1.5f64, -0.5], [0.5, 0.5]]]], &Device::Cpu)?;
    assert!(tell(&[negative]).contains("it holds the weight -0.500"));
    assert!(tell(&[(&good[0] * f64::NAN)?]).contains("a row sums to NaN"));
    Ok(())
}

#[test]
fn maps_of_the_other_kind_are_sent_to_the_other_rollout() -> Result<()> {
    let (both_ways, back) = (maps(23, 2, [1, 2, 4])?, causal_maps(23, 2, [1, 2, 4])?);
    let told = [
        message(rollout(&back, &PLAIN)),
        message(rollout_levels(&back, &PLAIN)),
        message(rollout_heads(&back, &PLAIN)),
        message(rollout_row(&back, &identity(4)?.get(0)?, &PLAIN)),
        message(attention_flow(&back, &PLAIN)),
        message(attention_flow_row(&back, 0, &PLAIN)),
        message(gradient_rollout(&AttentionGradients { patterns: back.clone(), gradients: back.clone() }, &PLAIN)),
    ];
    assert!(told.iter().all(|told| told.contains("are causal") && told.contains("`causal_rollout`")), "{told:?}");
    let told = message(causal_rollout(&both_ways, &PLAIN));
    assert!(told.contains("the attention of layer 0 is not causal") && told.contains("Use `rollout`"), "{told}");
    let mixture = [back[0].clone(), both_ways[1].clone()];
    assert!(rollout(&mixture, &PLAIN).is_ok());
    assert!(message(causal_rollout(&mixture, &PLAIN)).contains("layer 1 is not causal"));
    Ok(())
}

#[test]
fn options_and_sizes_that_do_not_fit_are_refused() -> Result<()> {
    let (maps, back) = (maps(24, 2, [1, 2, 4])?, causal_maps(24, 2, [1, 2, 4])?);
    for discard in [1.0, -0.1, f64::NAN] {
        assert!(message(rollout(&maps, &Rollout { discard, ..PLAIN })).contains("`discard` is a share in [0, 1)"));
    }
    let late = message(rollout(&maps, &Rollout { start_layer: 2, ..PLAIN }));
    assert!(late.contains("`start_layer` 2 is out of range: there are 2"), "{late}");
    let told = message(causal_rollout(&back, &Rollout { discard: 0.5, ..PLAIN }));
    assert!(told.contains("zeros above the diagonal"), "{told}");
    let told = message(rollout_row(&maps, &identity(3)?.get(0)?, &PLAIN));
    assert!(told.contains("the readout has shape [3], expected (4,), one number per token"), "{told}");
    assert!(message(attention_flow_row(&maps, 4, &PLAIN)).contains("query 4 is out of range: there are 4"));
    let wide = Tensor::full(0.01f32, (1, 1, 100, 100), &Device::Cpu)?;
    let told = message(attention_flow(&[wide.clone(), wide.clone()], &PLAIN));
    assert!(
        told.contains("200000000 edges, and the limit is 134217728") && told.contains("attention_flow_row"),
        "{told}"
    );
    Ok(())
}

#[test]
fn gradients_that_do_not_fit_are_refused() -> Result<()> {
    let why = weighed(25, [1, 2, 4])?;
    let short = AttentionGradients { gradients: why.gradients[..2].to_vec(), ..why.clone() };
    assert!(message(gae(&short)).contains("the list of gradients has shape [2], expected (3, …), one per layer"));
    let narrow = why.gradients.iter().map(|g| Ok(g.narrow(1, 0, 1)?)).collect::<Result<_>>()?;
    let narrow = AttentionGradients { gradients: narrow, ..why.clone() };
    assert!(
        message(gradient_rollout(&narrow, &PLAIN)).contains("a gradient has shape [1, 1, 4, 4], expected [1, 2, 4, 4]")
    );
    let swapped = AttentionGradients { patterns: why.gradients.clone(), gradients: why.patterns.clone() };
    assert!(message(gae(&swapped)).contains("is no pattern"));

    let bert = bert()?;
    let text = bert.read("A dull film.")?;
    let x = bert.embed(&text)?.unsqueeze(0)?;
    let logits = |hook: &mut dyn Hook| bert.logits_hooked(&text, &x, hook);
    assert!(message(attention_gradients(logits, 1)).contains("expected (1,), one number per example"));
    assert!(
        message(attention_gradients(|hook| Target::Logit(0).of(&logits(hook)?), 9)).contains("layer 3 is out of range")
    );
    assert!(message(attention_gradients(|hook| Target::Logit(0).of(&logits(hook)?), 0)).contains("at least one layer"));
    let cut = attention_gradients(|hook| Target::Logit(0).of(&logits(hook)?.detach()), bert.layers());
    assert!(matches!(cut, Err(Error::GraphCut)));
    let unseen = attention_gradients(|_| Target::Logit(0).of(&bert.logits(&text, &x)?), 1);
    assert!(message(unseen).contains("nothing was seen at `blocks.0.attn.pattern`"));
    Ok(())
}

/// Abnar and Zuidema's experiment (their table 1) in miniature: which of raw attention, rollout and flow ranks tokens as
/// blanking them out does?
#[test]
fn the_papers_experiment_in_miniature() -> Result<()> {
    let bert = bert()?;
    let methods = ["raw", "rollout", "flow"];
    let mut table = vec![vec![vec![]; bert.layers()]; methods.len()];
    for sentence in &Truth::of(MODEL)?.sentences[..40] {
        let text = bert.read(&sentence.text)?;
        let kept: Vec<usize> = (0..text.len()).filter(|&i| !text.tokens()[i].special).collect();
        let blanked = blank_out(&bert, &text, sentence.label)?;
        let chosen = |row: &[f64]| kept.iter().map(|&i| row[i]).collect::<Vec<f64>>();
        let maps = bert.attention(&text)?;
        let levels = rollout_levels(&maps, &PLAIN)?;
        for layer in 0..bert.layers() {
            let raw = maps[layer].mean(1)?.i((0, 0))?;
            let rows = [raw, levels[layer].i((0, 0))?, attention_flow_row(&maps[..=layer], 0, &PLAIN)?.get(0)?];
            for (method, row) in rows.iter().enumerate() {
                table[method][layer].push(rank_correlation(&chosen(&row.to_vec1()?), &chosen(&blanked))?);
            }
        }
    }
    println!("Spearman with blank-out, 40 sentences, by layer: mean ± deviation");
    for (method, layers) in methods.iter().zip(&table) {
        println!("{method:>8}  {}", layers.iter().map(|of| spread(of)).collect::<Vec<_>>().join("  "));
    }
    // of one layer, the rollout and the flow to other tokens are half the raw weight: the same ranks
    assert_eq!(table[0][0], table[1][0]);
    assert_eq!(table[0][0], table[2][0]);
    let means: Vec<Vec<f64>> = table.iter().map(|layers| layers.iter().map(|of| mean(of)).collect()).collect();
    let [raw, rolled, _] = &means[..] else { panic!("three methods") };
    assert!(rolled.iter().all(|mean| *mean > 0.5), "rollout ranks as blank-out does, at every level");
    assert!(rolled[bert.layers() - 1] > raw[bert.layers() - 1] + 0.1, "raw attention loses the tokens on the way up");
    Ok(())
}

/// |Δ logit| of the label when a token is replaced by [MASK].
fn blank_out(bert: &Bert, text: &Text, label: usize) -> Result<Vec<f64>> {
    let (x, mask) = (bert.embed(text)?, bert.baseline(text, &Baseline::token("[MASK]"))?);
    let f = |x: &Tensor| Target::Logit(label).of(&bert.logits(text, x)?);
    Ok(feature_ablation(f, &x, &mask, &Groups::rows(&x))?.scores.into_iter().map(f64::abs).collect())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn spread(values: &[f64]) -> String {
    let centre = mean(values);
    let deviation = mean(&values.iter().map(|v| (v - centre).powi(2)).collect::<Vec<_>>()).sqrt();
    format!("{centre:+.2} ± {deviation:.2}")
}
