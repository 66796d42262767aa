//! Rollout and its family, by the conventions of `context_cite_rollout_cases.json`: what a case expects is nested, and some
//! of it are slips of the original codes, from which we must be apart.

use std::rc::Rc;

use pellucid::prelude::*;
use pellucid::show::{min_max, red_mask};
use serde_json::Value as Json;

use super::Fallible;
use super::check::Check;
use super::job::Job;
use super::rollout::{fusion, layers, plain_first};
use super::value::Value;
use crate::apart::largest;

/// A case, and all of the file, for some refer to others' inputs.
pub fn job(number: usize, file: &Rc<Vec<Json>>) -> Job {
    let file = file.clone();
    let word = |key: &str| file[number][key].as_str().unwrap_or_default().to_owned();
    let (name, method) = (word("id"), format!("{} {}", word("topic"), word("kind")));
    let work = move || Case { case: &file[number], file: &file }.checks();
    Job { method, ..Job::new("cc_rollout", &name, work) }
}

/// Slips of the originals, and what they should have been.
const SLIPS: [(&str, &str); 4] = [
    ("row_normalised", "vit_explain_as_is"),
    ("vit_explain_fixed", "vit_explain_as_is"),
    ("level3", "wrong_order_level3"),
    ("scipy", "dense_shortcut"),
];

struct Case<'a> {
    case: &'a Json,
    file: &'a [Json],
}

