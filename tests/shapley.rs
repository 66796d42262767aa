//! Games and their players: the axioms of Shapley values, and the roads that lead to them.

#[path = "common/apart.rs"]
mod apart;

use apart::far;
use pellucid::prelude::*;

/// x₀ + 2x₁ + x₀x₁ + x₂x₃, and nothing of x₄.
fn game(x: &Tensor) -> Result<Tensor> {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| x.narrow(1, i, 1));
    let (a, b, c, d) = (a?, b?, c?, d?);
    Ok((&a + (&b * 2.0)? + (&a * &b)? + (c * d)?)?.squeeze(1)?)
}

fn input() -> Result<(Tensor, Tensor, Groups)> {
    let x = Tensor::new(&[1.0f64, 1.0, 3.0, 3.0, 7.0], &Device::Cpu)?;
    Ok((x.clone(), x.zeros_like()?, Groups::elements(&x)))
}

const FAIR: [f64; 5] = [1.5, 2.5, 4.5, 4.5, 0.0];

#[test]
fn exact_values_are_efficient_symmetric_and_give_dummies_nothing() -> Result<()> {
    let (x, zero, groups) = input()?;
    let fair = shapley_values(game, &x, &zero, &groups)?;
    assert!(far(&fair.scores, &FAIR) < 1e-12, "{:?}", fair.scores);
    assert!(fair.completeness.is_some_and(|law| law.gap().abs() < 1e-12 && law.promised == 13.0));
    Ok(())
}

#[test]
fn sampling_is_efficient_at_any_number_and_converges() -> Result<()> {
    let (x, zero, groups) = input()?;
    let few = shapley_sampling(game, &x, &zero, &groups, &Permutations::new(1, 4))?;
    assert!(few.completeness.is_some_and(|law| law.gap().abs() < 1e-12));
    let error = |count| {
        Ok::<_, Error>(far(&shapley_sampling(game, &x, &zero, &groups, &Permutations::new(count, 1))?.scores, &FAIR))
    };
    assert!(error(2000)? < 0.25 && error(2000)? < error(5)?);
    let again = shapley_sampling(game, &x, &zero, &groups, &Permutations::new(3, 7))?;
    assert_eq!(again, shapley_sampling(game, &x, &zero, &groups, &Permutations::new(3, 7))?);
    Ok(())
}

#[test]
fn kernel_shap_is_exact_with_all_coalitions_and_near_with_some() -> Result<()> {
    let (x, zero, groups) = input()?;
    let all = kernel_shap(game, &x, &zero, &groups, &Coalitions::new(30, 0))?;
    assert!(far(&all.scores, &FAIR) < 1e-9, "{:?}", all.scores);
    let some = kernel_shap(game, &x, &zero, &groups, &Coalitions::new(24, 3))?;
    assert!(far(&some.scores, &FAIR) < 1.5, "{:?}", some.scores);
    assert!(some.completeness.is_some_and(|law| law.gap().abs() < 1e-9));
    Ok(())
}

#[test]
fn a_player_alone_gets_everything() -> Result<()> {
    let (x, zero, _) = input()?;
    let (all, sum) = (Groups::from_ids(&x, &[0; 5])?, |x: &Tensor| Ok(x.sum(1)?));
    assert_eq!(shapley_values(sum, &x, &zero, &all)?.scores, [15.0]);
    assert_eq!(shapley_sampling(sum, &x, &zero, &all, &Permutations::new(5, 0))?.scores, [15.0]);
    assert_eq!(kernel_shap(sum, &x, &zero, &all, &Coalitions::new(1, 0))?.scores, [15.0]);
    assert!((lime(sum, &x, &zero, &all, &Lime::new(50, 0))?.scores[0] - 15.0).abs() < 0.5);
    Ok(())
}

