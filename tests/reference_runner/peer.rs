//! The path methods under the names Captum gives them, and its one slip.

use pellucid::prelude::*;

use super::Fallible;
use super::value::Value;

/// A rule under Captum's name, and a number of steps.
#[derive(Clone, Copy)]
pub struct Peer {
    pub rule: Quadrature,
    pub steps: usize,
}

impl Peer {
    /// By the rule's name.
    pub fn new(method: &str, steps: usize) -> Fallible<Self> {
        let rule = match method {
            "gausslegendre" => Quadrature::GaussLegendre,
            "riemann_trapezoid" => Quadrature::Trapezoid,
            "riemann_left" => Quadrature::Left,
            "riemann_right" => Quadrature::Right,
            "riemann_middle" => Quadrature::Middle,
            other => return Err(format!("the rule `{other}` is not known").into()),
        };
        Ok(Self { rule, steps })
    }

    /// What Captum's weights are to ours: its trapezoid's sum to (n−1)/n, for it divides by n and not by n − 1, and its
    /// attributions are too small by as much.
    pub fn factor(&self) -> f64 {
        let n = self.steps as f64;
        if self.rule == Quadrature::Trapezoid { (n - 1.0) / n } else { 1.0 }
    }

    /// Nodes, and weights as Captum has them.
    pub fn nodes(&self) -> Fallible<(Vec<f64>, Vec<f64>)> {
        let (nodes, weights) = self.rule.nodes(self.steps)?;
        Ok((nodes, weights.into_iter().map(|w| w * self.factor()).collect()))
    }

    /// Integrated Gradients as Captum would return it.
    pub fn explain(&self, f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, baseline: &Tensor) -> Fallible<Explained> {
        let ours = integrated_gradients(&f, x, baseline, &Steps::new(self.rule, self.steps))?;
        let ends = ends(f, x, baseline)?;
        self.explained(ours, (ends[0], ends[1]))
    }

    /// The same of several outputs explained together: their sum, and each.
    pub fn explain_each(
        &self,
        f: impl Fn(&Tensor) -> Result<Tensor>,
        x: &Tensor,
        baseline: &Tensor,
    ) -> Fallible<(Explained, Vec<Explained>)> {
        let ours = integrated_gradients(&f, x, baseline, &Steps::new(self.rule, self.steps))?;
        let ends = ends(f, x, baseline)?;
        let (at_x, at_baseline) = ends.split_at(ours.outputs.len());
        let each = (0..ours.outputs.len()).map(|j| self.explained(ours.output(j)?, (at_x[j], at_baseline[j])));
        let each = each.collect::<Fallible<_>>()?;
        Ok((self.explained(ours, (at_x.iter().sum(), at_baseline.iter().sum()))?, each))
    }

    fn explained(&self, ours: Attribution, ends: (f64, f64)) -> Fallible<Explained> {
        let law = ours.completeness.ok_or("Integrated Gradients without completeness")?;
        let scores = ours.scores.iter().map(|score| score * self.factor()).collect();
        let delta = law.got * self.factor() - law.promised;
        Ok(Explained { attribution: Attribution { scores, outputs: vec![], ..ours }, delta, ends })
    }
}

/// f at x, and then at the baseline.
fn ends(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor, baseline: &Tensor) -> Fallible<Vec<f64>> {
    Ok(Value::of(&f(&Tensor::stack(&[x, baseline], 0)?)?)?.numbers()?.to_vec())
}

/// Attributions, Captum's convergence delta Σ − (f(x) − f(x′)), and f(x), f(x′).
pub struct Explained {
    pub attribution: Attribution,
    pub delta: f64,
    pub ends: (f64, f64),
}
