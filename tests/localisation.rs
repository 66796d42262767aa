//! The known truth of the embedded models that see: how well each method finds the pixels of a drawn object.

use pellucid::faithfulness::{average_precision, pointing_game, relevance_mass, relevance_rank};
use pellucid::prelude::*;
use pellucid::{baseline, model::Patches};

/// So many scenes, of about two objects each, are scored.
const SCENES: usize = 16;

/// What a figure must reach at least, a little below what it was measured to be: pointing game, average precision, relevance
/// mass, relevance rank.
type Least = [f64; 4];

#[rustfmt::skip]
const VIT: [Least; METHODS.len()] = [
    [0.17, 0.09, 0.12, 0.18], // gradient
    [0.41, 0.18, 0.23, 0.28], // gradient × input
    [0.23, 0.12, 0.13, 0.22], // SmoothGrad
    [0.56, 0.32, 0.34, 0.39], // IG, black
    [0.76, 0.38, 0.47, 0.44], // IG, mean colour
    [0.65, 0.32, 0.38, 0.38], // IG, blurred
    [0.59, 0.53, 0.28, 0.52], // IG, patches
    [0.67, 0.52, 0.28, 0.49], // occlusion
    [0.85, 0.76, 0.59, 0.77], // superpixels
    [0.17, 0.24, 0.09, 0.21], // raw attention
    [0.26, 0.36, 0.10, 0.32], // rollout
    [0.65, 0.57, 0.29, 0.55], // gradient rollout
    [0.67, 0.59, 0.27, 0.55], // GAE
];

#[rustfmt::skip]
const CLIP: [Least; METHODS.len()] = [
    [0.17, 0.08, 0.12, 0.18], // gradient
    [0.47, 0.17, 0.24, 0.25], // gradient × input
    [0.23, 0.09, 0.11, 0.18], // SmoothGrad
    [0.56, 0.31, 0.38, 0.37], // IG, black
    [0.56, 0.35, 0.46, 0.41], // IG, mean colour
    [0.56, 0.29, 0.33, 0.34], // IG, blurred
    [0.50, 0.45, 0.28, 0.41], // IG, patches
    [0.47, 0.44, 0.25, 0.39], // occlusion
    [0.82, 0.70, 0.61, 0.68], // superpixels
    [0.35, 0.34, 0.10, 0.30], // raw attention
    [0.20, 0.30, 0.06, 0.25], // rollout
    [0.70, 0.60, 0.37, 0.55], // gradient rollout
    [0.70, 0.61, 0.36, 0.55], // GAE
];

type OfTensor<'a> = Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>;
type OfHook<'a> = Box<dyn Fn(&mut dyn Hook) -> Result<Tensor> + 'a>;
/// Every method's scores for an object of a scene.
type Ask<'a> = dyn Fn(&Scene, usize) -> Result<Vec<[f64; 4]>> + 'a;

/// A model asked for one object: its pixels, its logit, and where its patches are.
struct Question<'a> {
    x: Tensor,
    logit: OfTensor<'a>,
    hooked: OfHook<'a>,
    layers: usize,
    patches: &'a Patches,
    readout: Tensor,
    grid: OfTensor<'a>,
    attention: Vec<Tensor>,
    picture: Image,
}

type Method = fn(&Question) -> Result<Attribution>;

fn blank(q: &Question) -> Result<Tensor> {
    baseline::mean_colour(&q.x)
}

fn ig(q: &Question, blank: &Tensor) -> Result<Attribution> {
    integrated_gradients(&q.logit, &q.x, blank, &Steps::gauss_legendre(24))?.over_pixels()
}

/// The readout's row of `(1,t,t)` as scores over patches.
fn read_out(q: &Question, method: &str, rolled: &Tensor) -> Result<Attribution> {
    let rolled = rolled.to_dtype(DType::F64)?.squeeze(0)?;
    let row = q.readout.unsqueeze(0)?.matmul(&rolled)?.squeeze(0)?;
    Attribution::of_patches(method, &(q.grid)(&row)?)
}

fn watched(q: &Question) -> Result<pellucid::AttentionGradients> {
    attention_gradients(&q.hooked, q.layers)
}

const METHODS: [(&str, Method); 13] = [
    ("gradient", |q| gradient(&q.logit, &q.x)?.over_pixels()),
    ("gradient × input", |q| gradient_x_input(&q.logit, &q.x)?.over_pixels()),
    ("SmoothGrad", |q| smooth_grad(&q.logit, &q.x, &Noise::new(0.1, 24, 0))?.over_pixels()),
    ("IG, black", |q| ig(q, &baseline::flat(&q.x, 0.0)?)),
    ("IG, mean colour", |q| ig(q, &blank(q)?)),
    ("IG, blurred", |q| ig(q, &baseline::blurred(&q.x, 8.0)?)),
    ("IG, patches", |q| ig(q, &blank(q)?)?.patches(q.patches.side())),
    ("occlusion", |q| occlusion(&q.logit, &q.x, &blank(q)?, &[3, 16, 16], &[3, 8, 8])?.over_pixels()),
    ("superpixels", |q| {
        let groups = Groups::segments(&q.x, &superpixels(&q.picture, 40)?)?;
        feature_ablation(&q.logit, &q.x, &blank(q)?, &groups)?.over_segments(&groups)
    }),
    ("raw attention", |q| {
        read_out(q, "raw attention", &q.attention.last().map_or(Ok(q.x.clone()), |map| map.mean(1))?)
    }),
    ("rollout", |q| read_out(q, "rollout", &rollout(&q.attention, &Rollout::default())?)),
    ("gradient rollout", |q| read_out(q, "gradient rollout", &gradient_rollout(&watched(q)?, &Rollout::default())?)),
    ("GAE", |q| read_out(q, "GAE", &gae(&watched(q)?)?)),
];

