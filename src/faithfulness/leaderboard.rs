//! Methods × measures over a set of examples: which explanation should be trusted?

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::agreement::rank_correlation;
use crate::bootstrap::{Bootstrap, Estimate, bootstrap_mean, mean};
use crate::progress::Progress;
use crate::tensor::finite;
use crate::{Error, Result};

/// How one method did on one example.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::Row;
/// let row = Row::of("gradient").score("SRG", 0.8).score("infidelity", 0.1);
/// assert_eq!(row.scores[1], ("infidelity".to_string(), 0.1));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The method.
    pub method: String,
    /// What was measured, and what came out.
    pub scores: Vec<(String, f64)>,
}

impl Row {
    /// A method that nothing is known of yet.
    pub fn of(method: &str) -> Self {
        Self { method: method.into(), scores: Vec::new() }
    }

    /// With one more measurement.
    pub fn score(mut self, metric: &str, value: f64) -> Self {
        self.scores.push((metric.into(), value));
        self
    }
}

/// What came out of every method by every metric, example by example; shown, it is a table of means with their intervals.
///
/// ```
/// # use pellucid::prelude::*;
/// use pellucid::faithfulness::{Leaderboard, Row};
/// let board = Leaderboard::over(20, |example| {
///     let luck = f64::from(example as u32 % 5);
///     Ok(vec![
///         Row::of("good").score("hits", 10.0 + luck).score("misses", 1.0),
///         Row::of("bad").score("hits", 8.0 + luck).score("misses", 3.0),
///     ])
/// })?;
/// let board = board.lower_is_better(&["misses"])?.sorted_by("misses")?;
/// assert_eq!(board.methods(), ["good", "bad"]);
/// assert_eq!(board.difference("good", "bad", "hits")?.low, 2.0);
/// println!("{}", board.text());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Leaderboard {
    methods: Vec<String>,
    metrics: Vec<String>,
    /// Of which metrics less is better.
    lower: BTreeSet<String>,
    /// Method by method, metric by metric, one for each example that has it.
    values: Vec<Vec<Vec<Option<f64>>>>,
    bootstrap: Bootstrap,
}

/// A leaderboard as it is written, to be checked when it is read.
#[derive(Deserialize)]
struct Written {
    methods: Vec<String>,
    metrics: Vec<String>,
    lower: BTreeSet<String>,
    values: Vec<Vec<Vec<Option<f64>>>>,
    bootstrap: Bootstrap,
}

impl TryFrom<Written> for Leaderboard {
    type Error = Error;

    fn try_from(Written { methods, metrics, lower, values, bootstrap }: Written) -> Result<Self> {
        let examples = values.first().and_then(|row| row.first()).map_or(0, Vec::len);
        let whole = |row: &Vec<Vec<_>>| row.len() == metrics.len() && row.iter().all(|cell| cell.len() == examples);
        if examples == 0 || values.len() != methods.len() || !values.iter().all(whole) {
            return Err(Error::argument(
                "a leaderboard has a number for each of its methods, metrics and examples, or null",
            ));
        }
        unique(methods.iter(), "the leaderboard")?;
        unique(metrics.iter(), "the leaderboard")?;
        finite("a score", &values.iter().flatten().flatten().flatten().copied().collect::<Vec<_>>())?;
        let board = Self { methods, metrics, lower: BTreeSet::new(), values, bootstrap: Bootstrap::default() };
        board.lower_is_better(&lower.iter().map(String::as_str).collect::<Vec<_>>())?.with_bootstrap(bootstrap)
    }
}

