//! LibraGrad's theorem on whole models of every family, in `f64`: relevance and biases of every layer sum to the output, no
//! value changes, and without one of the rules the law fails.

#[path = "common/apart.rs"]
mod apart;

use std::path::Path;

use apart::{largest, largest_difference};
use pellucid::prelude::*;

/// A number that a model says, walked back by rules and seen by a hook.
type Says = dyn Fn(Rules, &mut dyn Hook) -> Result<Tensor>;

/// A model that is to be explained.
struct Case {
    name: String,
    layers: usize,
    says: Box<Says>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        layers: usize,
        says: impl Fn(Rules, &mut dyn Hook) -> Result<Tensor> + 'static,
    ) -> Self {
        Self { name: name.into(), layers, says: Box::new(says) }
    }

    fn why(&self, rules: Rules) -> Result<LayerGradients> {
        layer_gradients(|hook| (self.says)(rules, hook), self.layers)
    }
}

fn bert() -> Result<Case> {
    let bert = Bert::load_with("pellucid/tiny-bert-sentiment", &Load::f64())?;
    let text = bert.pad(bert.read("I absolutely loved the movie, but the ending was awful.")?, 24)?;
    let (x, target) = (bert.embed(&text)?.unsqueeze(0)?, Target::Logit(bert.label("positive")?));
    Ok(Case::new("BERT", bert.layers(), move |rules, hook| {
        target.of(&bert.under(rules).logits_hooked(&text, &x, hook)?)
    }))
}

fn decoder(source: &str) -> Result<Case> {
    let llm = CausalLm::load_with(source, &Load::f64())?;
    let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
    let (x, target) = (llm.embed(&prompt)?.unsqueeze(0)?, Target::Contrast(7, 3));
    Ok(Case::new(source, llm.layers(), move |rules, hook| target.of(&llm.under(rules).next_logits_hooked(&x, hook)?)))
}

/// Seeded pixels of the size a model reads, `(1,3,h,w)`.
fn pixels(model: &impl Vision) -> Result<Tensor> {
    let [height, width] = model.patches().size();
    let like = Tensor::zeros((1, 3, height, width), DType::F64, &Device::Cpu)?;
    pellucid::baseline::noise(&like, 0.5, 0.2, 7)
}

fn vit(source: &str) -> Result<Case> {
    let vit = Vit::load_with(source, &Load::f64())?;
    let x = pixels(&vit)?;
    Ok(Case::new(source, vit.layers(), move |rules, hook| {
        Target::Logit(1).of(&vit.under(rules).logits_hooked(&x, hook)?)
    }))
}

fn gmixer() -> Result<Case> {
    let mixer = Mixer::load_with(&folder("timm_gmixer"), &Load::f64())?;
    let x = pixels(&mixer)?;
    Ok(Case::new("gMixer", mixer.layers(), move |rules, hook| {
        Target::Logit(1).of(&mixer.under(rules).logits_hooked(&x, hook)?)
    }))
}

fn clip() -> Result<Case> {
    let clip = Clip::load_with("pellucid/tiny-clip-shapes", &Load::f64())?;
    let (prompts, x) = (clip.prompts(&["a red star", "a blue star", "a red circle"])?, pixels(&clip)?);
    Ok(Case::new("CLIP", clip.layers(), move |rules, hook| {
        Target::Logit(1).of(&clip.under(rules).logits_hooked(&prompts, &x, hook)?)
    }))
}

fn vlm() -> Result<Case> {
    let vlm = Vlm::load_with("pellucid/tiny-vlm-shapes", &Load::f64())?;
    let scene = Scene::empty(1).with(Shape::Square, Colour::Red, 18.0, 20.0, 10.0)?;
    let prompt = vlm.ask("What colour is the square?", &scene.image()?)?;
    let x = vlm.embed(&prompt, &prompt.pixels()?.unsqueeze(0)?)?;
    let red = Target::Logit(vlm.tokenizer().id("red")? as usize);
    Ok(Case::new("VLM", vlm.llm().layers(), move |rules, hook| {
        red.of(&vlm.under(rules).logits_from_hooked(&prompt, &x, hook)?)
    }))
}

