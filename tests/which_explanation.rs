//! LibraGrad's ordering in miniature: the exact gradient against LibraGrad, for gradient × input and FullGrad+, on the embedded
//! models whose right explanation is known (arXiv 2411.16760, tables 4 to 6).
//!
//! `cargo test --test which_explanation -- --nocapture` prints the tables.

use pellucid::faithfulness::*;
use pellucid::prelude::*;

/// How the gradient walks back.
const RULES: [(&str, Rules); 2] = [("exact", Rules::exact()), ("LibraGrad", Rules::libragrad())];

/// A token's score by one of the methods, and by how much the method misses the output.
fn methods(why: &LayerGradients) -> Result<[(&'static str, Tensor, f64); 2]> {
    let (output, first) = (why.output.to_dtype(DType::F64)?.to_vec1::<f64>()?[0], why.relevance(0)?.squeeze(0)?);
    let missed = (first.sum_all()?.to_scalar::<f64>()? - output).abs();
    let every = completeness_error(&[full_grad_plus_normalised(why)?])?;
    Ok([("gradient × input", first, missed), ("FullGrad+", full_grad_plus(why)?.tensor()?, every)])
}

/// How an example is explained by rules, what token scores are over, and how well they rank.
struct Example<'a> {
    layers: &'a dyn Fn(Rules) -> Result<LayerGradients>,
    over: &'a dyn Fn(&str, &Tensor) -> Result<Attribution>,
    deletion: &'a dyn Fn(&Attribution) -> Result<Deletion>,
    precision: &'a dyn Fn(&Attribution) -> Result<f64>,
}

impl Example<'_> {
    fn rated(&self, row: Row, why: &Attribution) -> Result<Row> {
        let (curves, precision) = ((self.deletion)(why)?, (self.precision)(why)?);
        let row = row.score("MIF accuracy", curves.mif_accuracy()).score("LIF accuracy", curves.lif_accuracy());
        let row = row.score("SRG", curves.srg(Measure::Probability)).score("AOPC", curves.aopc());
        Ok(row.score("AP", 100.0 * precision))
    }

    /// A row for every method under every rule, and one for chance.
    fn rows(&self, seed: u64) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (rule, rules) in RULES {
            for (method, tokens, missed) in methods(&(self.layers)(rules)?)? {
                let why = (self.over)(method, &tokens)?;
                if rows.is_empty() {
                    rows.push(self.rated(Row::of("random"), &random_scores(&why, seed))?);
                }
                let row = self.rated(Row::of(&format!("{method}, {rule}")), &why)?;
                rows.push(row.score("completeness error", missed));
            }
        }
        Ok(rows)
    }
}

/// Every object of the held-out scenes, asked for by the logit of its shape: a question of yes or no each.
fn shapes() -> Result<Leaderboard> {
    const MODEL: &str = "pellucid/tiny-vit-shapes";
    let (vit, truth) = (Vit::load(MODEL)?, Scenes::of(MODEL)?);
    let mut objects = Vec::new();
    for scene in &truth.scenes {
        objects.extend((0..scene.objects.len()).map(|object| (scene, object)));
    }
    let score = |i: usize| {
        let (scene, object) = objects[i];
        let (x, known) = (vit.pixels(&scene.image()?)?, scene.mask(object)?);
        let (batch, target) = (x.unsqueeze(0)?, Target::Logit(vit.label(&scene.objects[object].shape.to_string())?));
        let example = Example {
            layers: &|rules| {
                let vit = vit.under(rules);
                layer_gradients(|hook| target.of(&vit.logits_hooked(&batch, hook)?), vit.layers())
            },
            over: &|method, tokens| Attribution::of_patches(method, &vit.on_grid(tokens)?),
            deletion: &|why| deletion(|present| target.of(&vit.logits_with(&x, present)?), why, 0, &TENTHS),
            precision: &|why| average_precision(why, &known),
        };
        example.rows(i as u64)
    };
    Leaderboard::over(objects.len(), score)?.lower_is_better(&["completeness error"])
}

/// Whether a token is of a word that decides a sentence: an opinion, a negator or an intensifier.
fn decides(sentence: &Sentence, token: &Token) -> bool {
    let speaks = |kind| matches!(kind, RoleKind::Sentiment | RoleKind::Negator | RoleKind::Intensifier);
    let mut roles = sentence.roles.iter().filter(|role| speaks(role.kind));
    !token.special && roles.any(|role| role.start <= token.start && token.end <= role.end)
}

