//! A toy network with a batch of inputs, made into one function of one tensor per example, as this crate explains it.

use candle_core::DType;
use pellucid::prelude::*;
use serde_json::Value as Json;

use super::record::Record;
use super::toys::Toy;
use crate::reference_runner::Fallible;
use crate::reference_runner::value::Value;

/// A function of `(n,total)`.
type F<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

/// A method of this crate that scores groups: f, x, x′, groups → one score per group.
pub type ByGroups<'a> = &'a dyn Fn(F, &Tensor, &Tensor, &Groups) -> Result<Attribution>;

/// A toy network, its inputs and baselines `(b,…)`, and which output is explained.
pub struct Problem {
    toy: Toy,
    pub inputs: Vec<Tensor>,
    pub baselines: Vec<Tensor>,
    /// Which elements are one feature; without it every element is one.
    masks: Option<Vec<Tensor>>,
    /// Per example, the numbers that are given to the network and not explained.
    arguments: Vec<Vec<f64>>,
    target: Option<usize>,
}

impl Problem {
    /// Everything a record says about it, in a precision.
    pub fn new(record: &Record, dtype: DType) -> Fallible<Self> {
        let toy = Toy::new(record.word("model")?)?;
        let batch = |json: &Json| {
            let input = Value::nested(json)?.tensor(dtype)?;
            Ok(if toy.aggregates { input.unsqueeze(0)? } else { input })
        };
        let inputs: Vec<Tensor> = record.list("input")?.iter().map(batch).collect::<Fallible<_>>()?;
        if record.get("n_inputs").and_then(Json::as_u64).is_some_and(|n| n as usize != inputs.len()) {
            return Err("`n_inputs` is not the number of inputs".into());
        }
        let baselines = spread(record.get("baseline").unwrap_or(&Json::from(0)), &inputs)?;
        let masks = record.get("feature_mask").map(|mask| spread(mask, &inputs)).transpose()?;
        let target = record.get("target").map(|_| record.count("target")).transpose()?;
        let problem = Self { toy, inputs, baselines, masks, arguments: vec![], target };
        problem.with_arguments(record)
    }

    /// `[A, j]`: A is JSON in a string, a row per example or one for all; j is the output.
    fn with_arguments(self, record: &Record) -> Fallible<Self> {
        let Some(arguments) = record.get("additional_forward_args") else {
            return Ok(Self { arguments: vec![vec![]; self.examples()], ..self });
        };
        let (a, target) = (&arguments[0], arguments[1].as_u64().ok_or("the second argument is an output")?);
        let rows = match Value::nested(&serde_json::from_str(a.as_str().ok_or("the first argument is JSON")?)?)? {
            Value::Numbers(shape, row) if shape.len() == 1 => vec![row; self.examples()],
            Value::Numbers(shape, rows) if shape.len() == 2 => rows.chunks(shape[1]).map(<[f64]>::to_vec).collect(),
            other => return Err(format!("the arguments {other:?} are not known").into()),
        };
        if rows.len() != self.examples() {
            return Err("arguments are given for one example each".into());
        }
        Ok(Self { arguments: rows, target: Some(target as usize), ..self })
    }

    /// How many examples there are; a network that sums over the batch has one.
    pub fn examples(&self) -> usize {
        self.inputs[0].dims()[0]
    }

    /// An example's inputs, flattened and laid side by side.
    pub fn x(&self, example: usize) -> Result<Tensor> {
        side_by_side(&self.inputs, example)
    }

    /// Its baselines likewise.
    pub fn baseline(&self, example: usize) -> Result<Tensor> {
        side_by_side(&self.baselines, example)
    }

    /// Its features likewise: ids are shared by all inputs.
    fn groups(&self, example: usize) -> Fallible<Groups> {
        let x = self.x(example)?;
        let Some(masks) = &self.masks else { return Ok(Groups::elements(&x)) };
        let ids = Value::of(&side_by_side(masks, example)?)?.ids()?;
        Ok(Groups::from_ids(&x, &ids.into_iter().map(|id| id as usize).collect::<Vec<_>>())?)
    }