impl Case<'_> {
    fn checks(&self) -> Fallible<Vec<Check>> {
        self.known()?;
        match &self.case["expected"] {
            Json::Null => self.properties(),
            expected => {
                let tol = self.case["tol"]["abs"].as_f64().unwrap_or(1e-12);
                leaves("", expected).into_iter().map(|(path, leaf)| self.check(&path, leaf, tol)).collect()
            }
        }
    }

    fn known(&self) -> Fallible<()> {
        const KNOWN: [&str; 12] = [
            "id",
            "topic",
            "kind",
            "desc",
            "input",
            "input_ref",
            "expected",
            "tol",
            "discard_k",
            "gradients_times_100",
            "checks",
            "uniform_example",
        ];
        let fields = self.case.as_object().ok_or("a case is an object")?;
        match fields.keys().find(|field| !KNOWN.contains(&field.as_str())) {
            Some(field) => Err(format!("the field `{field}` is not known").into()),
            None => Ok(()),
        }
    }

    /// One number, row or map against ours; or, if it is a slip, how near ours is to it.
    fn check(&self, path: &str, leaf: &Json, tol: f64) -> Fallible<Check> {
        let right = SLIPS.iter().find(|(right, slip)| path.contains(slip) && self.has(&path.replace(slip, right)));
        match right {
            None => Ok(Check::new(path, DType::F64, &self.ours(path)?, &Value::nested(leaf)?, tol)),
            Some((right, slip)) => {
                let distance = self.distance(path, slip, right)?;
                // rows of mean maps sum to one already, so that dividing them wrongly does no harm
                let harmless = path.starts_with("mean_0.0/");
                let err = if harmless { distance } else { tol * tol / distance };
                Ok(Check { field: format!("apart from {path}"), err, tol })
            }
        }
    }

    /// How far ours are from a slip's numbers: the furthest of a map and what is read off it, for a mask with one patch left
    /// is the same either way.
    fn distance(&self, path: &str, slip: &str, right: &str) -> Fallible<f64> {
        let whole = &path[..path.find(slip).map_or(0, |start| start + slip.len())];
        let apart =
            |(path, leaf): (String, &Json)| Ok(self.ours(&path.replace(slip, right))?.distance(&Value::nested(leaf)?));
        let there = leaves("", &self.case["expected"]).into_iter().filter(|(path, _)| path.starts_with(whole));
        let distances: Vec<f64> = there.map(apart).collect::<Fallible<_>>()?;
        match distances.iter().all(|distance| distance.is_finite()) {
            true => Ok(distances.into_iter().fold(0.0, f64::max)),
            false => Err(format!("`{whole}` is of another shape than ours").into()),
        }
    }

    /// Whether the case expects something there.
    fn has(&self, path: &str) -> bool {
        leaves("", &self.case["expected"]).iter().any(|(other, _)| other == path)
    }

    fn ours(&self, path: &str) -> Fallible<Value> {
        match self.case["kind"].as_str() {
            Some("rollout") => self.levels(path),
            Some("rollout_variants") => self.variants(path),
            Some("rollout_gradient") => self.weighted(path),
            Some("attention_flow") => self.flow(path),
            Some("rollout_causal") => self.causal(path),
            Some("metric") => self.correlation(path),
            Some("display") => self.display(path),
            other => Err(format!("the kind {other:?} is not known").into()),
        }
    }

    /// The maps, `L × (1,h,t,t)`: the case's own, or those of the case it refers to.
    fn maps(&self) -> Fallible<Vec<Tensor>> {
        let input = match self.case["input_ref"].as_str() {
            Some(id) => &self.file.iter().find(|case| case["id"] == id).ok_or("a reference to no case")?["input"],
            None => &self.case["input"],
        };
        for (field, value) in input.as_object().ok_or("a case without an input")? {
            if let Some(scale) = field.strip_prefix("attention_times_") {
                return layers(&(Value::nested(value)?.tensor(DType::F64)? / scale.parse::<f64>()?)?);
            }
        }
        Err("an input without attention".into())
    }

    /// Maps as figures have them: brought to between 0 and 1, as a mask on a picture, enlarged.
    fn display(&self, path: &str) -> Fallible<Value> {
        let input = |name: &str| Value::nested(&self.case["input"][name])?.tensor(DType::F64);
        let map = input("rollout")?;
        let line = |how| -> Fallible<Value> {
            let line = input("bicubic_in")?;
            let enlarged = resample(&line.unsqueeze(0)?, 1, 2 * line.dim(0)?, how)?;
            Value::of(&enlarged.squeeze(0)?)
        };
        match path {
            "minmax" => Value::of(&min_max(&map)?),
            "mask" => Value::of(&min_max(&map)?.gt(0.2)?),
            "overlay_chw" => Value::of(&red_mask(&input("image_chw")?, &map, 0.2)?),
            "bilinear_x2" => Value::of(&resample(&input("bilinear_in")?, 4, 4, Interpolation::Bilinear)?),
            "bicubic1d_x2_a075" => line(Interpolation::Bicubic),
            "bicubic1d_x2_a05" => line(Interpolation::CatmullRom),
            _ => Err(unknown(path)),
        }
    }

    fn levels(&self, path: &str) -> Fallible<Value> {
        let levels = rollout_levels(&self.maps()?, &Rollout::default())?;
        let top = levels[levels.len() - 1].squeeze(0)?;
        match path {
            "cls_patches" => patches(&top),
            "row_sums" => Value::of(&top.sum(1)?),
            _ => {
                let level: usize = path.strip_prefix("level").ok_or_else(|| unknown(path))?.parse()?;
                Value::of(&levels.get(level - 1).ok_or_else(|| unknown(path))?.squeeze(0)?)
            }
        }
    }

    fn variants(&self, path: &str) -> Fallible<Value> {
        let maps = self.maps()?;
        let Some((setting, field)) = path.split_once('/') else { return plain_first_field(&maps, path) };
        let (name, discard) = setting.split_once('_').ok_or_else(|| unknown(path))?;
        let options = Rollout { fusion: fusion(name)?, discard: discard.parse()?, ..Rollout::default() };
        let rolled = rollout(&maps, &options)?.squeeze(0)?;
        match field {
            "row_normalised/rollout" => Value::of(&rolled),
            "row_normalised/cls_mask_2x2" | "mask_3x3" => square(&over_max(&patches(&rolled)?)?),
            "cls_row" => Value::of(&rolled.get(0)?),
            _ => Err(unknown(path)),
        }
    }

    fn weighted(&self, path: &str) -> Fallible<Value> {
        let gradients = Value::nested(&self.case["gradients_times_100"])?.tensor(DType::F64)?;
        let why = AttentionGradients { patterns: self.maps()?, gradients: layers(&(gradients / 100.0)?)? };
        let map = match path {
            "gae" | "chefer_unnormalised" => gae(&why)?,
            "chefer_normalised" => gae_normalised(&why)?,
            "vit_explain_fixed" => gradient_rollout(&why, &Rollout::default())?,
            _ => return Err(unknown(path)),
        };
        Value::of(&map.squeeze(0)?)
    }

    fn flow(&self, path: &str) -> Fallible<Value> {
        let maps = self.maps()?;
        let flow = |maps: &[Tensor]| attention_flow(maps, &Rollout::default())?.squeeze(0).map_err(Error::from);
        match path.split_once('/') {
            None if path == "rollout_top" => Value::of(&rollout(&maps, &Rollout::default())?.squeeze(0)?),
            None if path == "normalised_top" => {
                let top = flow(&maps)?;
                Value::of(&top.broadcast_div(&top.sum_keepdim(1)?)?)
            }
            Some(("flow_units_1_400", level)) => Value::of(&(flow(&maps[..level.parse()?])? * 400.0)?),
            _ => Err(unknown(path)),
        }
    }

    fn causal(&self, path: &str) -> Fallible<Value> {
        if let Some(size) = path.strip_prefix("uniform_null_mass/") {
            return position_alone(size);
        }
        let rolled = causal_rollout(&self.maps()?, &Rollout::default())?;
        let last = rolled.null.dim(0)? - 1;
        match path {
            "rollout" => Value::of(&rolled.raw.squeeze(0)?),
            "null" => Value::of(&rolled.null),
            "rf_reweighted" => Value::of(&rolled.reweighted.squeeze(0)?),
            "lift_last_row" => Value::of(&rolled.lift()?.i((0, last))?),
            _ => Err(unknown(path)),
        }
    }

    fn correlation(&self, path: &str) -> Fallible<Value> {
        let list = |name: &str| Value::nested(&self.case["input"][name]);
        match path {
            "scipy" => Ok(rank_correlation(list("x")?.numbers()?, list("y")?.numbers()?)?.into()),
            _ => Err(unknown(path)),
        }
    }

    /// Laws in words, and an example of one.
    fn properties(&self) -> Fallible<Vec<Check>> {
        let laws: Vec<String> = serde_json::from_value(self.case["checks"].clone())?;
        let maps = self.file.iter().find(|case| case["kind"] == "rollout").ok_or("no case to hold the laws against")?;
        let maps = Case { case: maps, file: self.file }.maps()?;
        let mut checks: Vec<_> =
            laws.iter().map(|law| Ok(exact(law, law_gap(law, &maps)?))).collect::<Fallible<_>>()?;
        checks.push(exact("uniform_example", uniform_gap(&self.case["uniform_example"])?));
        Ok(checks)
    }
}

