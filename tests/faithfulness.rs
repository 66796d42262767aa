//! Measures of explanations: theorems about them, toys by hand, Captum's numbers, and real models.

#[path = "common/apart.rs"]
mod apart;

use std::cell::RefCell;
use std::path::Path;

use apart::largest_difference;
use pellucid::faithfulness::*;
use pellucid::prelude::*;
use serde::Deserialize;

const MEASURES: [Measure; 4] = [Measure::Logit, Measure::Probability, Measure::LogProbability, Measure::Accuracy];

fn scores(of: &[f64]) -> Result<Attribution> {
    gradient_x_input(|x| Ok(x.sum(1)?), &Tensor::new(of, &Device::Cpu)?)
}

/// «Yes» with the logit Σ w·present + b.
fn linear(weights: &[f64], bias: f64) -> impl Fn(&Tensor) -> Result<Tensor> + use<> {
    let weights = weights.to_vec();
    move |present| {
        let weights = Tensor::new(&weights[..], &Device::Cpu)?;
        Ok((present.broadcast_mul(&weights)?.sum(1)? + bias)?)
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[track_caller]
fn near(got: f64, wanted: f64, tolerance: f64) {
    assert!((got - wanted).abs() <= tolerance, "{got}, not {wanted}");
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}

#[test]
fn the_weights_of_a_linear_function_are_the_best_ranking() -> Result<()> {
    let weights = [2.0, -1.0, 0.5, 3.0, -0.25, 1.0, -2.0, 0.1, 0.7, -0.6];
    let (f, why) = (linear(&weights, -1.0), scores(&weights)?);
    let best = deletion(&f, &why, 0, &TENTHS)?;
    for seed in 0..50 {
        let other = deletion(&f, &random_scores(&why, seed), 0, &TENTHS)?;
        for measure in MEASURES.into_iter().take(3) {
            let no_higher = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).all(|(a, b)| *a <= b + 1e-12);
            assert!(no_higher(best.most_first(measure), other.most_first(measure)));
            assert!(no_higher(other.least_first(measure), best.least_first(measure)));
            assert!(other.srg(measure) < best.srg(measure));
        }
    }
    Ok(())
}

#[test]
fn scores_of_the_other_sign_swap_the_curves() -> Result<()> {
    let weights = [2.0, -1.0, 0.5, 3.0, -0.25, 1.0, -2.0];
    let (f, given) = (linear(&weights, -1.0), [0.3, 0.9, -0.2, 0.1, 0.5, -0.7, 0.2 + 1e-9]);
    let (there, back) = (scores(&given)?, scores(&given.map(|score| -score))?);
    let (there, back) = (deletion(&f, &there, 0, &TENTHS)?, deletion(&f, &back, 0, &TENTHS)?);
    for measure in MEASURES {
        assert_eq!(there.most_first(measure), back.least_first(measure));
        assert_eq!(there.least_first(measure), back.most_first(measure));
        assert_eq!(there.srg(measure), -back.srg(measure));
    }
    assert!(there.srg(Measure::Logit) != 0.0);
    Ok(())
}

#[test]
fn a_toy_by_hand() -> Result<()> {
    // One feature decides: z = 4·x₁ − 2.
    let (f, right) = (linear(&[0.0, 4.0, 0.0, 0.0], -2.0), scores(&[0.1, 9.0, -0.3, 0.2])?);
    let curves = deletion(&f, &right, 0, &[0.25, 0.5, 0.75])?;
    assert_eq!((curves.most_first(Measure::Logit), curves.least_first(Measure::Logit)), (vec![-2.0; 3], vec![2.0; 3]));
    near(curves.aopc(), sigmoid(2.0) - sigmoid(-2.0), 1e-12);
    near(curves.fall(Measure::LogProbability), 2.0, 1e-12); // ln σ(2) − ln σ(−2)
    near(curves.fall(Measure::Logit), 4.0, 1e-12);
    near(curves.srg(Measure::Probability), sigmoid(2.0) - sigmoid(-2.0), 1e-12);
    assert_eq!((curves.mif_accuracy(), curves.lif_accuracy()), (100.0, 100.0));
    // With the deciding feature in the third place, it goes at the last fraction, and least first at the first but one.
    let wrong = deletion(&f, &scores(&[3.0, 1.0, 0.0, 2.0])?, 0, &[0.25, 0.5, 0.75])?;
    assert_eq!(wrong.most_first(Measure::Logit), [2.0, 2.0, -2.0]);
    assert_eq!(wrong.least_first(Measure::Logit), [2.0, -2.0, -2.0]);
    near(wrong.mif_accuracy(), 100.0 / 3.0, 1e-12);
    // Three classes, of which the second is asked for.
    let classes = |present: &Tensor| Ok((present.clone() * 2.0)?);
    let three = deletion(classes, &scores(&[0.0, 1.0, 0.5])?, 1, &[0.34])?;
    let e = 2f64.exp();
    near(three.whole().by(Measure::Probability), 1.0 / 3.0, 1e-12);
    near(three.aopc(), 1.0 / 3.0 - 1.0 / (1.0 + 2.0 * e), 1e-12);
    assert_eq!(three.most_first(Measure::Accuracy), [1.0]); // the first of equals is the first class, before and after
    Ok(())
}

#[test]
fn fractions_are_rounded_down_and_their_own_rounding_does_not_count() -> Result<()> {
    for (features, fractions, gone) in [
        (10, &TENTHS[..], &[1, 2, 3, 4, 5, 6, 7, 8, 9][..]),
        (100, &[0.29, 0.07, 1.0, 0.0], &[29, 7, 100, 0]),
        (7, &[0.1, 0.5], &[0, 3]),
    ] {
        let many: Vec<f64> = (0..features).map(f64::from).collect();
        let curves = deletion(linear(&vec![1.0; many.len()], 0.0), &scores(&many)?, 0, fractions)?;
        let left: Vec<f64> = gone.iter().map(|gone| f64::from(features - gone)).collect();
        assert_eq!((curves.most_first(Measure::Logit), curves.least_first(Measure::Logit)), (left.clone(), left));
    }
    Ok(())
}

#[test]
fn chance_has_no_settings_of_another_method() -> Result<()> {
    let (x, f) = (Tensor::new(&[1.0f64, -2.0], &Device::Cpu)?, |x: &Tensor| Ok(x.sqr()?.sum(1)?));
    let why = integrated_gradients(f, &x, &x.zeros_like()?, &Steps::default())?;
    assert!(!why.settings.is_empty());
    assert!(random_scores(&why, 3).settings.is_empty());
    Ok(())
}

#[test]
fn chance_gains_nothing() -> Result<()> {
    let weights: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 20) - 9.5).collect();
    let (f, why) = (linear(&weights, 0.3), scores(&weights)?);
    let gain = |seed| Ok(deletion(&f, &random_scores(&why, seed), 0, &TENTHS)?.srg(Measure::Logit));
    let gains = (0..300).map(gain).collect::<Result<Vec<f64>>>()?;
    let estimate = bootstrap_mean(&gains, &Bootstrap::default())?;
    assert!(estimate.low < 0.0 && estimate.high > 0.0, "{estimate:?}");
    assert!(deletion(&f, &why, 0, &TENTHS)?.srg(Measure::Logit) > 10.0 * estimate.high);
    Ok(())
}

