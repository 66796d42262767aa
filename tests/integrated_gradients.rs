//! What Integrated Gradients promises, as theorems (Sundararajan et al. 2017, §2–4), in `f64`.

use pellucid::prelude::*;

fn point(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

/// x₀·x₁ + tanh(x₂) + ½x₀², smooth, and blind to x₃.
fn smooth(x: &Tensor) -> Result<Tensor> {
    let at = |i| x.narrow(1, i, 1)?.squeeze(1);
    Ok((((at(0)? * at(1)?)? + at(2)?.tanh()?)? + (at(0)?.sqr()? * 0.5)?)?)
}

/// 2x₀ − 3x₁ + x₂ − x₃ + 7.
fn linear(x: &Tensor) -> Result<Tensor> {
    Ok((x.broadcast_mul(&point(&[2.0, -3.0, 1.0, -1.0])?)?.sum(1)? + 7.0)?)
}

fn ends() -> Result<(Tensor, Tensor)> {
    Ok((point(&[1.0, 2.0, -1.5, 0.5])?, point(&[0.2, -0.4, 0.9, -1.0])?))
}

fn gap(f: impl Fn(&Tensor) -> Result<Tensor>, steps: &Steps) -> Result<f64> {
    let (x, baseline) = ends()?;
    Ok(integrated_gradients(f, &x, &baseline, steps)?.completeness.map_or(f64::NAN, |law| law.gap().abs()))
}

#[test]
fn weights_of_every_rule_sum_to_one_and_nodes_ascend_in_the_unit_interval() -> Result<()> {
    for rule in Quadrature::ALL {
        for n in [2, 3, 10, 50, 301] {
            let (nodes, weights) = rule.nodes(n)?;
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{rule} {n}");
            assert!(nodes.windows(2).all(|pair| pair[0] < pair[1]), "{rule} {n}");
            assert!(nodes.iter().all(|node| (-1e-15..1.0 + 1e-12).contains(node)), "{rule} {n}");
        }
    }
    Ok(())
}

#[test]
fn gauss_legendre_is_exact_for_polynomials_of_degree_2n_minus_1() -> Result<()> {
    for n in 1..12 {
        let (nodes, weights) = Quadrature::GaussLegendre.nodes(n)?;
        for degree in 0..2 * n {
            let sum: f64 = nodes.iter().zip(&weights).map(|(x, w)| w * x.powi(degree as i32)).sum();
            assert!((sum - 1.0 / (degree as f64 + 1.0)).abs() < 1e-13, "n {n}, degree {degree}");
        }
    }
    Ok(())
}

#[test]
fn a_linear_function_is_exact_for_every_rule() -> Result<()> {
    let (x, baseline) = ends()?;
    for rule in Quadrature::ALL {
        let ig = integrated_gradients(linear, &x, &baseline, &Steps::new(rule, 3))?;
        for (score, exact) in ig.scores.iter().zip([2.0 * 0.8, -3.0 * 2.4, -2.4, -1.5]) {
            assert!((score - exact).abs() < 1e-12, "{rule}: {score} is not {exact}");
        }
    }
    Ok(())
}

#[test]
fn the_gap_falls_at_each_rules_order() -> Result<()> {
    let orders =
        [(Quadrature::Left, 1.0), (Quadrature::Right, 1.0), (Quadrature::Middle, 2.0), (Quadrature::Trapezoid, 2.0)];
    for (rule, order) in orders {
        let (coarse, fine) = (gap(smooth, &Steps::new(rule, 40))?, gap(smooth, &Steps::new(rule, 80))?);
        let seen = (coarse / fine).log2();
        assert!((seen - order).abs() < 0.1, "{rule}: order {seen}, expected {order}");
    }
    assert!(gap(smooth, &Steps::gauss_legendre(20))? < 1e-12);
    Ok(())
}

#[test]
fn a_feature_that_is_not_used_gets_nothing() -> Result<()> {
    let (x, baseline) = ends()?;
    assert_eq!(integrated_gradients(smooth, &x, &baseline, &Steps::default())?.scores[3], 0.0);
    Ok(())
}

#[test]
fn no_way_to_go_means_no_scores() -> Result<()> {
    let (x, _) = ends()?;
    assert_eq!(integrated_gradients(smooth, &x, &x, &Steps::default())?.scores, [0.0; 4]);
    Ok(())
}

#[test]
fn attributions_are_linear_in_the_function() -> Result<()> {
    let (x, baseline) = ends()?;
    let of = |f: &dyn Fn(&Tensor) -> Result<Tensor>| integrated_gradients(f, &x, &baseline, &Steps::gauss_legendre(9));
    let both = of(&|x| Ok(((smooth(x)? * 2.0)? - (linear(x)? * 0.5)?)?))?;
    let (one, other) = (of(&smooth)?, of(&linear)?);
    for i in 0..4 {
        assert!((both.scores[i] - (2.0 * one.scores[i] - 0.5 * other.scores[i])).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn symmetric_features_get_the_same() -> Result<()> {
    let product = |x: &Tensor| Ok(x.narrow(1, 0, 2)?.sum(1)?.tanh()?);
    let (x, baseline) = (point(&[0.7, 0.7, 3.0])?, point(&[0.1, 0.1, 0.0])?);
    let scores = integrated_gradients(product, &x, &baseline, &Steps::default())?.scores;
    assert_eq!(scores[0], scores[1]);
    Ok(())
}

#[test]
fn implementations_of_one_function_get_one_answer() -> Result<()> {
    let (x, baseline) = ends()?;
    let square = |x: &Tensor| Ok(x.sum(1)?.sqr()?);
    let expanded = |x: &Tensor| Ok(x.unsqueeze(2)?.matmul(&x.unsqueeze(1)?)?.sum((1, 2))?);
    let one = integrated_gradients(square, &x, &baseline, &Steps::default())?;
    let other = integrated_gradients(expanded, &x, &baseline, &Steps::default())?;
    for (a, b) in one.scores.iter().zip(&other.scores) {
        assert!((a - b).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn chunks_change_nothing() -> Result<()> {
    let (x, baseline) = ends()?;
    let whole = integrated_gradients(smooth, &x, &baseline, &Steps::gauss_legendre(50))?;
    for chunk in [1, 7, 49, 64] {
        let cut = integrated_gradients(smooth, &x, &baseline, &Steps::gauss_legendre(50).chunk(chunk))?;
        for (a, b) in whole.scores.iter().zip(&cut.scores) {
            assert!((a - b).abs() < 1e-13, "chunk {chunk}");
        }
    }
    Ok(())
}

/// max(x₀ − 0.3, 0): Gauss–Legendre's worst, a kink.
fn kinked(x: &Tensor) -> Result<Tensor> {
    Ok((x.narrow(1, 0, 1)?.squeeze(1)? - 0.3)?.maximum(0.0)?)
}

#[test]
fn refining_stops_at_the_tolerance_or_says_that_it_did_not_get_there() -> Result<()> {
    let (x, baseline) = ends()?;
    let reached = integrated_gradients(kinked, &x, &baseline, &Steps::until(1e-2))?;
    let law = reached.completeness.ok_or(Error::GraphCut)?;
    assert!(law.reached() && law.relative_gap <= 1e-2 && law.steps < 2048, "{law:?}");
    let few = Steps { count: 16, ..Steps::until(1e-9) };
    let law = integrated_gradients(kinked, &x, &baseline, &few)?.completeness.ok_or(Error::GraphCut)?;
    assert!(!law.reached() && law.steps == 16, "{law:?}");
    Ok(())
}

#[test]
fn every_bad_argument_has_its_answer() -> Result<()> {
    let (x, baseline) = ends()?;
    let message = |result: Result<Attribution>| result.map_or_else(|error| error.to_string(), |_| "no error".into());
    let ig = |f: &dyn Fn(&Tensor) -> Result<Tensor>, steps| message(integrated_gradients(f, &x, &baseline, &steps));
    assert!(ig(&smooth, Steps::gauss_legendre(0)).contains("at least 1 step, got 0"));
    assert!(ig(&smooth, Steps::new(Quadrature::Trapezoid, 1)).contains("at least 2 steps"));
    assert!(ig(&smooth, Steps::default().chunk(0)).contains("at least one point"));
    assert!(ig(&smooth, Steps::until(-1.0)).contains("positive number"));
    assert!(ig(&smooth, Steps { count: 4, ..Steps::until(0.1) }).contains("starts at 8 steps"));
    assert!(ig(&|x| smooth(&x.detach()), Steps::default()).contains("never reaches its input"));
    assert!(ig(&|x| Ok((smooth(x)? / 0.0)?), Steps::default()).contains("is not finite"));
    assert!(ig(&|x| Ok(x.unsqueeze(1)?.repeat((1, 2, 1))?), Steps::default()).contains("one number per row"));
    let whole = Tensor::new(&[1i64, 2, 3, 4], &Device::Cpu)?;
    let integers = integrated_gradients(smooth, &whole, &whole, &Steps::default());
    assert!(message(integers).contains("write 1.0 instead of 1"));
    let single = x.to_dtype(DType::F32)?;
    let mixed = integrated_gradients(smooth, &x, &single, &Steps::default());
    assert!(message(mixed).contains("the baseline holds F32 numbers, the input F64"));
    let short = point(&[0.0])?;
    let mismatch = message(integrated_gradients(smooth, &x, &short, &Steps::default()));
    assert_eq!(mismatch, "the baseline has shape [1], expected [4], the input's");
    Ok(())
}

#[test]
fn grad_check_tells_a_partial_cut() -> Result<()> {
    let (x, _) = ends()?;
    assert!(grad_check(smooth, &x)? < 1e-8);
    let cut = |x: &Tensor| Ok((x + x.detach().sqr()?)?.sum(1)?);
    assert!(grad_check(cut, &x)? > 0.1);
    Ok(())
}