/// The numbers of a nested object, each with its path.
fn leaves<'a>(path: &str, json: &'a Json) -> Vec<(String, &'a Json)> {
    match json {
        Json::Object(fields) => {
            let slash = if path.is_empty() { "" } else { "/" };
            fields.iter().flat_map(|(name, inner)| leaves(&format!("{path}{slash}{name}"), inner)).collect()
        }
        leaf => vec![(path.into(), leaf)],
    }
}

/// BoCtrl-C's variant, and how far it is from the rollout.
fn plain_first_field(maps: &[Tensor], path: &str) -> Fallible<Value> {
    let plain = plain_first(maps, &Rollout::default())?.squeeze(0)?;
    match path {
        "rollout" => Value::of(&plain),
        "cls_patches" => patches(&plain),
        "minmax_2x2" => square(&over_max(&above_min(&patches(&plain)?)?)?),
        "max_abs_diff_vs_canonical" => {
            Ok(Value::of(&plain)?.distance(&Value::of(&rollout(maps, &Rollout::default())?.squeeze(0)?)?).into())
        }
        _ => Err(unknown(path)),
    }
}

/// `(t,t)` → the class token's row without itself.
fn patches(rolled: &Tensor) -> Fallible<Value> {
    Value::of(&rolled.get(0)?.narrow(0, 1, rolled.dim(0)? - 1)?)
}

fn over_max(row: &Value) -> Fallible<Value> {
    let max = row.numbers()?.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(row.numbers()?.iter().map(|x| x / max).collect::<Vec<_>>().as_slice().into())
}

fn above_min(row: &Value) -> Fallible<Value> {
    let min = row.numbers()?.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(row.numbers()?.iter().map(|x| x - min).collect::<Vec<_>>().as_slice().into())
}

/// A row as the square it was read from.
fn square(row: &Value) -> Fallible<Value> {
    let side = row.numbers()?.len().isqrt();
    Ok(Value::Numbers(vec![side, side], row.numbers()?.to_vec()))
}

/// `L12_N64/token0`: the last row of uniform causal attention's rollout, summed over the first tokens or the last.
fn position_alone(path: &str) -> Fallible<Value> {
    let (size, field) = path.split_once('/').ok_or_else(|| unknown(path))?;
    let (depth, t) = size.strip_prefix('L').and_then(|size| size.split_once("_N")).ok_or_else(|| unknown(path))?;
    let (depth, t): (usize, usize) = (depth.parse()?, t.parse()?);
    let map: Vec<f64> = (0..t * t).map(|n| if n % t <= n / t { 1.0 / (n / t + 1) as f64 } else { 0.0 }).collect();
    let map = Tensor::from_vec(map, (1, 1, t, t), &device()?)?;
    let rolled = causal_rollout(&vec![map; depth], &Rollout::default())?;
    let null = rolled.null.get(t - 1)?.to_vec1::<f64>()?;
    match field {
        "token0" => Ok(null[0].into()),
        "first_10pct" => Ok(null[..t / 10].iter().sum::<f64>().into()),
        "last" => Ok(null[t - 1].into()),
        _ => Err(unknown(path)),
    }
}