/// Insertion, done as it is told: from nothing, the most important features first.
#[test]
fn least_first_from_its_end_is_insertion() -> Result<()> {
    let weights = [2.0, -1.0, 0.5, 3.0, -0.25, 1.0, -2.0, 0.1, 0.7, -0.6];
    let (f, why) = (linear(&weights, -1.0), scores(&[0.3, 0.9, -0.2, 0.1, 0.5, -0.7, 0.2, 0.6, 0.4, -0.1])?);
    let kept = |count: usize| {
        let rank = |i: usize| why.scores.iter().filter(|score| **score > why.scores[i]).count();
        let present: Vec<f64> = (0..10).map(|i| f64::from(u8::from(rank(i) < count))).collect();
        Ok(f(&Tensor::new(present, &Device::Cpu)?.unsqueeze(0)?)?.to_vec1::<f64>()?[0])
    };
    let inserted = (1..10).map(kept).collect::<Result<Vec<f64>>>()?;
    let curves = deletion(&f, &why, 0, &TENTHS)?;
    let backwards: Vec<f64> = curves.least_first(Measure::Logit).into_iter().rev().collect();
    assert_eq!(inserted, backwards);
    near(curves.insertion_area(Measure::Logit), mean(&inserted), 1e-12);
    Ok(())
}

/// Equal scores have no order of their own, and examples do not share the luck of one draw: over many in which the same feature
/// decides, a constant map gains nothing.
#[test]
fn a_constant_map_gains_nothing() -> Result<()> {
    let level = scores(&[1.0; 40])?;
    for place in [0, 7, 39] {
        let mut weights = vec![0.0; 40];
        weights[place] = 1.0;
        let example = |i: u32| deletion(linear(&weights, f64::from(i)), &level, 0, &TENTHS);
        let gains = (0..200).map(|i| Ok(example(i)?.srg(Measure::Logit))).collect::<Result<Vec<f64>>>()?;
        let Estimate { low, high, .. } = bootstrap_mean(&gains, &Bootstrap { level: 0.999, ..Bootstrap::default() })?;
        assert!(low < 0.0 && high > 0.0 && high < 0.2, "deciding {place}: {low} to {high}");
        assert_eq!(example(3)?, example(3)?);
    }
    Ok(())
}

/// A method that rounds to −0.0 what speaks against a class, and to 0.0 what speaks for it, says nothing by that.
#[test]
fn zeros_of_both_signs_are_equal() -> Result<()> {
    let weights: Vec<f64> = (0..20).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let signed: Vec<f64> = weights.iter().map(|weight| 0.0 * weight).collect();
    assert!(signed[1].is_sign_negative());
    let curves = |of: &[f64]| deletion(linear(&weights, 0.5), &scores(of)?, 0, &TENTHS);
    assert_eq!(curves(&signed)?, curves(&[0.0; 20])?);
    Ok(())
}

/// Samek's areas over the curve and ERASER's count what is said with all features, too, and divide by one more.
#[test]
fn with_nothing_taken_away_areas_are_sameks_and_erasers() -> Result<()> {
    let (f, why) = (linear(&[2.0, -1.0, 0.5, 3.0, -0.25], -1.0), scores(&[0.3, 0.9, -0.2, 0.1, 0.5])?);
    let with_none = |fractions: &[f64]| [&[0.0], fractions].concat();
    let (ours, theirs) = (deletion(&f, &why, 0, &TENTHS)?, deletion(&f, &why, 0, &with_none(&TENTHS))?);
    assert!(ours.aopc().abs() > 0.01);
    near(theirs.aopc(), ours.aopc() * 9.0 / 10.0, 1e-12);
    let (ours, theirs) =
        (comprehensiveness(&f, &why, 0, &RATIONALES)?, comprehensiveness(&f, &why, 0, &with_none(&RATIONALES))?);
    near(theirs, ours * 5.0 / 6.0, 1e-12);
    Ok(())
}

#[test]
fn special_tokens_stay_and_do_not_count() -> Result<()> {
    let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    let text = bert.read("I absolutely loved the movie!")?;
    let positive = bert.label("positive")?;
    let target = Target::Logit(positive);
    let why = gradient_x_input(|x| target.of(&bert.logits(&text, x)?), &bert.embed(&text)?)?.over(&text)?;
    let asked = RefCell::new(Vec::new());
    let curves = deletion(
        |present| {
            asked.borrow_mut().extend(present.to_vec2::<f64>()?);
            bert.logits_with(&text, present)
        },
        &why,
        positive,
        &[0.5, 1.0],
    )?;
    let (rows, plain) = (asked.into_inner(), text.tokens().iter().filter(|token| !token.special).count());
    assert!(rows.iter().all(|row| text.tokens().iter().zip(row).all(|(token, there)| !token.special || *there == 1.0)));
    let gone: Vec<usize> = rows.iter().map(|row| row.iter().filter(|there| **there == 0.0).count()).collect();
    assert_eq!(gone, [0, plain / 2, plain, plain / 2, plain]);
    assert_eq!(curves.most()[1], curves.least()[1]); // nothing but special tokens, either way
    assert!(curves.whole().by(Measure::Probability) > 0.9 && curves.whole().stays);
    Ok(())
}