/// A tiny model of another kind.
fn folder(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vision").join(name).display().to_string()
}

/// A model of every family: class token or mean, one head or two, registers, norms before and after pooling, gated MLPs and norms
/// within them, queries that turn, scores with a bias.
fn cases() -> Result<Vec<Case>> {
    let folders = [
        "deit",
        "timm_beit",
        "timm_deit3",
        "timm_distilled",
        "timm_eva",
        "timm_eva_apart",
        "timm_flexivit",
        "timm_siglip",
        "timm_registers",
        "timm_registers_mean",
    ];
    let mut cases = vec![
        bert()?,
        decoder("pellucid/tiny-llama-facts")?,
        decoder("pellucid/tiny-qwen-facts")?,
        vit("pellucid/tiny-vit-shapes")?,
        gmixer()?,
        clip()?,
        vlm()?,
    ];
    for name in folders {
        cases.push(vit(&folder(name))?);
    }
    Ok(cases)
}

/// The size of what is added up at a layer, against which a gap is measured.
fn mass(why: &LayerGradients, layer: usize) -> Result<f64> {
    let all = (&why.inputs[layer] * &why.gradients[layer])?.abs()?.sum_all()?.to_scalar::<f64>()?;
    Ok(all + why.output.abs()?.sum_all()?.to_scalar::<f64>()?)
}

#[test]
fn relevance_and_biases_of_every_layer_sum_to_the_output() -> Result<()> {
    for case in cases()? {
        let why = case.why(Rules::libragrad())?;
        for (layer, law) in why.balance()?.into_iter().enumerate() {
            let gap = law.gap().abs() / mass(&why, layer)?;
            assert!(gap < 1e-12, "{}, layer {layer}: {} instead of {}", case.name, law.got, law.promised);
        }
        for law in [full_grad(&why)?, full_grad_plus_normalised(&why)?].map(|full| full.completeness) {
            let law = law.ok_or(Error::EmptyText)?;
            assert!(law.gap().abs() < 1e-12 * mass(&why, 0)?, "{}: {law:?}", case.name);
        }
    }
    Ok(())
}

/// Σ FullGrad+ = L·f − Σ_{l<L} B_{≥l} + B_{≥0}, with the biases from layer l on as B_{≥l}: each counts once.
#[test]
fn full_grad_plus_counts_every_bias_once() -> Result<()> {
    for case in cases()? {
        let why = case.why(Rules::libragrad())?;
        let output = why.output.to_vec1::<f64>()?[0];
        let total = |tensors: &[Tensor]| -> Result<f64> {
            tensors.iter().map(|part| Ok(part.sum_all()?.to_scalar::<f64>()?)).sum()
        };
        let from = |layer: usize| Ok(total(&why.biases[layer..])? + total(&why.unattributed[layer..])?);
        let above: f64 = (0..why.layers()).map(from).sum::<Result<f64>>()?;
        let promised = why.layers() as f64 * output - above + total(&why.biases)?;
        let got = full_grad_plus(&why)?.sum();
        assert!(
            (got - promised).abs() < 1e-11 * mass(&why, 0)?.max(promised.abs()),
            "{}: {got}, {promised}",
            case.name
        );
    }
    Ok(())
}

#[test]
fn rules_change_no_value() -> Result<()> {
    for case in cases()? {
        let exact = (case.says)(Rules::exact(), &mut Clear)?.to_vec1::<f64>()?;
        for (name, rules) in Rules::named() {
            assert_eq!((case.says)(rules, &mut Clear)?.to_vec1::<f64>()?, exact, "{} under {name}", case.name);
            let hooked = case.why(rules)?.output.to_vec1::<f64>()?;
            assert!((hooked[0] - exact[0]).abs() < 1e-10, "{} under {name}, with a hook", case.name);
        }
        let hooked = case.why(Rules::exact())?.output.to_vec1::<f64>()?;
        assert_eq!(case.why(Rules::libragrad())?.output.to_vec1::<f64>()?, hooked, "{}, with a hook", case.name);
    }
    Ok(())
}

