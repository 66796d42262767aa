//! What was asked for on the command line.

use std::path::{Path, PathBuf};

use super::{Fallible, device};

/// How large the models are, and how much they are asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Tiny, one round: whether all of it works.
    Dry,
    /// Models of 20 to 30 million parameters.
    Laptop,
    /// The configurations of published models, with random weights.
    Real,
}

const SCALES: [(&str, Scale); 3] = [("dry", Scale::Dry), ("laptop", Scale::Laptop), ("real", Scale::Real)];

/// One run of a bench.
#[derive(Clone, Debug)]
pub struct Plan {
    pub scale: Scale,
    /// `f32` or, on a GPU, `bf16`.
    pub dtype: String,
    /// So many for every racer.
    pub threads: usize,
    /// The rows that were asked for; all, if none.
    pub names: Vec<String>,
}

impl Plan {
    /// From `[NAME …] [--scale dry|laptop|real] [--dtype f32|bf16] [--threads N]`; cargo adds `--bench`.
    ///
    /// Errors: anything else.
    pub fn asked(arguments: &[String]) -> Fallible<Self> {
        let mut plan = Self::usual()?;
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--scale" => plan.scale = one_of(&SCALES, value()?)?,
                "--dtype" => plan.dtype = one_of(&[("f32", "f32"), ("bf16", "bf16")], value()?)?.into(),
                "--threads" => plan.threads = value()?.parse()?,
                option if option.starts_with("--") => {
                    return Err(format!("no option {option}: there are --scale, --dtype and --threads").into());
                }
                name => plan.names.push(name.into()),
            }
        }
        match plan.dtype == "bf16" && device::name() == "cpu" {
            true => Err("bf16 is for GPUs: PELLUCID_DEVICE=cuda:0".into()),
            false => Ok(plan),
        }
    }

    /// What is meant where nothing is said: the scale of a laptop, in `f32`, on all cores, all rows.
    fn usual() -> Fallible<Self> {
        let threads = std::thread::available_parallelism()?.get();
        Ok(Self { scale: Scale::Laptop, dtype: "f32".into(), threads, names: Vec::new() })
    }

    /// What its files are named after: the scale, and all else that makes its figures others than the usual ones,
    /// `real-bf16-cuda0`, `laptop-1-threads`.
    pub fn label(&self) -> Fallible<String> {
        let usual = Self::usual()?;
        let dtype = (self.dtype != usual.dtype).then(|| self.dtype.clone());
        let device = (device::name() != "cpu").then(|| device::name().replace(':', ""));
        let threads = (self.threads != usual.threads).then(|| format!("{}-threads", self.threads));
        let unusual = [dtype, device, threads].into_iter().flatten();
        Ok([self.scale_name().to_owned()].into_iter().chain(unusual).collect::<Vec<_>>().join("-"))
    }

    /// Whether something by one of these names was asked for.
    pub fn wants(&self, names: &[&str]) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| names.contains(&name.as_str()))
    }

    /// That every name on the command line is one of these.
    ///
    /// Errors: one is not.
    pub fn knows(&self, kind: &str, names: &[&str]) -> Fallible<()> {
        match self.names.iter().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(format!("no {kind} {name}: there are {}", names.join(", ")).into()),
            None => Ok(()),
        }
    }

    /// The rest of the plan, if this is its first name.
    pub fn after(&self, name: &str) -> Option<Self> {
        let (first, rest) = self.names.split_first()?;
        (first == name).then(|| Self { names: rest.to_vec(), ..self.clone() })
    }

    /// The name of the scale.
    pub fn scale_name(&self) -> &'static str {
        SCALES.iter().find(|(_, scale)| *scale == self.scale).map_or("", |(name, _)| name)
    }
}

fn one_of<T: Copy>(choices: &[(&str, T)], value: &str) -> Fallible<T> {
    let found = choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice);
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    found.ok_or_else(|| format!("not {value}, but one of {}", names.join(", ")).into())
}

/// The folder that cargo builds into.
pub fn target() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary).to_owned()
}

/// The folder of the repository.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
