//! Taking features away: what must hold whatever the function.

use pellucid::prelude::*;

fn x() -> Result<Tensor> {
    Ok(Tensor::new(&[[1.0f64, 2.0], [3.0, -4.0], [0.5, 0.25]], &Device::Cpu)?)
}

fn zero() -> Result<Tensor> {
    Ok(x()?.zeros_like()?)
}

fn additive(x: &Tensor) -> Result<Tensor> {
    Ok(x.sqr()?.sum((1, 2))?)
}

#[test]
fn groups_of_an_additive_function_add_up() -> Result<()> {
    let single = ablate(additive, &x()?, &zero()?, &Groups::elements(&x()?))?.to_vec1::<f64>()?;
    let rows = ablate(additive, &x()?, &zero()?, &Groups::rows(&x()?))?.to_vec1::<f64>()?;
    for (row, pair) in rows.iter().zip(single.chunks(2)) {
        assert!((row - pair.iter().sum::<f64>()).abs() < 1e-12);
    }
    let whole = ablate(additive, &x()?, &zero()?, &Groups::from_ids(&x()?, &[3; 6])?)?.to_vec1::<f64>()?;
    assert!((whole[0] - rows.iter().sum::<f64>()).abs() < 1e-12);
    Ok(())
}

#[test]
fn a_feature_at_its_baseline_scores_zero() -> Result<()> {
    let drops = ablate(additive, &x()?, &x()?, &Groups::rows(&x()?))?.to_vec1::<f64>()?;
    assert_eq!(drops, [0.0; 3]);
    Ok(())
}

#[test]
fn windows_cover_everything_and_the_last_is_cut() -> Result<()> {
    let row = Tensor::zeros(5, DType::F64, &Device::Cpu)?;
    let groups = Groups::windows(&row, &[2], &[2])?;
    assert_eq!(groups.len(), 3);
    assert_eq!(groups.spread(&[1.0, 2.0, 3.0])?, [1.0, 1.0, 2.0, 2.0, 3.0]);
    let overlapping = Groups::windows(&row, &[3], &[1])?;
    assert_eq!(overlapping.spread(&[3.0, 6.0, 9.0])?, [3.0, 4.5, 6.0, 7.5, 9.0]);
    let plane = Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?;
    assert_eq!(Groups::windows(&plane, &[2, 2], &[1, 1])?.len(), 2);
    Ok(())
}

#[test]
fn sensitivity_is_sigma_times_slope_for_a_linear_function() -> Result<()> {
    let slopes = Tensor::new(&[[1.0f64, 0.0], [0.0, 5.0], [0.0, 0.0]], &Device::Cpu)?;
    let f = |x: &Tensor| Ok(x.broadcast_mul(&slopes)?.sum((1, 2))?);
    let scores = embedding_sensitivity(f, &x()?, &Noise::new(0.2, 4000, 3))?.scores;
    for (score, expected) in scores.iter().zip([0.2, 1.0, 0.0]) {
        assert!((score - expected).abs() < 0.03, "{score} is not {expected}");
    }
    Ok(())
}

#[test]
fn bad_arguments_are_refused() -> Result<()> {
    let message = |result: Result<Attribution>| result.map_or_else(|error| error.to_string(), |_| "no error".into());
    assert!(Groups::from_ids(&x()?, &[0, 1]).is_err_and(|e| e.to_string().contains("one id per element, 6")));
    assert!(message(occlusion(additive, &x()?, &zero()?, &[1], &[1])).contains("2 sizes and 2 strides"));
    assert!(message(occlusion(additive, &x()?, &zero()?, &[1, 2], &[1, 3])).contains("no larger than the sizes"));
    let other = Groups::elements(&Tensor::zeros(4, DType::F64, &Device::Cpu)?);
    assert!(message(feature_ablation(additive, &x()?, &zero()?, &other)).contains("at least one group over [3, 2]"));
    let none = Tensor::zeros((0, 3), DType::F64, &Device::Cpu)?;
    assert!(message(occlusion(additive, &none, &none, &[1, 1], &[1, 1])).contains("has no elements"));
    assert!(message(embedding_sensitivity(additive, &x()?, &Noise::new(0.1, 1, 0))).contains("at least two draws"));
    Ok(())
}