/// The largest deviation from a law in words, for these maps.
fn law_gap(law: &str, maps: &[Tensor]) -> Fallible<f64> {
    let (plain, t) = (Rollout::default(), maps[0].dim(3)?);
    let rolled = rollout(maps, &plain)?;
    let uniform = |n: usize, depth: usize| serde_json::json!({"N": n, "L": depth, "diag": null, "off": null});
    match law {
        "identity attention -> rollout = I for any depth" => {
            let identity = Tensor::eye(t, DType::F64, maps[0].device())?.reshape((1, 1, t, t))?;
            gap(&rollout(&vec![identity.clone(); 7], &plain)?, &identity.squeeze(1)?)
        }
        "uniform attention (1/N), L layers: Rollout = (1-2^-L)/N * ones + 2^-L * I" => uniform_gap(&uniform(t, 6)),
        "rows of the canonical rollout sum to 1 at every level" => {
            let sums = rollout_levels(maps, &plain)?.iter().map(|level| level.sum(2)).collect::<Result<Vec<_>, _>>()?;
            let sums = Tensor::stack(&sums, 0)?;
            gap(&sums, &sums.ones_like()?)
        }
        "level-1 rollout = level-1 flow = 0.5A+0.5I (before flow row normalisation: equal already)" => {
            let identity = Tensor::eye(t, DType::F64, maps[0].device())?;
            let mixed = (maps[0].mean(1)?.broadcast_add(&identity)? * 0.5)?;
            let first = &maps[..1];
            Ok(gap(&rollout(first, &plain)?, &mixed)?.max(gap(&attention_flow(first, &plain)?, &mixed)?))
        }
        "permuting patches permutes rows and columns of the rollout" => {
            let order: Vec<u32> = std::iter::once(0).chain((1..t as u32).rev()).collect();
            let order = Tensor::new(order, maps[0].device())?;
            let permuted = |map: &Tensor, axis: usize| map.index_select(&order, axis)?.index_select(&order, axis + 1);
            let maps: Vec<_> = maps.iter().map(|map| permuted(map, 2)).collect::<Result<_, _>>()?;
            gap(&rollout(&maps, &plain)?, &permuted(&rolled, 1)?)
        }
        "mean over top-layer heads of per-head rollout = rollout" => {
            gap(&rollout_heads(maps, &plain)?.mean(1)?, &rolled)
        }
        "GAE update equals product of (I+cam)" => {
            let gradients: Vec<_> =
                maps.iter().map(|map| (map.sin()? - 0.2)?.affine(3.0, 0.1)).collect::<Result<_, _>>()?;
            let identity = Tensor::eye(t, DType::F64, maps[0].device())?.unsqueeze(0)?;
            let mut relevance = identity.clone();
            for (map, gradient) in maps.iter().zip(&gradients) {
                relevance = (&relevance + (map * gradient)?.relu()?.mean(1)?.matmul(&relevance)?)?;
            }
            gap(&gae(&AttentionGradients { patterns: maps.to_vec(), gradients })?, &relevance)
        }
        _ => Err(format!("the law «{law}» is not known").into()),
    }
}

/// Uniform attention's rollout against its closed form, and against the numbers of an example if it gives some.
fn uniform_gap(example: &Json) -> Fallible<f64> {
    let size = |name: &str| Ok::<_, String>(example[name].as_u64().ok_or(format!("no size `{name}`"))? as usize);
    let (n, depth) = (size("N")?, size("L")?);
    let map = Tensor::full(1.0 / n as f64, (1, 1, n, n), &device()?)?;
    let rolled = rollout(&vec![map; depth], &Rollout::default())?.squeeze(0)?.to_vec2::<f64>()?;
    let kept = 0.5f64.powi(depth as i32);
    let off = (1.0 - kept) / n as f64;
    let given = |name: &str, closed: f64| example[name].as_f64().map_or(0.0, |given| (given - closed).abs());
    let cells = (0..n * n).map(|cell| (cell / n, cell % n));
    let deviations = cells.map(|(i, j)| (rolled[i][j] - off - if i == j { kept } else { 0.0 }).abs());
    Ok(largest(deviations.chain([given("diag", off + kept), given("off", off)])))
}

fn gap(a: &Tensor, b: &Tensor) -> Fallible<f64> {
    Ok(Value::of(a)?.distance(&Value::of(b)?))
}

fn exact(law: &str, err: f64) -> Check {
    Check { field: law.into(), err, tol: 1e-12 }
}

fn unknown(path: &str) -> Box<dyn std::error::Error> {
    format!("the expected field `{path}` is not known").into()
}
