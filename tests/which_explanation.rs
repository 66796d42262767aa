//! LibraGrad's ordering in miniature: the exact gradient against LibraGrad, for gradient × input and FullGrad+, on the embedded models
//! whose right explanation is known (arXiv 2411.16760, tables 4 to 6).
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

/// How well patches or words of highest score are those that are known to decide; text is a picture of one row.
fn found(map: &Attribution, known: &Tensor) -> Result<f64> {
    Ok(100.0 * average_precision(map, known)?)
}

/// A method's row: deletion of what it ranks, completeness, and precision.
fn row(name: &str, curves: &Deletion, missed: Option<f64>, precision: f64) -> Row {
    let row = Row::of(name).score("MIF accuracy", curves.mif_accuracy()).score("LIF accuracy", curves.lif_accuracy());
    let row = row.score("SRG", curves.srg(Measure::Probability)).score("AOPC", curves.aopc()).score("AP", precision);
    match missed {
        Some(missed) => row.score("completeness error", missed),
        None => row,
    }
}

/// Every object of some scenes, asked for by the logit of its shape: a question of yes or no each.
fn shapes() -> Result<Leaderboard> {
    const MODEL: &str = "pellucid/tiny-vit-shapes";
    let (vit, truth) = (Vit::load(MODEL)?, Scenes::of(MODEL)?);
    let objects: Vec<(&Scene, usize)> =
        truth.scenes.iter().flat_map(|scene| (0..scene.objects.len()).map(move |object| (scene, object))).collect();
    let score = |i: usize| {
        let (scene, object) = objects[i];
        let (x, known) = (vit.pixels(&scene.image()?)?, scene.mask(object)?);
        let target = Target::Logit(vit.label(&scene.objects[object].shape.to_string())?);
        let yes = |present: &Tensor| target.of(&vit.logits_with(&x, present)?);
        let rated = |name: &str, map: &Attribution, missed| {
            Ok(row(name, &deletion(yes, map, 0, &TENTHS)?, missed, found(map, &known)?))
        };
        let mut rows = Vec::new();
        for (rule, rules) in RULES {
            let vit = vit.under(rules);
            let batch = x.unsqueeze(0)?;
            let why = layer_gradients(|hook| target.of(&vit.logits_hooked(&batch, hook)?), vit.layers())?;
            for (method, tokens, missed) in methods(&why)? {
                let map = Attribution::of_patches(method, &vit.on_grid(&tokens)?)?;
                rows.push(rated(&format!("{method}, {rule}"), &map, Some(missed))?);
                if rows.len() == 1 {
                    rows.push(rated("random", &random_scores(&map, i as u64), None)?);
                }
            }
        }
        Ok(rows)
    };
    Leaderboard::over(objects.len(), score)?.lower_is_better(&["completeness error"])
}

/// Held-out sentences, asked for the class that the model gives; what decides are opinions, negators and intensifiers.
fn sentences() -> Result<Leaderboard> {
    const MODEL: &str = "pellucid/tiny-bert-sentiment";
    let (bert, truth) = (Bert::load(MODEL)?, Truth::of(MODEL)?);
    let score = |i: usize| {
        let sentence = &truth.sentences[i];
        let text = bert.read(&sentence.text)?;
        let (x, class) = (bert.embed(&text)?.unsqueeze(0)?, bert.label(&bert.predict(&text)?[0].0)?);
        let decides = |token: &Token| {
            let speaks = |kind| matches!(kind, RoleKind::Sentiment | RoleKind::Negator | RoleKind::Intensifier);
            !token.special
                && sentence.roles.iter().any(|r| speaks(r.kind) && r.start <= token.start && token.end <= r.end)
        };
        let known: Vec<u8> = text.tokens().iter().map(|token| u8::from(decides(token))).collect();
        let known = Tensor::new(known, &Device::Cpu)?.unsqueeze(0)?;
        let rated = |name: &str, why: &Attribution, missed| {
            let sizes = Attribution::of_patches(name, &why.tensor()?.abs()?.unsqueeze(0)?)?;
            let curves = deletion(|present| bert.logits_with(&text, present), why, class, &TENTHS)?;
            Ok(row(name, &curves, missed, found(&sizes, &known)?))
        };
        let mut rows = Vec::new();
        for (rule, rules) in RULES {
            let bert = bert.under(rules);
            let f = |hook: &mut dyn Hook| Target::Logit(class).of(&bert.logits_hooked(&text, &x, hook)?);
            for (method, tokens, missed) in methods(&layer_gradients(f, bert.layers())?)? {
                let why = Attribution::of_tokens(method, &tokens, &text)?;
                rows.push(rated(&format!("{method}, {rule}"), &why, Some(missed))?);
                if rows.len() == 1 {
                    rows.push(rated("random", &random_scores(&why, i as u64), None)?);
                }
            }
        }
        Ok(rows)
    };
    Leaderboard::over(truth.sentences.len().min(100), score)?.lower_is_better(&["completeness error"])
}

/// Prints the table, and the paired differences that LibraGrad makes.
fn shown(model: &str, board: &Leaderboard) -> Result<()> {
    println!("\n{model}\n\n{}", board.sorted_by("MIF accuracy")?.text());
    for method in ["gradient × input", "FullGrad+"] {
        for metric in board.metrics() {
            let lift = board.difference(&format!("{method}, LibraGrad"), &format!("{method}, exact"), metric)?;
            println!("{method}, {metric}: {:+.3} ({:+.3} to {:+.3})", lift.mean, lift.low, lift.high);
        }
    }
    Ok(())
}

#[test]
fn on_shapes() -> Result<()> {
    let board = shapes()?;
    shown("pellucid/tiny-vit-shapes", &board)
}

#[test]
fn on_sentences() -> Result<()> {
    let board = sentences()?;
    shown("pellucid/tiny-bert-sentiment", &board)
}
