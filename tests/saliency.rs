//! Gradients and noisy gradients: what must hold whatever the function.

use pellucid::prelude::*;

fn cubic(x: &Tensor) -> Result<Tensor> {
    Ok(x.powf(3.0)?.sum(1)?)
}

fn x() -> Result<Tensor> {
    Ok(Tensor::new(&[0.5f64, -1.0, 2.0], &Device::Cpu)?)
}

#[test]
fn gradients_are_the_derivatives() -> Result<()> {
    for (score, exact) in gradient(cubic, &x()?)?.scores.iter().zip([0.75, 3.0, 12.0]) {
        assert!((score - exact).abs() < 1e-12);
    }
    for (score, exact) in gradient_x_input(cubic, &x()?)?.scores.iter().zip([0.375, -3.0, 24.0]) {
        assert!((score - exact).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn without_noise_smooth_grad_is_the_gradient() -> Result<()> {
    let still = Noise::new(0.0, 3, 1);
    let (plain, smooth) = (gradient(cubic, &x()?)?, smooth_grad(cubic, &x()?, &still)?);
    for (a, b) in plain.scores.iter().zip(&smooth.scores) {
        assert!((a - b).abs() < 1e-12);
    }
    assert!(var_grad(cubic, &x()?, &still)?.scores.iter().all(|v| v.abs() < 1e-12));
    Ok(())
}

#[test]
fn the_variance_is_the_mean_square_less_the_squared_mean() -> Result<()> {
    let noise = Noise::new(0.3, 64, 5);
    let mean = smooth_grad(cubic, &x()?, &noise)?.scores;
    let square = smooth_grad_squared(cubic, &x()?, &noise)?.scores;
    for (i, variance) in var_grad(cubic, &x()?, &noise)?.scores.into_iter().enumerate() {
        assert!((variance - (square[i] - mean[i] * mean[i])).abs() < 1e-10);
    }
    Ok(())
}

#[test]
fn no_variance_is_below_zero() -> Result<()> {
    let x = Tensor::arange(0.0, 200.0, &Device::Cpu)?;
    let straight = |at: &Tensor| Ok((at.broadcast_mul(&x)? * 0.1)?.sum(1)?);
    let variances = var_grad(straight, &x, &Noise::new(1.0, 7, 0))?.scores;
    assert!(variances.iter().all(|variance| (0.0..1e-20).contains(variance)), "{variances:?}");
    Ok(())
}

#[test]
fn noisy_gradients_explain_every_output_and_their_sum() -> Result<()> {
    let (noise, both) = (Noise::new(0.3, 9, 5), |x: &Tensor| Ok(Tensor::stack(&[cubic(x)?, x.sqr()?.sum(1)?], 1)?));
    type Method = fn(&dyn Fn(&Tensor) -> Result<Tensor>, &Tensor, &Noise) -> Result<Attribution>;
    let methods: [Method; 3] =
        [|f, x, n| smooth_grad(f, x, n), |f, x, n| smooth_grad_squared(f, x, n), |f, x, n| var_grad(f, x, n)];
    for method in methods {
        let why = method(&both, &x()?, &noise)?;
        assert_eq!(why.output(0)?.scores, method(&cubic, &x()?, &noise)?.scores);
        assert_eq!(why.output(1)?.scores, method(&|x| Ok(x.sqr()?.sum(1)?), &x()?, &noise)?.scores);
        assert_eq!(why.scores, method(&|x| Ok(both(x)?.sum(1)?), &x()?, &noise)?.scores);
        assert_eq!(why.outputs.len(), 2);
    }
    Ok(())
}

/// A steep and nearly straight function: in single precision the difference of two large sums would drown its variance.
#[test]
fn a_small_variance_survives_single_precision() -> Result<()> {
    let steep = |x: &Tensor| Ok(((x * 100.0)? + (x.sqr()? * 0.5)?)?.sum(1)?);
    let x = Tensor::new(&[0.0f32], &Device::Cpu)?;
    let variance = var_grad(steep, &x, &Noise::new(0.01, 500, 4))?.scores[0];
    assert!((variance - 1e-4).abs() < 3e-5, "{variance} is not 1e-4");
    Ok(())
}

/// E[3(x + ε)²] = 3x² + 3σ².
#[test]
fn smooth_grad_meets_its_expectation() -> Result<()> {
    let smooth = smooth_grad(cubic, &x()?, &Noise::new(0.5, 20_000, 2))?;
    for (score, x) in smooth.scores.iter().zip([0.5f64, -1.0, 2.0]) {
        let expected = 3.0 * x * x + 3.0 * 0.25;
        assert!((score - expected).abs() < 0.15, "{score} is not {expected}");
    }
    Ok(())
}

#[test]
fn a_seed_is_a_figure() -> Result<()> {
    let with = |seed| smooth_grad(cubic, &x()?, &Noise::new(0.1, 10, seed));
    assert_eq!(with(7)?, with(7)?);
    assert_ne!(with(7)?.scores, with(8)?.scores);
    assert_eq!(with(7)?.seed, Some(7));
    Ok(())
}

#[test]
fn bad_noise_is_refused() -> Result<()> {
    let message =
        |noise| smooth_grad(cubic, &x()?, &noise).map_or_else(|e| Ok(e.to_string()), |_| Ok::<_, Error>(String::new()));
    assert!(message(Noise::new(0.1, 0, 0))?.contains("at least one draw"));
    assert!(message(Noise::new(-0.1, 5, 0))?.contains("σ must be a number ≥ 0"));
    assert!(message(Noise::new(f64::NAN, 5, 0))?.contains("σ must be a number ≥ 0"));
    Ok(())
}