/// The largest gap of any layer, relative to the output.
fn worst(case: &Case, rules: Rules) -> Result<f64> {
    Ok(largest(case.why(rules)?.balance()?.into_iter().map(|law| law.gap().abs())))
}

#[test]
fn without_one_of_its_rules_the_law_fails() -> Result<()> {
    for case in cases()? {
        let gated = ["llama", "qwen", "VLM", "gMixer", "eva"].iter().any(|kind| case.name.contains(kind));
        let needed = [
            (Rule::Norm, true),
            (Rule::Attention, case.name != "gMixer"),
            (Rule::Activation, true),
            (Rule::Gate, gated),
            (Rule::Length, case.name == "CLIP"),
        ];
        for (rule, needed) in needed {
            let gap = worst(&case, Rules::libragrad().without(rule))?;
            assert!(!needed || gap > 1e-4, "{} without the rule for {rule:?}: {gap:e}", case.name);
            assert!(needed || gap < 1e-9, "{} has nothing to balance for {rule:?}: {gap:e}", case.name);
        }
        assert!(worst(&case, Rules::exact())? > 1e-3, "{}: the exact gradient is balanced", case.name);
        assert!(worst(&case, Rules::cp_lrp())? < 1e-9, "{}: CP-LRP is not", case.name);
    }
    Ok(())
}

/// With norms alone left as they are, nothing is left at what the last one reads but its ε's share (and biases behind it).
#[test]
fn an_exact_norm_takes_the_relevance_of_what_it_reads() -> Result<()> {
    let case = decoder("pellucid/tiny-llama-facts")?;
    let why = case.why(Rules::libragrad().without(Rule::Norm))?;
    let (last, output) = (why.relevance(why.layers())?.sum_all()?.to_scalar::<f64>()?, why.output.to_vec1::<f64>()?[0]);
    assert!(last.abs() < 1e-3 * output.abs(), "{last} of {output}");
    Ok(())
}

/// A probability's gradient is that of p·(z − Σ p·z), not of p (softmax is walked back as it is).
#[test]
fn a_probability_sums_to_its_contrast_with_all_classes() -> Result<()> {
    let vit = Vit::load_with("pellucid/tiny-vit-shapes", &Load::f64())?;
    let x = pixels(&vit)?;
    let libra = vit.under(Rules::libragrad());
    let why = layer_gradients(|hook| Target::Probability(2).of(&libra.logits_hooked(&x, hook)?), vit.layers())?;
    let logits = vit.logits(&x)?.squeeze(0)?.to_vec1::<f64>()?;
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    let mean: f64 = logits.iter().map(|z| z * z.exp() / total).sum();
    let promised = logits[2].exp() / total * (logits[2] - mean);
    let got = full_grad(&why)?.completeness.map_or(f64::NAN, |law| law.got);
    assert!((got - promised).abs() < 1e-10, "{got} instead of {promised}");
    Ok(())
}

/// With the exact gradient of its length, the relevance of CLIP's picture is nothing at all.
#[test]
fn an_exact_length_sums_to_nothing() -> Result<()> {
    let why = clip()?.why(Rules::libragrad().without(Rule::Length))?;
    let law = full_grad(&why)?.completeness.ok_or(Error::EmptyText)?;
    assert!(law.got.abs() < 1e-9 && law.promised.abs() > 1e-2, "{law:?}");
    Ok(())
}