/// Mean scores of every method over all objects of some scenes.
fn table(scenes: &[Scene], ask: &Ask) -> Result<Vec<[f64; 4]>> {
    let mut sums = vec![[0.0; 4]; METHODS.len()];
    let mut objects = 0.0;
    for scene in scenes {
        for object in 0..scene.objects.len() {
            for (sum, scores) in sums.iter_mut().zip(ask(scene, object)?) {
                sum.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
            }
            objects += 1.0;
        }
    }
    Ok(sums.into_iter().map(|sum| sum.map(|sum| sum / objects)).collect())
}

/// Every method's scores for one question.
fn scored(question: &Question, mask: &Tensor) -> Result<Vec<[f64; 4]>> {
    let score = |(_, method): &(&str, Method)| {
        let why = method(question)?;
        let pointing = f64::from(u8::from(pointing_game(&why, mask)?));
        Ok([pointing, average_precision(&why, mask)?, relevance_mass(&why, mask)?, relevance_rank(&why, mask)?])
    };
    METHODS.iter().map(score).collect()
}

/// Prints the table; every figure must reach what is asked of it.
fn hold(model: &str, table: &[[f64; 4]], least: &[Least; METHODS.len()]) {
    println!("\n{model}: pointing game, average precision, relevance mass, relevance rank");
    let mut wrong = Vec::new();
    for (((name, _), row), least) in METHODS.iter().zip(table).zip(least) {
        println!("{name:>18} {:.2} {:.2} {:.2} {:.2}", row[0], row[1], row[2], row[3]);
        if !row.iter().zip(least).all(|(got, least)| got >= least) {
            wrong.push(format!("{model}, {name}: {row:.2?}, at least {least:?} is asked"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let row = |name: &str| table[METHODS.iter().position(|(method, _)| *method == name).unwrap_or(0)];
    for (better, worse) in [("IG, mean colour", "gradient"), ("IG, mean colour", "IG, black"), ("GAE", "rollout")] {
        assert!(row(better)[1] > row(worse)[1], "{model}: {better} ranks pixels worse than {worse}");
    }
    assert!(row("GAE")[0] > row("rollout")[0] + 0.2, "{model}: a map without a target points as well as one with it");
}

#[test]
fn methods_find_the_pixels_of_a_class() -> Result<()> {
    const MODEL: &str = "pellucid/tiny-vit-shapes";
    let (vit, truth) = (Vit::load(MODEL)?, Scenes::of(MODEL)?);
    let ask = |scene: &Scene, object: usize| {
        let (picture, class) = (scene.image()?, vit.label(&scene.objects[object].shape.to_string())?);
        let (x, target) = (vit.pixels(&picture)?, Target::Logit(class));
        let batch = x.unsqueeze(0)?;
        let question = Question {
            logit: Box::new(|x| target.of(&vit.logits(x)?)),
            hooked: Box::new(|hook| target.of(&vit.logits_hooked(&batch, hook)?)),
            layers: vit.layers(),
            patches: vit.patches(),
            readout: vit.readout()?,
            grid: Box::new(|row| vit.on_grid(row)),
            attention: vit.attention(&picture)?,
            picture,
            x,
        };
        scored(&question, &scene.mask(object)?)
    };
    hold(MODEL, &table(&truth.scenes[..SCENES], &ask)?, &VIT);
    Ok(())
}

#[test]
fn methods_find_the_pixels_of_a_prompt() -> Result<()> {
    const MODEL: &str = "pellucid/tiny-clip-shapes";
    let (clip, truth) = (Clip::load(MODEL)?, Scenes::of(MODEL)?);
    let ask = |scene: &Scene, object: usize| {
        let picture = scene.image()?;
        let prompts = clip.prompts(&[scene.objects[object].to_string()])?;
        let x = clip.pixels(&picture)?;
        let batch = x.unsqueeze(0)?;
        let question = Question {
            logit: Box::new(|x| Target::Logit(0).of(&clip.logits(&prompts, x)?)),
            hooked: Box::new(|hook| Target::Logit(0).of(&clip.logits_hooked(&prompts, &batch, hook)?)),
            layers: clip.layers(),
            patches: clip.patches(),
            readout: clip.readout()?,
            grid: Box::new(|row| clip.on_grid(row)),
            attention: clip.attention(&picture)?,
            picture,
            x,
        };
        scored(&question, &scene.mask(object)?)
    };
    hold(MODEL, &table(&truth.scenes[..SCENES], &ask)?, &CLIP);
    Ok(())
}