impl Leaderboard {
    /// A function that scores methods on example 0, 1, … → all of it, with progress.
    ///
    /// A method may lack a metric, as one without a law has no completeness error, and an example may lack a method.
    ///
    /// Errors: those of the function and of [`new`](Self::new).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::faithfulness::{Leaderboard, Row};
    /// let board = Leaderboard::over(20, |example| Ok(vec![Row::of("gradient").score("hits", f64::from(example as u32 % 2))]))?;
    /// assert_eq!((board.examples(), board.estimate("gradient", "hits")?.unwrap().mean), (20, 0.5));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn over(examples: usize, score: impl Fn(usize) -> Result<Vec<Row>>) -> Result<Self> {
        let mut progress = Progress::new("leaderboard, examples", examples);
        let one = |example| {
            let rows = score(example);
            progress.advance(1);
            rows
        };
        Self::new((0..examples).map(one).collect::<Result<_>>()?)
    }

    /// What came out, example by example.
    ///
    /// Errors: nothing came out; a number that is not finite; a method twice in an example, or a metric twice in a row.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::faithfulness::{Leaderboard, Row};
    /// let hits = |count| Row::of("a").score("hits", count);
    /// let board = Leaderboard::new(vec![vec![hits(1.0), Row::of("b")], vec![hits(0.0)]])?;
    /// assert_eq!(board.values("a", "hits")?, [Some(1.0), Some(0.0)]);
    /// assert_eq!(board.values("b", "hits")?, [None, None]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn new(examples: Vec<Vec<Row>>) -> Result<Self> {
        let rows = || examples.iter().flatten();
        let methods = distinct(rows().map(|row| &row.method));
        let metrics = distinct(rows().flat_map(|row| &row.scores).map(|(metric, _)| metric));
        if metrics.is_empty() {
            return Err(Error::argument("no method was scored on any example"));
        }
        let mut values = vec![vec![vec![None; examples.len()]; metrics.len()]; methods.len()];
        for (example, rows) in examples.iter().enumerate() {
            unique(rows.iter().map(|row| &row.method), &format!("example {example}"))?;
            for row in rows {
                unique(row.scores.iter().map(|(metric, _)| metric), &format!("{} of example {example}", row.method))?;
                for (metric, value) in &row.scores {
                    finite(&format!("{metric} of {}", row.method), &[*value])?;
                    let (method, metric) =
                        (place(&methods, &row.method, "method")?, place(&metrics, metric, "metric")?);
                    values[method][metric][example] = Some(*value);
                }
            }
        }
        Ok(Self { methods, metrics, lower: BTreeSet::new(), values, bootstrap: Bootstrap::default() })
    }

    /// With metrics of which less is better; of others, more is.
    ///
    /// Errors: no such metric.
    pub fn lower_is_better(mut self, metrics: &[&str]) -> Result<Self> {
        for metric in metrics {
            place(&self.metrics, metric, "metric")?;
            self.lower.insert((*metric).into());
        }
        Ok(self)
    }

    /// With other intervals than those of 1000 draws that hold the middle 95 %.
    ///
    /// Errors: fewer than 20 draws, or a level not between 0 and 1.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::faithfulness::{Leaderboard, Row};
    /// let board = Leaderboard::over(20, |example| Ok(vec![Row::of("a").score("hits", f64::from(example as u32 % 2))]))?;
    /// let wide = board.estimate("a", "hits")?.unwrap();
    /// let narrow = board.with_bootstrap(Bootstrap { level: 0.5, ..Bootstrap::default() })?.estimate("a", "hits")?.unwrap();
    /// assert!(narrow.high - narrow.low < wide.high - wide.low);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn with_bootstrap(self, bootstrap: Bootstrap) -> Result<Self> {
        bootstrap.drawn(1)?;
        Ok(Self { bootstrap, ..self })
    }

    /// The methods, row by row.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// The metrics, column by column.
    pub fn metrics(&self) -> &[String] {
        &self.metrics
    }

    /// How many examples there are.
    pub fn examples(&self) -> usize {
        self.values[0][0].len()
    }

    /// Whether less of a metric is better.
    pub fn is_lower_better(&self, metric: &str) -> bool {
        self.lower.contains(metric)
    }

    /// How the intervals are drawn.
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }

    /// What a method has by a metric, example by example.
    ///
    /// Errors: no such method, or no such metric.
    pub fn values(&self, method: &str, metric: &str) -> Result<&[Option<f64>]> {
        let (row, column) = (place(&self.methods, method, "method")?, place(&self.metrics, metric, "metric")?);
        Ok(&self.values[row][column])
    }

    /// The same of the examples that have it.
    fn known(&self, method: &str, metric: &str) -> Result<Vec<f64>> {
        Ok(self.values(method, metric)?.iter().copied().flatten().collect())
    }

    /// A method's mean by a metric, over the examples that have it; `None` if there are none.
    ///
    /// Errors: no such method or metric; those of [`bootstrap_mean`].
    pub fn estimate(&self, method: &str, metric: &str) -> Result<Option<Estimate>> {
        let values = self.known(method, metric)?;
        (!values.is_empty()).then(|| bootstrap_mean(&values, &self.bootstrap)).transpose()
    }

    /// The mean of a method's number less another's, over the examples that have both: the interval that says whether one is
    /// better.
    ///
    /// Errors: no such method or metric; no example with both; those of [`bootstrap_mean`].
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::faithfulness::{Leaderboard, Row};
    /// let board = Leaderboard::over(20, |example| {
    ///     let luck = f64::from(example as u32 % 5);
    ///     Ok(vec![Row::of("good").score("hits", 3.0 + luck), Row::of("bad").score("hits", 1.0 + luck)])
    /// })?;
    /// let gain = board.difference("good", "bad", "hits")?;
    /// assert_eq!((gain.low, gain.mean, gain.high), (2.0, 2.0, 2.0));    // luck is the same for both
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn difference(&self, method: &str, other: &str, metric: &str) -> Result<Estimate> {
        let pairs = self.values(method, metric)?.iter().zip(self.values(other, metric)?);
        let differences: Vec<f64> = pairs.filter_map(|(a, b)| Some((*a)? - (*b)?)).collect();
        bootstrap_mean(&differences, &self.bootstrap)
    }

    /// The best first by a metric; methods without it last.
    ///
    /// Errors: no such metric.
    pub fn sorted_by(&self, metric: &str) -> Result<Self> {
        let goodness = |method: &String| Ok(self.goodness(method, metric)?.unwrap_or(f64::NEG_INFINITY));
        let goodness = self.methods.iter().map(goodness).collect::<Result<Vec<f64>>>()?;
        let mut order: Vec<usize> = (0..self.methods.len()).collect();
        order.sort_by(|&a, &b| goodness[b].total_cmp(&goodness[a]));
        let methods = order.iter().map(|&i| self.methods[i].clone()).collect();
        let values = order.iter().map(|&i| self.values[i].clone()).collect();
        Ok(Self { methods, values, ..self.clone() })
    }

    /// Whether two metrics put the methods in the same order: Spearman's rank correlation of their means over the methods that
    /// have both, 1 if what is best by one is best by the other.
    ///
    /// Errors: no such metric; fewer than two methods with both, or all alike by one.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::faithfulness::{Leaderboard, Row};
    /// let did = |method, hits, misses| Row::of(method).score("hits", hits).score("misses", misses);
    /// let board = Leaderboard::new(vec![vec![did("a", 3.0, 1.0), did("b", 2.0, 5.0)]])?.lower_is_better(&["misses"])?;
    /// assert_eq!(board.agreement("hits", "misses")?, 1.0);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn agreement(&self, metric: &str, other: &str) -> Result<f64> {
        let both = |method: &String| Ok(self.goodness(method, metric)?.zip(self.goodness(method, other)?));
        let both = self.methods.iter().map(both).collect::<Result<Vec<_>>>()?;
        let (a, b): (Vec<f64>, Vec<f64>) = both.into_iter().flatten().unzip();
        rank_correlation(&a, &b)
    }

    /// The mean, with its sign turned where less is better.
    fn goodness(&self, method: &str, metric: &str) -> Result<Option<f64>> {
        let values = self.known(method, metric)?;
        let sign = if self.is_lower_better(metric) { -1.0 } else { 1.0 };
        Ok((!values.is_empty()).then(|| sign * mean(values.into_iter())))
    }
}

/// In the order in which they first come.
fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(name.as_str())).cloned().collect()
}

/// Errors if a name comes twice.
fn unique<'a>(mut names: impl Iterator<Item = &'a String>, within: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.find(|name| !seen.insert(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::argument(format!(
            "`{name}` came twice in {within}: one row holds all scores of a method, each once"
        ))),
    }
}

fn place(names: &[String], name: &str, kind: &str) -> Result<usize> {
    let missing = || Error::argument(format!("there is no {kind} `{name}`; there are {}", names.join(", ")));
    names.iter().position(|known| known == name).ok_or_else(missing)
}