/// Every method takes any rule: gradient × input of a decoder's embeddings is its first layer's relevance; words that come
/// later than what is explained have none.
#[test]
fn gradient_x_input_takes_any_rule() -> Result<()> {
    let llm = CausalLm::load_with("pellucid/tiny-llama-facts", &Load::f64())?.under(Rules::libragrad());
    let prompt = llm.read("Michael works as a software engineer in Austin, Texas.")?;
    let (x, target) = (llm.embed(&prompt)?, Target::Logit(9));
    let why = gradient_x_input(|x| target.of(&llm.logits(x)?), &x)?.over(&prompt)?;
    let promised = target.of(&llm.logits(&x.unsqueeze(0)?)?)?.to_vec1::<f64>()?[0];
    assert!((why.sum() - promised).abs() < 1e-10, "{} instead of {promised}", why.sum());
    let early = |hook: &mut dyn Hook| target.of(&llm.logits_hooked(&x.unsqueeze(0)?, hook)?.i((.., 3))?);
    let early = full_grad(&layer_gradients(early, llm.layers())?)?;
    assert!(early.scores[4..].iter().all(|score| *score == 0.0) && early.scores[3] != 0.0);
    Ok(())
}

/// Several examples at once have the gradients that each has by itself.
#[test]
fn examples_do_not_talk() -> Result<()> {
    let bert = Bert::load_with("pellucid/tiny-bert-sentiment", &Load::f64())?.under(Rules::libragrad());
    let text = bert.read("I loved it.")?;
    let x = bert.embed(&text)?;
    let both = Tensor::stack(&[&x, &(&x * 0.5)?], 0)?;
    let of =
        |x: &Tensor| layer_gradients(|hook| Target::Logit(1).of(&bert.logits_hooked(&text, x, hook)?), bert.layers());
    let (both, one) = (of(&both)?, of(&(&x * 0.5)?.unsqueeze(0)?)?);
    for layer in 0..=bert.layers() {
        let gap = largest_difference(&both.relevance(layer)?.narrow(0, 1, 1)?, &one.relevance(layer)?)?;
        let biases = largest_difference(&both.biases[layer].narrow(0, 1, 1)?, &one.biases[layer])?;
        assert!(gap < 1e-12 && biases < 1e-12, "layer {layer}");
    }
    assert!(full_grad(&both).is_err_and(|error| error.to_string().contains("one example at a time")));
    Ok(())
}

#[test]
fn what_cannot_be_explained_is_refused() -> Result<()> {
    let case = bert()?;
    let said = |result: Result<LayerGradients>| result.map_or_else(|error| error.to_string(), |_| "no error".into());
    assert!(said(layer_gradients(|hook| (case.says)(Rules::exact(), hook), 0)).contains("at least one layer"));
    assert!(said(layer_gradients(|hook| (case.says)(Rules::exact(), hook), 99)).contains("layer"));
    assert!(
        said(layer_gradients(|_| (case.says)(Rules::exact(), &mut Clear), 1)).contains("run the model with the hook")
    );
    let [output, none] = [Tensor::ones(1, DType::F64, &Device::Cpu)?, Tensor::zeros((1, 2), DType::F64, &Device::Cpu)?];
    let [inputs, gradients, biases, unattributed] = [const { Vec::new() }; 4];
    let empty = LayerGradients { output, inputs, gradients, biases, unattributed };
    let read = vec![Tensor::ones((1, 2, 3), DType::F64, &Device::Cpu)?; 3];
    let short = LayerGradients { inputs: read.clone(), gradients: read, biases: vec![none], ..empty.clone() };
    for method in [full_grad, full_grad_plus, full_grad_plus_normalised, skip_plus, hires_cam, grad_cam_plus] {
        assert!(method(&empty).is_err());
    }
    assert!(empty.balance().is_err() && short.balance().is_err() && full_grad_plus_normalised(&short).is_err());
    Ok(())
}