#[test]
fn a_rationale_is_needed_and_enough_if_it_has_what_decides() -> Result<()> {
    let (f, right) = (linear(&[0.0, 4.0, 0.0, 0.0], -2.0), scores(&[0.1, 9.0, -0.3, 0.2])?);
    let fall = sigmoid(2.0) - sigmoid(-2.0);
    near(comprehensiveness(&f, &right, 0, &RATIONALES)?, fall, 1e-12);
    near(sufficiency(&f, &right, 0, &RATIONALES)?, 0.0, 1e-12);
    // In the second place, it is in the rationale of half of four features only.
    let second = scores(&[9.5, 9.0, -0.3, 0.2])?;
    near(comprehensiveness(&f, &second, 0, &RATIONALES)?, fall / 5.0, 1e-12);
    near(sufficiency(&f, &second, 0, &RATIONALES)?, fall * 4.0 / 5.0, 1e-12);
    // 5 % of 40 is two; of 41, three.
    let rationale = |features: usize| {
        let mut weights = vec![0.0; features];
        weights[..3].fill(1.0);
        let falling: Vec<f64> = (0..features).map(|i| -(i as f64)).collect();
        sufficiency(linear(&weights, 0.0), &scores(&falling)?, 0, &[0.05])
    };
    near(rationale(40)?, sigmoid(3.0) - sigmoid(2.0), 1e-12);
    near(rationale(41)?, 0.0, 1e-12);
    Ok(())
}

#[test]
fn what_cannot_be_asked_is_refused() -> Result<()> {
    let (f, why) = (linear(&[1.0, 2.0], 0.0), scores(&[1.0, 2.0])?);
    let refused = |result: Result<Deletion>, why: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(deletion(&f, &why, 0, &[]), "one is needed");
    refused(deletion(&f, &why, 0, &[0.5, 1.5]), "from 0 to 1");
    refused(deletion(&f, &why, 0, &[f64::NAN]), "from 0 to 1");
    refused(deletion(&f, &why, 1, &TENTHS), "class 1 is out of range");
    refused(deletion(|present| Ok(present.sum_all()?), &why, 0, &TENTHS), "one number per row");
    refused(deletion(|present| Ok(present.affine(0.0, f64::NAN)?), &why, 0, &TENTHS), "not finite");
    refused(deletion(&f, &Attribution { scores: vec![1.0], ..why.clone() }, 0, &TENTHS), "one per feature");
    refused(deletion(&f, &Attribution { scores: vec![1.0, f64::NAN], ..why.clone() }, 0, &TENTHS), "not finite");
    refused(deletion(|present| Ok(f(present)?.unsqueeze(1)?), &why, 0, &TENTHS), "one class has no rival");
    assert!(completeness_error(&[why]).is_err() && completeness_error(&[]).is_err());
    let x = Tensor::zeros((3, 4, 4), DType::F64, &Device::Cpu)?;
    assert!(square_perturbations(&x, &x, 5, 3, 0).is_err() && square_perturbations(&x, &x, 2, 0, 0).is_err());
    assert!(ball_perturbations(&x, 0.0, 3, 0).is_err() && ball_perturbations(&x, 1e308, 3, 0).is_err());
    assert!(replace_absent(&x, &x, &Groups::rows(&x), &Tensor::new(&[[0.5f64, 1.0, 1.0]], &Device::Cpu)?).is_err());
    Ok(())
}

/// With one prompt or one class, a probability is always 1 and nothing ever falls.
#[test]
fn one_prompt_or_class_has_no_rival() -> Result<()> {
    let clip = Clip::load("pellucid/tiny-clip-shapes")?;
    let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
    let x = clip.pixels(&scene.image()?)?;
    let why = random_scores(
        &Attribution::of_patches("", &Tensor::zeros(&clip.patches().grid()[..], DType::F64, &Device::Cpu)?)?,
        0,
    );
    let of = |prompts: &[&str]| {
        let prompts = clip.prompts(prompts)?;
        deletion(|present| clip.logits_with(&prompts, &x, present), &why, 0, &TENTHS)
    };
    let refused = of(&["a red star"]).unwrap_err().to_string();
    assert!(refused.contains("one class has no rival") && refused.contains("several classes or prompts"), "{refused}");
    assert!(of(&["a red star", "a blue circle"])?.whole().by(Measure::Probability) < 1.0);
    let (f, why) = (linear(&[1.0, 2.0], 0.0), scores(&[1.0, 2.0])?);
    let column = |present: &Tensor| Ok(f(present)?.unsqueeze(1)?);
    for refused in [comprehensiveness(column, &why, 0, &RATIONALES), sufficiency(column, &why, 0, &RATIONALES)] {
        assert!(refused.unwrap_err().to_string().contains("no rival"));
    }
    Ok(())
}

/// The fields of an explanation are open to all, so a score may be what no method gives.
#[test]
fn scores_that_are_no_numbers_are_refused() -> Result<()> {
    let x = Tensor::new(&[1.0f64, -2.0], &Device::Cpu)?;
    let moves = ball_perturbations(&x, 0.1, 4, 0)?;
    let f = |x: &Tensor| Ok(x.sum(1)?);
    let broken = |x: &Tensor, score: f64| Ok(Attribution { scores: vec![1.0, score], ..gradient(f, x)? });
    let refused = |result: Result<f64>| assert!(result.unwrap_err().to_string().contains("not finite"));
    for score in [f64::NAN, f64::INFINITY] {
        refused(infidelity(f, &x, &broken(&x, score)?, &moves));
        refused(infidelity_rescaled(f, &x, &broken(&x, score)?, &moves));
        refused(max_sensitivity(|x| broken(x, score), &x, &moves));
        let only_elsewhere = |there: &Tensor| {
            let moved = there.to_vec1::<f64>()? != x.to_vec1::<f64>()?;
            broken(there, if moved { score } else { 1.0 })
        };
        refused(max_sensitivity(only_elsewhere, &x, &moves));
        refused(comprehensiveness(linear(&[1.0, 2.0], 0.0), &broken(&x, score)?, 0, &RATIONALES));
    }
    let (nothing, why) = (Tensor::zeros(0, DType::F64, &Device::Cpu)?, gradient(f, &x)?);
    let empty = Attribution { scores: vec![], ..why };
    let refused = infidelity(f, &nothing, &empty, &Tensor::zeros((3, 0), DType::F64, &Device::Cpu)?);
    assert!(refused.unwrap_err().to_string().contains("no elements"));
    Ok(())
}

