//! The values of a function at many points, and scores made of them: what all methods without gradients have in common.

use std::ops::Range;

use candle_core::Tensor;

use crate::attribution::Attribution;
use crate::batches::in_batches;
use crate::grad::values_of;
use crate::tensor::{column_sums, numbers};
use crate::{Error, Result};

/// f's values at many points: one column for each of its outputs.
pub(crate) struct Outcomes {
    columns: Vec<Vec<f64>>,
    /// Whether f said that it has several outputs, `(n,o)`, even if o is one.
    several: bool,
}

impl Outcomes {
    /// The points `0..count` come in batches of `chunk`, or of fewer where memory does not suffice, as `points` makes them,
    /// `(n,…)`.
    pub fn of(
        f: &dyn Fn(&Tensor) -> Result<Tensor>,
        what: &str,
        count: usize,
        chunk: usize,
        points: &dyn Fn(Range<usize>) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut all = Self { columns: Vec::new(), several: false };
        in_batches(what, count, chunk, &mut |some| all.append(&values_of(f, &points(some)?)?))?;
        Ok(all)
    }

    fn append(&mut self, values: &Tensor) -> Result<()> {
        let outputs = values.dims().get(1).copied().unwrap_or(1);
        let several = values.rank() == 2;
        if self.columns.is_empty() {
            self.columns.resize(outputs, Vec::new());
            self.several = several;
        }
        if self.columns.len() != outputs || self.several != several {
            return Err(Error::argument("the function has more outputs for some inputs than for others"));
        }
        for row in numbers(values)?.chunks(outputs) {
            self.columns.iter_mut().zip(row).for_each(|(column, value)| column.push(*value));
        }
        Ok(())
    }

    /// Scores over elements of a shape from each output's values, and from those of their sum.
    pub fn explain(
        &self,
        method: &str,
        shape: &[usize],
        scores: &dyn Fn(&[f64]) -> Result<Vec<f64>>,
    ) -> Result<Attribution> {
        if !self.several {
            return Attribution::of_elements(method, shape, scores(&self.columns[0])?);
        }
        let outputs = self.columns.iter().map(|column| scores(column)).collect::<Result<_>>()?;
        Attribution::of_outputs(method, shape, scores(&self.sum())?, outputs)
    }

    /// Σ over the outputs at every point.
    pub fn sum(&self) -> Vec<f64> {
        column_sums(&self.columns)
    }

    /// Every output's values, in order; one column if there is one output.
    pub fn columns(&self) -> &[Vec<f64>] {
        &self.columns
    }

    pub fn several(&self) -> bool {
        self.several
    }
}

/// How many variants of x to compute at once, where no gradient is kept.
pub(crate) fn batch(x: &Tensor) -> usize {
    const ELEMENTS: usize = 1 << 22;
    (ELEMENTS / x.elem_count().max(1)).clamp(1, 128)
}