/// The maps by hand, from the layers' inputs and gradients.
#[test]
fn maps_are_what_their_equations_say() -> Result<()> {
    let case = vit("pellucid/tiny-vit-shapes")?;
    let why = case.why(Rules::exact())?;
    let rows = |tensor: &Tensor| tensor.squeeze(0)?.to_vec2::<f64>().map_err(Error::from);
    let layers: Vec<_> =
        (why.inputs.iter().zip(&why.gradients)).map(|(x, g)| Ok((rows(x)?, rows(g)?))).collect::<Result<_>>()?;
    let (t, c) = (layers[0].0.len(), layers[0].0[0].len());
    let mut expected = [vec![0.0; t], vec![0.0; t], vec![0.0; t]];
    for (layer, (x, g)) in layers[..case.layers].iter().enumerate() {
        for channel in 0..c {
            let mean = g.iter().map(|row| row[channel]).sum::<f64>() / t as f64;
            let size: f64 = x.iter().map(|row| row[channel].abs()).sum();
            let weighed = x.iter().zip(g).map(|(x, g)| g[channel] * x[channel].abs()).sum::<f64>() / (size + 1e-7);
            for token in 0..t {
                let weights = [if layer + 1 == case.layers { g[token][channel] } else { 0.0 }, mean, weighed];
                expected.iter_mut().zip(weights).for_each(|(map, weight)| map[token] += weight * x[token][channel]);
            }
        }
    }
    let got = [hires_cam(&why)?, grad_cam_plus(&why)?, x_grad_cam_plus(&why)?];
    for (got, expected) in got.iter().zip(&expected) {
        for (got, expected) in got.scores.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-9 * expected.abs().max(1.0), "{got} is not {expected}");
        }
    }
    Ok(())
}

#[test]
fn attcat_weighs_what_layers_leave_with_the_attention_tokens_got() -> Result<()> {
    let bert = Bert::load_with("pellucid/tiny-bert-sentiment", &Load::f64())?;
    let text = bert.read("I loved it.")?;
    let x = bert.embed(&text)?.unsqueeze(0)?;
    let why = layer_gradients(|hook| Target::Logit(1).of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())?;
    let attention = bert.attention(&text)?;
    let got = attcat(&why, &attention)?.scores;
    for (token, got) in got.iter().enumerate() {
        let mut expected = 0.0;
        for (layer, pattern) in attention.iter().enumerate() {
            let column = pattern.i((0, .., .., token))?.mean_all()?.to_scalar::<f64>()?;
            expected += column * why.relevance(layer + 1)?.i((0, token))?.to_scalar::<f64>()?;
        }
        assert!((got - expected).abs() < 1e-12);
    }
    assert!(attcat(&why, &attention[1..]).is_err_and(|error| error.to_string().contains("one per layer")));
    Ok(())
}

#[test]
fn rules_have_names() {
    assert_eq!(Rules::libragrad().to_string(), "LibraGrad");
    assert!(Rules::libragrad().without(Rule::Norm).to_string().contains("norm: Exact"));
    assert_eq!(Rules::default(), Rules::exact());
    for name in [
        "norm.bias",
        "blocks.3.attn.z",
        "head.bias",
        "blocks.3.attn.bias",
        "blocks.3.attn.mix.bias",
        "blocks.3.mlp.bias",
    ] {
        assert_eq!(name.parse::<Site>().map(|site| site.to_string()).unwrap_or_default(), name);
    }
}

/// LeGrad by central differences: a weight of a pattern is moved, and the mean of what the layer leaves goes on to the head.
#[test]
fn le_grad_is_the_slope_of_what_the_model_would_say_if_it_ended_there() -> Result<()> {
    const STEP: f64 = 1e-5;
    let vit = Vit::load_with(&folder("timm_odd"), &Load::f64())?;
    let (x, depth, key) = (pixels(&vit)?, vit.layers(), 3);
    let f = |hook: &mut dyn Hook| Target::Logit(1).of(&vit.logits_hooked(&x, hook)?);
    for layer in 0..depth {
        let says = |head: usize, query: usize, by: f64| -> Result<f64> {
            let mut moved = Moved { layer, last: depth - 1, weight: [head, query, key], by, left: None };
            Ok(f(&mut moved)?.to_vec1::<f64>()?[0])
        };
        let [_, heads, queries, _] = *vit.attention_to(&x)?[0].dims() else { return Err(Error::EmptyText) };
        let mut expected = 0.0;
        for (head, query) in (0..heads).flat_map(|head| (0..queries).map(move |query| (head, query))) {
            expected += ((says(head, query, STEP)? - says(head, query, -STEP)?) / (2.0 * STEP)).max(0.0);
        }
        let got = le_grad(f, depth, layer..layer + 1)?.scores[key];
        let expected = expected / (heads * queries) as f64;
        assert!((got - expected).abs() < 1e-8 && expected > 1e-6, "layer {layer}: {got} instead of {expected}");
    }
    let sum = |layers: std::ops::Range<usize>| -> Result<f64> { Ok(le_grad(f, depth, layers)?.sum()) };
    assert!((sum(0..depth)? - sum(0..1)? - sum(1..depth)?).abs() < 1e-12);
    assert!(le_grad(f, depth, 1..1).is_err() && le_grad(f, depth, 0..depth + 1).is_err());
    Ok(())
}