#[test]
fn intervals_hang_on_the_seed_and_not_on_the_order() -> Result<()> {
    let values: Vec<f64> = (0..200).map(|i| f64::from(i * 73 % 200) / 100.0).collect();
    let backwards: Vec<f64> = values.iter().rev().copied().collect();
    let (one, other) = (Bootstrap::default(), Bootstrap { seed: 1, ..Bootstrap::default() });
    assert_eq!(bootstrap_mean(&values, &one)?, bootstrap_mean(&values, &one)?);
    assert_eq!(bootstrap_mean(&values, &one)?, bootstrap_mean(&backwards, &one)?);
    let (a, b) = (bootstrap_mean(&values, &one)?, bootstrap_mean(&values, &other)?);
    assert!(a != b && (a.low - b.low).abs() < 0.01);
    // Of 200 numbers spread evenly over 2, σ/√n is 2/√12/√200, and 95 % lie within 1.96 of it.
    near((a.high - a.low) / 2.0, 1.96 * 2.0 / 12f64.sqrt() / 200f64.sqrt(), 0.006);
    near(a.mean, 0.995, 1e-12);
    for bootstrap in [Bootstrap { draws: 19, ..one }, Bootstrap { level: 1.0, ..one }] {
        assert!(bootstrap_mean(&values, &bootstrap).is_err());
    }
    assert!(bootstrap_mean(&[], &one).is_err() && bootstrap_mean(&[f64::INFINITY], &one).is_err());
    Ok(())
}

fn board() -> Result<Leaderboard> {
    let example = |i: usize| {
        let luck = (i * 37 % 10) as f64;
        let careful = Row::of("careful").score("gain", 20.0 + luck).score("error", 1.0 + 0.1 * luck);
        let hasty = Row::of("hasty").score("gain", 12.0 + luck).score("error", 3.0);
        Ok(vec![hasty, careful, Row::of("<blind>").score("gain", luck)])
    };
    Leaderboard::over(30, example)?.lower_is_better(&["error"])
}

#[test]
fn a_leaderboard_sorts_compares_and_agrees() -> Result<()> {
    let board = board()?;
    assert_eq!(board.methods(), ["hasty", "careful", "<blind>"]);
    assert_eq!(board.sorted_by("gain")?.methods(), ["careful", "hasty", "<blind>"]);
    assert_eq!(board.sorted_by("error")?.methods(), ["careful", "hasty", "<blind>"]);
    assert_eq!(board.sorted_by("error")?.values("hasty", "gain")?, board.values("hasty", "gain")?);
    assert_eq!(board.agreement("gain", "error")?, 1.0);
    let paired = board.difference("careful", "hasty", "gain")?;
    assert_eq!((paired.low, paired.mean, paired.high, paired.examples), (8.0, 8.0, 8.0, 30));
    let alone = board.estimate("careful", "gain")?.unwrap();
    assert!(alone.low < 24.5 && alone.high > 24.5 && alone.high - alone.low > 1.0);
    assert_eq!(board.estimate("<blind>", "error")?, None);
    for unknown in [board.sorted_by("gains").err(), board.estimate("me", "gain").err()] {
        assert!(unknown.unwrap().to_string().contains("there are "));
    }
    let twice = Leaderboard::new(vec![vec![Row::of("a").score("b", 1.0), Row::of("a").score("b", 2.0)]]);
    assert!(twice.unwrap_err().to_string().contains("twice"));
    let apart = Leaderboard::new(vec![vec![Row::of("a").score("b", 1.0), Row::of("a").score("c", 2.0)]]);
    assert!(apart.unwrap_err().to_string().contains("`a` came twice in example 0"));
    let same = Leaderboard::new(vec![vec![Row::of("a").score("b", 1.0).score("b", 2.0)]]);
    assert!(same.unwrap_err().to_string().contains("twice"));
    assert!(Leaderboard::new(vec![]).is_err());
    assert!(Leaderboard::new(vec![vec![Row::of("a").score("b", f64::NAN)]]).is_err());
    assert!(board.with_bootstrap(Bootstrap { draws: 3, ..Bootstrap::default() }).is_err());
    Ok(())
}

#[test]
fn a_leaderboard_is_a_table_to_read_and_to_paste() -> Result<()> {
    let board = board()?.sorted_by("gain")?;
    let (text, html) = (board.text(), board.html());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("| method  | gain\u{a0}↑") && lines[0].contains("| error\u{a0}↓"), "{text}");
    assert!(lines[2].starts_with("| careful | **24.5** (") && lines[2].contains("**1.45**"), "{text}");
    assert!(
        lines[4].starts_with("| <blind> | 4.5 (") && lines[4].trim_end().ends_with("–                       |"),
        "{text}"
    );
    let widths: Vec<usize> = lines[..5].iter().map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    assert!(text.contains("mean over 30 examples, and") && text.contains("95 %") && !text.contains("n = "));
    assert!(
        html.contains("<b title=\"the best\">24.5</b>") && html.contains("&lt;blind&gt;") && !html.contains("<script")
    );
    assert!(board.json().unwrap().contains("\"hasty\""));
    Ok(())
}

/// A method that lacks a metric in some examples has another n there; a name may hold what Markdown's tables are made of.
#[test]
fn a_leaderboard_says_over_how_many_and_stays_a_table() -> Result<()> {
    let example = |i: usize| {
        let often = Row::of("of|ten\ntimes").score("a|b", i as f64);
        Ok(vec![if i < 4 { often.score("rare", 1.0) } else { often }])
    };
    let (text, html) = {
        let board = Leaderboard::over(10, example)?;
        (board.text(), board.html())
    };
    for shown in [&text, &html] {
        assert_eq!(shown.matches("n = 4").count(), 1, "{shown}");
        assert!(!shown.contains("n = 10") && shown.contains("10 examples") && shown.contains("or over n"), "{shown}");
    }
    let table: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(table.len(), 3, "{text}");
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(table.iter().all(|line| bars(line) == 4), "{text}");
    assert!(text.contains("of\\|ten times") && text.contains("a\\|b"), "{text}");
    Ok(())
}

#[test]
fn curves_have_bands() -> Result<()> {
    let weights = [2.0, -1.0, 0.5, 3.0, -0.25, 1.0, -2.0, 0.1, 0.7, -0.6];
    let why = scores(&weights)?;
    let some = |bias| deletion(linear(&weights, f64::from(bias)), &why, 0, &[0.2, 0.4]);
    let some = (-5..5).map(some).collect::<Result<Vec<_>>>()?;
    let chart = Chart::deletion(&[("weights", some.clone())], Measure::Logit, &Bootstrap::default())?;
    let text = chart.text();
    assert!(text.contains("weights, most first  0: 2.95 (") && text.contains("0.4: −3.75 ("), "{text}");
    assert_eq!(chart.svg().unwrap().matches("<polygon").count(), 2);
    assert_eq!(chart.plotly().unwrap().matches("toself").count(), 2);
    let odd = deletion(linear(&weights, 0.0), &why, 0, &[0.5])?;
    assert!(
        Chart::deletion(&[("weights", [some, vec![odd]].concat())], Measure::Logit, &Bootstrap::default()).is_err()
    );
    assert!(Chart::deletion(&[("weights", vec![])], Measure::Logit, &Bootstrap::default()).is_err());
    let ragged = |correlations| Randomisation { steps: vec!["head".into(), "everything".into()], correlations };
    for short in [vec![vec![0.5, 0.4], vec![0.1]], vec![vec![0.5], vec![0.1, 0.4]], vec![vec![0.5]], vec![]] {
        assert!(ragged(short).chart(&Bootstrap::default()).is_err());
    }
    assert!(ragged(vec![vec![0.5, 0.4], vec![0.1, 0.0]]).chart(&Bootstrap::default()).is_ok());
    let curve = || Chart::curves("", "", "", vec![Series { name: "a".into(), points: vec![(0.0, 1.0)] }]);
    assert!(curve().between(vec![]).is_err() && curve().between(vec![vec![(2.0, 1.0)]]).is_err());
    Ok(())
}

