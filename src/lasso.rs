//! The LASSO, Tibshirani 1996: least squares with few coefficients that are not zero.

use linfa::DatasetBase;
use linfa::prelude::Fit;
use linfa_elasticnet::ElasticNet;
use ndarray::{Array1, Array2};

use crate::{Error, Result};

/// Rows z `(m,k)` and values y `(m,)`, both centred → coefficients w `(k,)`, and by how much the duality gap says they may
/// miss the minimum, as a share of what w = 0 misses.
///
/// minimise 1/(2m)·Σ(y − z·w)² + α·|w|₁. Of columns that are the same, the first has it all; what is nothing but rounding is
/// zero.
pub(crate) fn lasso(rows: Array2<f64>, values: Array1<f64>, alpha: f64) -> Result<(Vec<f64>, f64)> {
    let nothing = 0.5 * values.dot(&values);
    let rounding = 1e-14 * (2.0 * nothing).sqrt();
    let data = DatasetBase::new(rows, values);
    let model = ElasticNet::params().penalty(alpha).l1_ratio(1.0).with_intercept(false).tolerance(1e-12);
    let model = model.max_iterations(10_000).fit(&data).map_err(Error::argument)?;
    let gap = if nothing > 0.0 { model.duality_gap().max(0.0) / nothing } else { 0.0 };
    let clean = |w: &f64| if w.abs() > rounding { *w } else { 0.0 };
    Ok((model.hyperplane().iter().map(clean).collect(), gap))
}