    /// An example's scores of features, given to each of their elements.
    pub fn by_groups(&self, example: usize, method: ByGroups) -> Fallible<Vec<f64>> {
        let groups = self.groups(example)?;
        let scores = method(&self.f(example), &self.x(example)?, &self.baseline(example)?, &groups)?.scores;
        Ok(groups.spread(&scores)?)
    }

    /// `(n,total) → (n,)`: the explained output of an example.
    pub fn f(&self, example: usize) -> impl Fn(&Tensor) -> Result<Tensor> + '_ {
        move |x| self.output(example, &self.split(x)?, self.target)
    }

    /// `(n,…) → (n,)`: the same as a function of one input alone.
    pub fn f_of_input(&self, example: usize, input: usize) -> impl Fn(&Tensor) -> Result<Tensor> + '_ {
        move |x| {
            let all = (0..self.inputs.len()).map(|k| match k == input {
                true => Ok(x.clone()),
                false => {
                    let one = self.inputs[k].narrow(0, example, 1)?;
                    Ok(one.repeat([&[x.dims()[0]], &vec![1; one.rank() - 1][..]].concat())?)
                }
            });
            self.output(example, &all.collect::<Result<Vec<_>>>()?, self.target)
        }
    }

    /// How many outputs there are, if none is named.
    pub fn outputs(&self) -> Result<usize> {
        let first: Vec<_> = self.inputs.iter().map(|input| input.narrow(0, 0, 1)).collect::<Result<_, _>>()?;
        Ok((self.toy.forward)(&first, &self.arguments[0])?.dims()[1])
    }

    /// The same problem about one output.
    pub fn about(self, target: usize) -> Self {
        Self { target: Some(target), ..self }
    }

    fn output(&self, example: usize, inputs: &[Tensor], target: Option<usize>) -> Result<Tensor> {
        let y = (self.toy.forward)(inputs, &self.arguments[example])?;
        let y = y.flatten_from(1).or_else(|_| y.unsqueeze(1))?;
        match (target, y.dims()[1]) {
            (Some(0) | None, 1) => Ok(y.squeeze(1)?),
            (Some(target), _) => Target::Logit(target).of(&y),
            (None, v) => Err(Error::Argument(format!("{v} outputs, and none is named"))),
        }
    }

    /// `(n,total)` → each input's part, `(n,…)`.
    fn split(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (n, mut start) = (x.dims()[0], 0);
        let part = |input: &Tensor| {
            let shape = [&[n], &input.dims()[1..]].concat();
            let size = shape[1..].iter().product();
            start += size;
            Ok(x.narrow(1, start - size, size)?.reshape(shape)?)
        };
        self.inputs.iter().map(part).collect()
    }

    /// Scores of every example, laid side by side, → values of each input's shape `(b,…)`.
    pub fn gather(&self, scores: &[Vec<f64>]) -> Vec<Value> {
        let mut start = 0;
        let part = |input: &Tensor| {
            let size: usize = input.dims()[1..].iter().product();
            let numbers = scores.iter().flat_map(|row| row[start..start + size].to_vec()).collect();
            start += size;
            Value::Numbers([&[scores.len()], &input.dims()[1..]].concat(), numbers)
        };
        self.inputs.iter().map(part).collect()
    }
}

/// One number for all inputs, or a list with a part for each; parts are broadcast to the inputs' shapes.
pub fn spread(json: &Json, inputs: &[Tensor]) -> Fallible<Vec<Tensor>> {
    let part = |k: usize| match json.as_array() {
        Some(parts) => parts.get(k).ok_or("fewer parts than inputs"),
        None => Ok(json),
    };
    let one = |(k, input): (usize, &Tensor)| {
        Ok(Value::nested(part(k)?)?.tensor(input.dtype())?.broadcast_as(input.shape())?.contiguous()?)
    };
    inputs.iter().enumerate().map(one).collect()
}

/// An example of each tensor, flattened, one after the other.
pub fn side_by_side(tensors: &[Tensor], example: usize) -> Result<Tensor> {
    let parts: Vec<_> = tensors.iter().map(|t| t.get(example)?.reshape(((),))).collect::<Result<_, _>>()?;
    Ok(Tensor::cat(&parts, 0)?)
}