/// What was measured can be put away and read again; what no measurement gives is not read.
#[test]
fn results_are_written_and_read_without_loss() -> Result<()> {
    let (f, why) = (linear(&[2.0, -1.0, 0.5], -1.0), scores(&[0.3, 0.9, -0.2])?);
    let curves = deletion(f, &why, 0, &TENTHS)?;
    let json = serde_json::to_string(&curves)?;
    assert_eq!(serde_json::from_str::<Deletion>(&json)?, curves);
    let mut short: serde_json::Value = serde_json::from_str(&json)?;
    short["most"].as_array_mut().unwrap().pop();
    assert!(serde_json::from_value::<Deletion>(short).unwrap_err().to_string().contains("each of 9 fractions"));
    let none = serde_json::json!({ "fractions": [], "whole": curves.whole(), "most": [], "least": [] });
    assert!(serde_json::from_value::<Deletion>(none).unwrap_err().to_string().contains("one is needed"));

    let board = board()?.sorted_by("gain")?.with_bootstrap(Bootstrap { draws: 50, ..Bootstrap::default() })?;
    let json = board.json().unwrap();
    assert_eq!(serde_json::from_str::<Leaderboard>(&json)?, board);
    let change = |part: &str, value: serde_json::Value| {
        let mut board: serde_json::Value = serde_json::from_str(&json)?;
        board[part] = value;
        Ok(serde_json::from_value::<Leaderboard>(board).unwrap_err().to_string())
    };
    for (part, value, why) in [
        ("methods", serde_json::json!(["hasty", "careful"]), "methods"),
        ("methods", serde_json::json!(["hasty", "careful", "hasty"]), "twice"),
        ("values", serde_json::json!([[[1.0], [2.0]], [[1.0], [2.0]], [[1.0], []]]), "examples"),
        ("values", serde_json::json!([]), "methods"),
        ("lower", serde_json::json!(["luck"]), "no metric `luck`"),
        ("bootstrap", serde_json::json!({ "draws": 1, "level": 0.9, "seed": 0 }), "at least 20 draws"),
    ] {
        let refused: Result<String> = change(part, value);
        assert!(refused.as_ref().is_ok_and(|refused| refused.contains(why)), "{refused:?}");
    }

    let alike = Randomisation { steps: vec!["head".into()], correlations: vec![vec![0.1, 1.0 / 3.0]] };
    assert_eq!(serde_json::from_str::<Randomisation>(&serde_json::to_string(&alike)?)?, alike);
    Ok(())
}

#[derive(Deserialize)]
struct Case {
    x: Vec<f64>,
    perturbations: Vec<Vec<f64>>,
    methods: std::collections::BTreeMap<String, Answer>,
}

#[derive(Deserialize)]
struct Answer {
    scores: Vec<f64>,
    infidelity: f64,
    infidelity_rescaled: f64,
    max_sensitivity: f64,
}