#[test]
fn several_outputs_are_explained_each_and_in_sum() -> Result<()> {
    let (x, zero, groups) = input()?;
    let both = |x: &Tensor| Ok(Tensor::stack(&[game(x)?, (game(x)? * -3.0)?], 1)?);
    type Method = fn(&dyn Fn(&Tensor) -> Result<Tensor>, &Tensor, &Tensor, &Groups) -> Result<Attribution>;
    let methods: [Method; 5] = [
        |f, x, b, g| shapley_values(f, x, b, g),
        |f, x, b, g| shapley_sampling(f, x, b, g, &Permutations::new(9, 0)),
        |f, x, b, g| kernel_shap(f, x, b, g, &Coalitions::new(30, 0)),
        |f, x, b, g| feature_ablation(f, x, b, g),
        |f, x, _, _| gradient_x_input(f, x),
    ];
    for method in methods {
        let (one, two) = (method(&game, &x, &zero, &groups)?, method(&both, &x, &zero, &groups)?);
        assert_eq!(two.outputs.len(), 2, "{}", two.method);
        assert!(far(&two.outputs[0].scores, &one.scores) < 1e-9, "{}", two.method);
        let times = |factor: f64| one.scores.iter().map(|score| factor * score).collect::<Vec<_>>();
        assert!(far(&two.outputs[1].scores, &times(-3.0)) < 1e-9, "{}", two.method);
        assert!(far(&two.scores, &times(-2.0)) < 1e-9, "{}", two.method);
        assert!(one.outputs.is_empty());
    }
    Ok(())
}

#[test]
fn lime_finds_a_sparse_linear_game() -> Result<()> {
    let (x, zero, groups) = input()?;
    let linear = |x: &Tensor| Ok((x.narrow(1, 0, 1)? * 5.0 - x.narrow(1, 2, 1)?)?.squeeze(1)?);
    let options = Lime { alpha: 1e-4, ..Lime::new(200, 0) };
    let found = lime(linear, &x, &zero, &groups, &options)?;
    assert!(far(&found.scores, &[5.0, 0.0, -3.0, 0.0, 0.0]) < 0.01, "{:?}", found.scores);
    let sparse = lime(linear, &x, &zero, &groups, &Lime { alpha: 1.0, ..options })?;
    assert!(sparse.scores[0] > 0.0 && sparse.scores[0] < 5.0 && sparse.scores[1] == 0.0);
    Ok(())
}

#[test]
fn what_cannot_be_played_is_refused() -> Result<()> {
    let (x, zero, groups) = input()?;
    let said = |result: Result<Attribution>| result.map_or_else(|error| error.to_string(), |_| "no error".into());
    let overlapping = Groups::windows(&x, &[2], &[1])?;
    assert!(said(shapley_values(game, &x, &zero, &overlapping)).contains("belongs to two groups"));
    let wide = Tensor::zeros(17, DType::F64, &Device::Cpu)?;
    let many = shapley_values(|x| Ok(x.sum(1)?), &wide, &wide, &Groups::elements(&wide));
    assert!(said(many).contains("Use `shapley_sampling`"));
    assert!(
        said(shapley_sampling(game, &x, &zero, &groups, &Permutations::new(0, 0))).contains("at least one permutation")
    );
    assert!(said(kernel_shap(game, &x, &zero, &groups, &Coalitions::new(3, 0))).contains("cannot tell 5 groups apart"));
    assert!(said(lime(game, &x, &zero, &groups, &Lime::new(1, 0))).contains("at least two samples"));
    assert!(said(lime(game, &x, &zero, &groups, &Lime { alpha: -1.0, ..Lime::new(9, 0) })).contains("α"));
    assert!(said(lime(game, &x, &zero, &groups, &Lime { kernel_width: 0.0, ..Lime::new(9, 0) })).contains("width"));
    Ok(())
}

#[test]
fn ranks_agree_or_not() -> Result<()> {
    assert!((rank_correlation(&[1.0, 1.0, 2.0], &[3.0, 3.0, 9.0])? - 1.0).abs() < 1e-12);
    assert!((rank_correlation(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 4.0, 3.0])? - 0.6).abs() < 1e-12);
    assert!(rank_correlation(&[1.0], &[1.0]).is_err() && rank_correlation(&[1.0, 1.0], &[1.0, 2.0]).is_err());
    assert!(rank_correlation(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
    Ok(())
}