/// Held-out sentences, asked for the class that the model gives. Its words are a picture of one row; what decides may speak for
/// the class or against it, so sizes are ranked.
fn sentences() -> Result<Leaderboard> {
    const MODEL: &str = "pellucid/tiny-bert-sentiment";
    let (bert, truth) = (Bert::load(MODEL)?, Truth::of(MODEL)?);
    let score = |i: usize| {
        let sentence = &truth.sentences[i];
        let text = bert.read(&sentence.text)?;
        let (x, class) = (bert.embed(&text)?.unsqueeze(0)?, bert.label(&bert.predict(&text)?[0].0)?);
        let known: Vec<u8> = text.tokens().iter().map(|token| u8::from(decides(sentence, token))).collect();
        let known = Tensor::new(known, &Device::Cpu)?.unsqueeze(0)?;
        let example = Example {
            layers: &|rules| {
                let bert = bert.under(rules);
                layer_gradients(|hook| Target::Logit(class).of(&bert.logits_hooked(&text, &x, hook)?), bert.layers())
            },
            over: &|method, tokens| Attribution::of_tokens(method, tokens, &text),
            deletion: &|why| deletion(|present| bert.logits_with(&text, present), why, class, &TENTHS),
            precision: &|why| {
                average_precision(&Attribution::of_patches("sizes", &why.tensor()?.abs()?.unsqueeze(0)?)?, &known)
            },
        };
        example.rows(i as u64)
    };
    Leaderboard::over(100, score)?.lower_is_better(&["completeness error"])
}

/// What LibraGrad's rules do to a method's number, in the mean over examples of the number by them less that by the exact
/// gradient.
enum Change {
    /// The interval lies above this.
    Up(f64),
    /// The interval lies below this.
    Down(f64),
    /// The interval has 0 in it: so many examples do not tell.
    Unclear,
}

use Change::{Down, Unclear, Up};

const METRICS: [&str; 6] = ["MIF accuracy", "LIF accuracy", "SRG", "AOPC", "AP", "completeness error"];

#[rustfmt::skip]
const ON_SHAPES: [(&str, [Change; METRICS.len()]); 2] = [
    ("gradient × input", [Up(40.0), Up(10.0), Up(0.7), Up(0.4), Up(35.0), Down(-2.5)]),
    ("FullGrad+",        [Up(35.0), Up(10.0), Up(0.6), Up(0.4), Up(30.0), Down(-6.0)]),
];

/// For gradient × input in a shallow BERT, taking words away in LibraGrad's order breaks answers no sooner than in the exact
/// gradient's; which words may go, and which decide, it knows better.
#[rustfmt::skip]
const ON_SENTENCES: [(&str, [Change; METRICS.len()]); 2] = [
    ("gradient × input", [Unclear,  Up(15.0), Up(0.05), Unclear,  Up(3.0),  Down(-1.2)]),
    ("FullGrad+",        [Up(25.0), Up(30.0), Up(0.5),  Up(0.2),  Up(12.0), Down(-1.2)]),
];

/// Prints the table and the paired differences; every difference must be what is claimed.
fn hold(model: &str, board: &Leaderboard, claims: &[(&str, [Change; METRICS.len()])]) -> Result<()> {
    println!("\n{model}\n\n{}", board.sorted_by("MIF accuracy")?.text());
    let mut wrong = Vec::new();
    for (method, changes) in claims {
        for (metric, change) in METRICS.iter().zip(changes) {
            let lift = board.difference(&format!("{method}, LibraGrad"), &format!("{method}, exact"), metric)?;
            let Estimate { mean, low, high, .. } = lift;
            println!("{method}, {metric}, LibraGrad less exact: {mean:+.3} ({low:+.3} to {high:+.3})");
            let holds = match change {
                Up(least) => low > *least,
                Down(most) => high < *most,
                Unclear => low < 0.0 && high > 0.0,
            };
            if !holds {
                wrong.push(format!("{method}, {metric}: {low} to {high}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{model}: {wrong:#?}");
    Ok(())
}

/// The mean of a method's number.
fn of(board: &Leaderboard, method: &str, metric: &str) -> Result<f64> {
    Ok(board.estimate(method, metric)?.map_or(f64::NAN, |estimate| estimate.mean))
}

/// What both models say: LibraGrad's FullGrad+ is the best of the four by deletion and sums to the output, and chance gains
/// nothing.
fn ordered(board: &Leaderboard) -> Result<()> {
    assert_eq!(board.sorted_by("MIF accuracy")?.methods()[0], "FullGrad+, LibraGrad");
    assert_eq!(board.sorted_by("SRG")?.methods()[0], "FullGrad+, LibraGrad");
    assert!(of(board, "FullGrad+, LibraGrad", "completeness error")? < 1e-4);
    assert!(of(board, "random", "SRG")?.abs() < 0.1);
    for method in ["gradient × input, LibraGrad", "FullGrad+, LibraGrad"] {
        assert!(board.difference(method, "random", "MIF accuracy")?.low > 8.0, "{method}");
        assert!(board.difference(method, "random", "AP")?.low > 40.0, "{method}");
    }
    Ok(())
}

#[test]
fn on_shapes() -> Result<()> {
    let board = shapes()?;
    hold("pellucid/tiny-vit-shapes", &board, &ON_SHAPES)?;
    ordered(&board)
}

#[test]
fn on_sentences() -> Result<()> {
    let board = sentences()?;
    hold("pellucid/tiny-bert-sentiment", &board, &ON_SENTENCES)?;
    ordered(&board)?;
    // Summed over layers, the exact gradient ranks words worse than chance.
    assert!(board.difference("FullGrad+, exact", "random", "SRG")?.high < -0.05);
    Ok(())
}