/// Σ tanh(x)·w + x₀·x₁·x₂, with w = 1, −2, 3, …
fn captums(x: &Tensor) -> Result<Tensor> {
    let w: Vec<f64> = (0..x.dim(1)?).map(|i| (i as f64 + 1.0) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let column = |i| x.narrow(1, i, 1)?.squeeze(1);
    let product = ((column(0)? * column(1)?)? * column(2)?)?;
    Ok((x.tanh()?.broadcast_mul(&Tensor::new(w, &Device::Cpu)?)?.sum(1)? + product)?)
}

fn by(method: &str, x: &Tensor) -> Result<Attribution> {
    match method {
        "gradient" => gradient(captums, x),
        "gradient_x_input" => gradient_x_input(captums, x),
        _ => integrated_gradients(captums, x, &x.zeros_like()?, &Steps::gauss_legendre(50)),
    }
}

#[test]
fn infidelity_and_sensitivity_are_captums() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faithfulness/captum.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(file)?)?;
    let mut checked = 0;
    for Case { x, perturbations, methods } in cases {
        let moves = Tensor::new(perturbations, &Device::Cpu)?;
        let x = Tensor::new(x, &Device::Cpu)?;
        for (method, theirs) in methods {
            let why = by(&method, &x)?;
            // Captum's nodes of Gauss–Legendre are in single precision.
            why.scores.iter().zip(&theirs.scores).for_each(|(ours, theirs)| near(*ours, *theirs, 1e-7));
            let why = Attribution { scores: theirs.scores, ..why };
            near(infidelity(captums, &x, &why, &moves)?, theirs.infidelity, 1e-12 * theirs.infidelity.max(1.0));
            near(infidelity_rescaled(captums, &x, &why, &moves)?, theirs.infidelity_rescaled, 1e-12);
            near(max_sensitivity(|x| by(&method, x), &x, &moves)?, theirs.max_sensitivity, 1e-7);
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
    Ok(())
}

#[test]
fn the_gradient_of_a_linear_function_is_faithful_to_everything() -> Result<()> {
    let x = pellucid::baseline::noise(&Tensor::zeros((2, 6, 5), DType::F64, &Device::Cpu)?, 0.5, 1.0, 3)?;
    let weights = pellucid::baseline::noise(&x, 0.0, 1.0, 4)?;
    let f = |x: &Tensor| Ok(x.broadcast_mul(&weights)?.sum((1, 2, 3))?);
    let grey = pellucid::baseline::flat(&x, 0.5)?;
    let why = gradient(f, &x)?;
    for moves in [
        noise_perturbations(&x, &Noise::new(2.0, 40, 0))?,
        ball_perturbations(&x, 3.0, 40, 0)?,
        square_perturbations(&x, &grey, 3, 40, 0)?,
    ] {
        assert!(infidelity(f, &x, &why, &moves)? < 1e-20);
        assert!(infidelity(f, &x, &random_scores(&why, 0), &moves)? > 1e-2);
    }
    assert_eq!(max_sensitivity(|x| gradient(f, x), &x, &ball_perturbations(&x, 3.0, 10, 0)?)?, 0.0);
    Ok(())
}

/// x − I is x with a square of the baseline in it, and squares lie in many places.
#[test]
fn squares_are_taken_from_the_baseline() -> Result<()> {
    let x = pellucid::baseline::noise(&Tensor::zeros((2, 6, 5), DType::F64, &Device::Cpu)?, 0.5, 1.0, 3)?;
    let grey = pellucid::baseline::flat(&x, 0.25)?;
    let moves = square_perturbations(&x, &grey, 3, 60, 0)?;
    let mut places = std::collections::BTreeSet::new();
    for i in 0..60 {
        let (rest, all) = ((&x - moves.get(i)?)?.flatten_all()?.to_vec1::<f64>()?, x.flatten_all()?.to_vec1::<f64>()?);
        let gone: Vec<usize> = (0..rest.len()).filter(|&i| (rest[i] - 0.25).abs() < 1e-12).collect();
        assert!(gone.len() == 2 * 9 && (0..rest.len()).all(|i| gone.contains(&i) || rest[i] == all[i]));
        places.insert(gone[0]);
    }
    assert_eq!(places.len(), 4 * 3); // a square of 3 has 4 rows to begin in, and 3 columns
    Ok(())
}

/// If what is taken off is all of x − x′, the infidelity of Integrated Gradients per unit is the square of its completeness gap.
#[test]
fn infidelity_to_the_whole_is_the_completeness_gap() -> Result<()> {
    let (x, baseline) =
        (Tensor::new(&[0.7f64, -1.2, 0.4], &Device::Cpu)?, Tensor::new(&[0.1f64, 0.3, 0.4], &Device::Cpu)?);
    let why = integrated_gradients(captums, &x, &baseline, &Steps::new(Quadrature::Left, 5))?;
    let gap = why.completeness.unwrap().gap();
    let whole = (&x - &baseline)?;
    let units = whole.to_vec1::<f64>()?;
    let quotient = |(score, unit): (&f64, f64)| if unit == 0.0 { 0.0 } else { score / unit };
    let per_unit = why.scores.iter().zip(units).map(quotient).collect();
    let per_unit = Attribution { scores: per_unit, ..why.clone() };
    assert!(gap.abs() > 1e-2);
    near(infidelity(captums, &x, &per_unit, &whole.unsqueeze(0)?)?, gap * gap, 1e-12);
    near(completeness_error(&[why])?, gap.abs(), 1e-12);
    Ok(())
}

/// Shuts everybody's eyes to some tokens: their columns of every attention pattern are 0, and rows sum to one without them.
struct Blind {
    layers: usize,
    seen: Vec<f64>,
}

impl Hook for Blind {
    fn sites(&self) -> Vec<Site> {
        (0..self.layers).map(Site::Pattern).collect()
    }

    fn at(&mut self, _: Site, x: Tensor) -> Result<Tensor> {
        let seen = x.broadcast_mul(&Tensor::new(&self.seen[..], x.device())?.to_dtype(x.dtype())?)?;
        Ok(seen.broadcast_div(&seen.sum_keepdim(3)?)?)
    }
}

fn folder(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vision").join(name).display().to_string()
}

/// Masks over t parts: all, all but every third, the first half, one alone; t at least 4.
fn masks(t: usize) -> Result<Tensor> {
    let rows = |row: usize| {
        let there = move |i: usize| [true, !i.is_multiple_of(3), i < t / 2, i == 2][row];
        (0..t).map(move |i| f64::from(u8::from(there(i))))
    };
    Ok(Tensor::from_iter((0..4).flat_map(rows), &Device::Cpu)?.reshape((4, t))?)
}

fn pixels(model: &impl Vision) -> Result<Tensor> {
    let [height, width] = model.patches().size();
    pellucid::baseline::noise(&Tensor::zeros((3, height, width), DType::F64, &Device::Cpu)?, 0.5, 0.2, 7)
}

#[test]
fn a_dropped_patch_is_one_that_nobody_attends_to() -> Result<()> {
    for name in
        ["pellucid/tiny-vit-shapes".to_string(), folder("deit"), folder("timm_distilled"), folder("timm_registers")]
    {
        let vit = Vit::load_with(&name, &Load::f64())?;
        let (x, (ahead, count)) = (pixels(&vit)?, (vit.patches().ahead(), vit.patches().count()));
        let masks = masks(count)?;
        let dropped = vit.logits_with(&x, &masks)?;
        for (i, row) in masks.to_vec2::<f64>()?.into_iter().enumerate() {
            let mut blind = Blind { layers: vit.layers(), seen: [vec![1.0; ahead], row].concat() };
            let unseen = vit.logits_hooked(&x.unsqueeze(0)?, &mut blind)?;
            assert!(largest_difference(&dropped.get(i)?, &unseen.get(0)?)? < 1e-11, "{name}, mask {i}");
        }
        assert!(largest_difference(&dropped.get(0)?, &vit.logits(&x.unsqueeze(0)?)?.get(0)?)? < 1e-11);
        assert!(largest_difference(&dropped.get(0)?, &dropped.get(3)?)? > 1e-3);
        assert!(vit.logits_with(&x, &masks.zeros_like()?).is_ok());
        assert!(vit.logits_with(&x, &masks.narrow(1, 1, count - 1)?).is_err());
    }
    Ok(())
}

#[test]
fn a_mean_is_over_the_patches_that_are_there() -> Result<()> {
    for name in ["timm_siglip", "timm_registers_mean"] {
        let vit = Vit::load_with(&folder(name), &Load::f64())?;
        let (x, ahead) = (pixels(&vit)?, vit.patches().ahead());
        let masks = masks(vit.patches().count())?;
        let dropped = vit.logits_with(&x, &masks)?;
        assert!(largest_difference(&dropped.get(0)?, &vit.logits(&x.unsqueeze(0)?)?.get(0)?)? < 1e-11, "{name}");
        // With one patch left, the mean is that patch: a model blind to the others leaves the same there.
        let mut blind = Blind { layers: vit.layers(), seen: [vec![1.0; ahead], masks.get(3)?.to_vec1()?].concat() };
        let left = vit.hidden_hooked(&x.unsqueeze(0)?, &mut blind)?.narrow(1, ahead + 2, 1)?.contiguous()?;
        let alone = vit.hidden(&x.unsqueeze(0)?)?.narrow(1, ahead + 2, 1)?;
        assert!(largest_difference(&left, &alone)? > 1e-6);
        let everywhere = left.broadcast_as((1, ahead + vit.patches().count(), left.dim(2)?))?.contiguous()?;
        let mut patch = Edit::patch(Site::ResidPost(vit.layers() - 1), everywhere);
        assert!(
            largest_difference(&dropped.get(3)?, &vit.logits_hooked(&x.unsqueeze(0)?, &mut patch)?.get(0)?)? < 1e-11,
            "{name}"
        );
    }
    let none = Vit::load_with(&folder("timm_siglip"), &Load::f64())?;
    let gone = Tensor::zeros((1, none.patches().count()), DType::F64, &Device::Cpu)?;
    assert!(none.logits_with(&pixels(&none)?, &gone).unwrap_err().to_string().contains("at least one must be present"));
    Ok(())
}

#[test]
fn clip_and_mixer_do_without_patches_too() -> Result<()> {
    let clip = Clip::load_with("pellucid/tiny-clip-shapes", &Load::f64())?;
    let (prompts, x) = (clip.prompts(&["a red star", "a blue circle"])?, pixels(&clip)?);
    let masks_of_clip = masks(clip.patches().count())?;
    let dropped = clip.logits_with(&prompts, &x, &masks_of_clip)?;
    for (i, row) in masks_of_clip.to_vec2::<f64>()?.into_iter().enumerate() {
        let mut blind = Blind { layers: clip.layers(), seen: [vec![1.0], row].concat() };
        let unseen = clip.logits_hooked(&prompts, &x.unsqueeze(0)?, &mut blind)?;
        assert!(largest_difference(&dropped.get(i)?, &unseen.get(0)?)? < 1e-10, "mask {i}");
    }
    let mixer = Mixer::load_with(&folder("timm_gmixer"), &Load::f64())?;
    let (x, masks) = (pixels(&mixer)?, masks(mixer.patches().count())?);
    let zeroed = mixer.logits_with(&x, &masks)?;
    for (i, row) in masks.to_vec2::<f64>()?.into_iter().enumerate() {
        let row = Tensor::new(row, &Device::Cpu)?.reshape((1, (), 1))?;
        let mut zero = Edit::new(Site::ResidPre(0), move |x| Ok(x.broadcast_mul(&row)?));
        assert!(
            largest_difference(&zeroed.get(i)?, &mixer.logits_hooked(&x.unsqueeze(0)?, &mut zero)?.get(0)?)? < 1e-11,
            "mask {i}"
        );
    }
    assert!(largest_difference(&zeroed.get(0)?, &zeroed.get(3)?)? > 1e-3);
    Ok(())
}

#[test]
fn a_dropped_word_is_one_that_nobody_attends_to() -> Result<()> {
    let bert = Bert::load_with("pellucid/tiny-bert-sentiment", &Load::f64())?;
    let text = bert.read("I absolutely loved the movie, but the ending was awful.")?;
    let (x, masks) = (bert.embed(&text)?.unsqueeze(0)?, masks(text.len())?);
    let dropped = bert.logits_with(&text, &masks)?;
    for (i, row) in masks.to_vec2::<f64>()?.into_iter().enumerate() {
        let special = text.tokens().iter().map(|token| f64::from(u8::from(token.special)));
        let seen = row.iter().zip(special).map(|(there, special)| there.max(special)).collect();
        let unseen = bert.logits_hooked(&text, &x, &mut Blind { layers: bert.layers(), seen })?;
        assert!(largest_difference(&dropped.get(i)?, &unseen.get(0)?)? < 1e-11, "mask {i}");
    }
    let padded = bert.pad(text.clone(), text.len() + 5)?;
    let there = Tensor::cat(&[&masks, &masks.narrow(1, 0, 5)?.ones_like()?], 1)?;
    assert!(largest_difference(&bert.logits_with(&padded, &there)?, &dropped)? < 1e-11);
    Ok(())
}

#[test]
fn what_is_absent_is_the_baselines() -> Result<()> {
    let x = Tensor::arange(0f64, 12.0, &Device::Cpu)?.reshape((1, 3, 4))?;
    let halves = Groups::windows(&x, &[1, 3, 2], &[1, 3, 2])?;
    let present = Tensor::new(&[[1.0f64, 0.0], [0.0, 0.0]], &Device::Cpu)?;
    let mixed = replace_absent(&x, &(x.zeros_like()? - 1.0)?, &halves, &present)?;
    let rows = mixed.squeeze(1)?.to_vec3::<f64>()?;
    assert_eq!(rows[0], [[0.0, 1.0, -1.0, -1.0], [4.0, 5.0, -1.0, -1.0], [8.0, 9.0, -1.0, -1.0]]);
    assert_eq!(rows[1], [[-1.0; 4]; 3]);
    Ok(())
}

type Seen = Box<dyn Fn(&Load, &mut Record) -> Result<()>>;

/// Models of every kind of names, and how to look into them.
fn lookers() -> Result<Vec<(String, usize, Seen)>> {
    let mut all: Vec<(String, usize, Seen)> = Vec::new();
    let (bert, text) = ("pellucid/tiny-bert-sentiment", "I absolutely loved the movie!");
    all.push((
        bert.into(),
        Bert::load(bert)?.layers(),
        Box::new(move |load, record| {
            let bert = Bert::load_with(bert, load)?;
            let text = bert.read(text)?;
            bert.hidden_hooked(&text, &bert.embed(&text)?.unsqueeze(0)?, record).map(|_| ())
        }),
    ));
    for name in ["pellucid/tiny-llama-facts", "pellucid/tiny-qwen-facts"] {
        all.push((
            name.into(),
            CausalLm::load(name)?.layers(),
            Box::new(move |load, record| {
                let llm = CausalLm::load_with(name, load)?;
                let x = llm.embed(&llm.read("Michael works in Austin")?)?.unsqueeze(0)?;
                llm.logits_hooked(&x, record).map(|_| ())
            }),
        ));
    }
    let folders =
        ["deit", "timm_clip", "timm_deit3", "timm_distilled", "timm_siglip", "timm_registers", "timm_registers_mean"];
    for name in std::iter::once("pellucid/tiny-vit-shapes".into()).chain(folders.map(folder)) {
        all.push((
            name.clone(),
            Vit::load(&name)?.layers(),
            Box::new(move |load, record| {
                let vit = Vit::load_with(&name, load)?;
                vit.hidden_hooked(&pixels(&vit)?.to_dtype(DType::F32)?.unsqueeze(0)?, record).map(|_| ())
            }),
        ));
    }
    for name in ["pellucid/tiny-clip-shapes".into(), folder("open_clip")] {
        all.push((
            name.clone(),
            Clip::load(&name)?.layers(),
            Box::new(move |load, record| {
                let clip = Clip::load_with(&name, load)?;
                clip.image_features_hooked(&pixels(&clip)?.to_dtype(DType::F32)?.unsqueeze(0)?, record).map(|_| ())
            }),
        ));
    }
    let gmixer = folder("timm_gmixer");
    all.push((
        gmixer.clone(),
        Mixer::load(&gmixer)?.layers(),
        Box::new(move |load, record| {
            let mixer = Mixer::load_with(&gmixer, load)?;
            mixer.hidden_hooked(&pixels(&mixer)?.to_dtype(DType::F32)?.unsqueeze(0)?, record).map(|_| ())
        }),
    ));
    Ok(all)
}

/// Shuffled from block l on, a model is the trained one up to there, and another from there.
#[test]
fn weights_are_shuffled_from_the_head_down_to_a_block() -> Result<()> {
    for (name, layers, look) in lookers()? {
        let seen = |load: &Load| {
            let sites: Vec<Site> = (0..layers).flat_map(|l| [Site::ResidPre(l), Site::ResidPost(l)]).collect();
            let mut record = Record::new(&sites);
            look(load, &mut record)?;
            sites.iter().map(|site| Ok(record.get(*site)?.to_dtype(DType::F64)?)).collect::<Result<Vec<_>>>()
        };
        let trained = seen(&Load::default())?;
        for from in 0..=layers {
            let shuffled = seen(&Load::shuffled_from(from, 0))?;
            for (i, (a, b)) in trained.iter().zip(&shuffled).enumerate() {
                let same = largest_difference(a, b)? == 0.0;
                assert_eq!(
                    same,
                    i <= 2 * from,
                    "{name} shuffled from {from}: {} of block {}",
                    ["before", "after"][i % 2],
                    i / 2
                );
            }
        }
        let everything = seen(&Load::shuffled(0))?;
        assert!(largest_difference(&trained[0], &everything[0])? > 0.0, "{name}");
    }
    for (name, layers, look) in lookers()? {
        let beyond = look(&Load::shuffled_from(layers + 1, 0), &mut Record::new(&[])).unwrap_err().to_string();
        assert!(beyond.contains(&format!("there are {layers},")) && beyond.contains("head alone"), "{name}: {beyond}");
    }
    let refused = Vlm::load_with("pellucid/tiny-vlm-shapes", &Load::shuffled_from(1, 0)).map(|_| ());
    assert!(refused.unwrap_err().to_string().contains("shuffled whole"));
    Ok(())
}

/// CLIP's towers are of different depths, so blocks are counted in the picture's, and the text's stays as it was trained.
#[test]
fn clip_is_shuffled_down_its_image_tower() -> Result<()> {
    const MODEL: &str = "pellucid/tiny-clip-shapes";
    let trained = Clip::load(MODEL)?;
    assert!(trained.layers() != trained.text_layers());
    let x = pixels(&trained)?.to_dtype(DType::F32)?.unsqueeze(0)?;
    let features = |clip: &Clip| {
        let both = [clip.image_features(&x)?, clip.prompts(&["a red star"])?.features().clone()];
        both.iter().map(|features| Ok(features.to_dtype(DType::F64)?)).collect::<Result<Vec<_>>>()
    };
    let apart = |load: &Load| {
        let (before, after) = (features(&trained)?, features(&Clip::load_with(MODEL, load)?)?);
        Ok::<_, pellucid::Error>((
            largest_difference(&before[0], &after[0])?,
            largest_difference(&before[1], &after[1])?,
        ))
    };
    for from in 0..=trained.layers() {
        let (seen, read) = apart(&Load::shuffled_from(from, 0))?;
        assert!(seen > 1e-3 && read == 0.0, "from {from}: {seen}, {read}");
    }
    let (seen, read) = apart(&Load::shuffled(0))?;
    assert!(seen > 1e-3 && read > 1e-3);
    Ok(())
}

#[test]
fn explanations_of_the_model_fade_and_those_of_attention_do_not_see_the_head() -> Result<()> {
    const MODEL: &str = "pellucid/tiny-vit-shapes";
    let scenes: Vec<Scene> = Scenes::of(MODEL)?.scenes.into_iter().take(6).collect();
    let explain = |load: &Load, method: &dyn Fn(&Vit, &Scene) -> Result<Attribution>| {
        let vit = Vit::load_with(MODEL, load)?;
        scenes.iter().map(|scene| method(&vit, scene)).collect::<Result<Vec<_>>>()
    };
    let rolled = |vit: &Vit, scene: &Scene| {
        let map = rollout_row(&vit.attention(&scene.image()?)?, &vit.readout()?, &Rollout::default())?;
        Attribution::of_patches("rollout", &vit.on_grid(&map.squeeze(0)?)?)
    };
    let by_gradient = |vit: &Vit, scene: &Scene| {
        let class = Target::Logit(vit.label(&scene.objects[0].shape.to_string())?);
        let x = vit.pixels(&scene.image()?)?;
        gradient_x_input(|x| class.of(&vit.logits(x)?), &x)?.over_pixels()?.patches(vit.patches().side())
    };
    let layers = Vit::load(MODEL)?.layers();
    let attention = cascading_randomisation(|load| explain(load, &rolled), layers, 0)?;
    let gradients = cascading_randomisation(|load| explain(load, &by_gradient), layers, 0)?;
    println!("rollout: {:.2?}", attention.correlations.iter().map(|c| mean(c)).collect::<Vec<_>>());
    println!("gradient × input: {:.2?}", gradients.correlations.iter().map(|c| mean(c)).collect::<Vec<_>>());
    assert!(attention.correlations[0].iter().all(|alike| *alike == 1.0));
    assert!(mean(&gradients.correlations[0]) < 0.6);
    assert!(gradients.correlations.last().is_some_and(|alike| mean(alike).abs() < 0.3));
    assert_eq!(gradients, cascading_randomisation(|load| explain(load, &by_gradient), layers, 0)?);
    assert_eq!(gradients.steps.len(), layers + 2);
    let text = gradients.chart(&Bootstrap::default())?.text();
    assert!(text.contains("0: 1 (1 to 1)") && text.contains("1: head"), "{text}");
    Ok(())
}
