//! Methods that play with coalitions of features: Shapley values, KernelSHAP and LIME.

use candle_core::DType;
use pellucid::prelude::*;

use super::methods::{each, nothing_more};
use super::problem::ByGroups;
use super::record::Record;
use crate::reference_runner::Fallible;
use crate::reference_runner::check::Check;

/// At least so many orders, coalitions or variants are drawn. Tolerances are for the chance in Captum's numbers, which come
/// from fewer; little is left of it in ours, and none for KernelSHAP, for these are all coalitions of up to 12 features.
const DRAWS: usize = 1 << 12;

/// How many are drawn for a case.
fn draws(record: &Record) -> Fallible<usize> {
    Ok(if record.get("n_samples").is_some() { record.count("n_samples")?.max(DRAWS) } else { DRAWS })
}

/// A method's scores, by element, of every example.
fn by_groups(record: &Record, dtype: DType, method: ByGroups) -> Fallible<Vec<Check>> {
    each(record, dtype, |problem, b| problem.by_groups(b, method))
}

/// Shapley values from all coalitions, and from orders that are drawn, whose tolerance is δ.
pub fn shapley(record: &Record, delta: &str, dtype: DType) -> Fallible<Vec<Check>> {
    let (tol, orders) = (delta.parse()?, Permutations::new(draws(record)?, 0));
    let mut checks = by_groups(record, dtype, &|f, x, baseline, groups| shapley_values(f, x, baseline, groups))?;
    let sampled =
        by_groups(record, dtype, &|f, x, baseline, groups| shapley_sampling(f, x, baseline, groups, &orders))?;
    checks.extend(sampled.into_iter().map(|check| Check { tol, field: format!("{}, sampled", check.field), ..check }));
    Ok(checks)
}

/// KernelSHAP. Captum gives the empty and the full coalition a weight of 10⁶; here their values are met exactly.
pub fn kernel(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    nothing_more(rest)?;
    let coalitions = Coalitions::new(draws(record)?, 0);
    by_groups(record, dtype, &|f, x, baseline, groups| kernel_shap(f, x, baseline, groups, &coalitions))
}

/// LIME with the cosine kernel: `σ, SkLearnLasso(alpha=α)); …`.
pub fn nearest(record: &Record, rest: &str, dtype: DType) -> Fallible<Vec<Check>> {
    let options =
        rest.strip_suffix(")); perturb = Bernoulli(0.5) per interpretable feature").ok_or("other variants")?;
    let (width, alpha) = options.split_once(", SkLearnLasso(alpha=").ok_or("another linear model")?;
    let options = Lime { alpha: alpha.parse()?, kernel_width: width.parse()?, ..Lime::new(draws(record)?, 0) };
    by_groups(record, dtype, &|f, x, baseline, groups| lime(f, x, baseline, groups, &options))
}