/// A weight of one pattern moved, and the mean of what its layer leaves in place of what the last one does.
struct Moved {
    layer: usize,
    last: usize,
    weight: [usize; 3],
    by: f64,
    left: Option<Tensor>,
}

impl Hook for Moved {
    fn sites(&self) -> Vec<Site> {
        vec![Site::Pattern(self.layer), Site::ResidPost(self.layer), Site::ResidPost(self.last)]
    }

    fn at(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        if site == Site::Pattern(self.layer) {
            let [head, query, key] = self.weight;
            let place = [0..1, head..head + 1, query..query + 1, key..key + 1];
            let there = x.i((0, head, query, key))?.to_scalar::<f64>()?;
            return Ok(x.slice_assign(&place, &Tensor::full(there + self.by, (1, 1, 1, 1), &Device::Cpu)?)?);
        }
        if site == Site::ResidPost(self.layer) {
            self.left = Some(x.mean_keepdim(1)?.broadcast_as(x.shape())?.contiguous()?);
        }
        Ok(self.left.clone().filter(|_| site == Site::ResidPost(self.last)).unwrap_or(x))
    }
}

/// Grad-ECLIP by hand, from what the last attention reads and the gradient of what it makes.
#[test]
fn grad_eclip_is_what_its_equation_says() -> Result<()> {
    let vit = Vit::load_with(&folder("timm_odd"), &Load::f64())?;
    let (x, layer) = (pixels(&vit)?, vit.layers() - 1);
    let f = |hook: &mut dyn Hook| Target::Logit(1).of(&vit.logits_hooked(&x, hook)?);
    let (mut record, mut tap) = (Record::new(&[Site::Qkv(layer)]), Tap::new(&[Site::Z(layer)]));
    f(&mut record)?;
    let slope = tap_of(&f, &mut tap, Site::Z(layer))?.i((0, 0))?.to_vec1::<f64>()?;
    let rows = record.get(Site::Qkv(layer))?.squeeze(0)?.to_vec2::<f64>()?;
    let c = slope.len();
    let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let cosine = |row: &Vec<f64>| {
        let (query, key) = (&rows[0][..c], &row[c..2 * c]);
        product(query, key) / (product(query, query) * product(key, key)).sqrt()
    };
    let cosines: Vec<f64> = rows[1..].iter().map(cosine).collect();
    let (least, greatest) = cosines.iter().fold((1.0, -1.0), |(a, b): (f64, f64), &c| (a.min(c), b.max(c)));
    let got = grad_eclip(f, layer, 0)?.scores;
    for ((row, cosine), got) in rows[1..].iter().zip(&cosines).zip(&got[1..]) {
        let expected = product(&slope, &row[2 * c..]) * (cosine - least) / (greatest - least);
        assert!((got - expected.max(0.0)).abs() < 1e-12, "{got} is not {expected}");
    }
    assert!(got[0] == 0.0 && got.iter().any(|score| *score > 0.0));
    assert!(grad_eclip(f, layer, 99).is_err() && grad_eclip(f, 99, 0).is_err());
    Ok(())
}

fn tap_of(f: &dyn Fn(&mut dyn Hook) -> Result<Tensor>, tap: &mut Tap, site: Site) -> Result<Tensor> {
    let grads = f(tap)?.sum_all()?.backward()?;
    tap.grad(&grads, site)
}
