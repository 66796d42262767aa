//! Curves, points and bars, before they are drawn.

use super::columns::first;
use super::labels::{headline, names};
use super::law::law;
use crate::attribution::Attribution;
use crate::integrated_gradients::Convergence;
use crate::{Error, Result};

/// A named curve, or named points.
///
/// ```
/// # use pellucid::prelude::*;
/// let falling = Series { name: "1/n".into(), points: (1..5).map(|n| (f64::from(n), 1.0 / f64::from(n))).collect() };
/// let chart = Chart::curves("A gap that falls", "steps", "gap", vec![falling]).log_log();
/// assert!(chart.text().contains("1/n") && chart.svg().unwrap().contains("steps"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// (x, y); x ascending for curves.
    pub points: Vec<(f64, f64)>,
}

/// Curves over a common x, points, or one bar per label.
///
/// ```
/// # use pellucid::prelude::*;
/// let chart = Chart::bars("Drops", "nats", vec![("loved".into(), 2.5), ("not".into(), -1.0)]).note("of two words");
/// assert!(chart.text().contains("loved") && chart.html().contains("of two words"));
/// ```
#[derive(Clone, Debug)]
pub struct Chart {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) log: bool,
    pub(super) diagonal: bool,
    pub(super) data: Data,
    /// From where to where each point of each curve may lie; empty if that is not known.
    pub(super) bands: Vec<Band>,
    pub(super) note: String,
}

/// From where to where each point of a curve may lie.
pub(super) type Band = Vec<(f64, f64)>;

#[derive(Clone, Debug)]
pub(super) enum Data {
    Curves(Vec<Series>),
    Points(Vec<Series>),
    Bars(Vec<(String, f64)>),
}

impl Chart {
    /// Curves, with what the axes show.
    pub fn curves(title: &str, x: &str, y: &str, series: Vec<Series>) -> Self {
        Self::of(title, x, y, Data::Curves(series))
    }

    /// Points in any order, a circle each, with what the axes show: such as what a surrogate predicts over what the model said.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let points = vec![(-2.0, -1.5), (3.0, 2.5), (0.5, 0.0)];
    /// let masks = vec![Series { name: "masks".into(), points }];
    /// let chart = Chart::scatter("Log-odds", "actual", "predicted", masks).diagonal();
    /// assert!(chart.text().contains("3 points, x from −2 to 3, y from −1.5 to 2.5, rank correlation 1"));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn scatter(title: &str, x: &str, y: &str, series: Vec<Series>) -> Self {
        Self::of(title, x, y, Data::Points(series))
    }

    /// One horizontal bar per label, top to bottom. Of more than 200 the first 200 are drawn.
    pub fn bars(title: &str, x: &str, bars: Vec<(String, f64)>) -> Self {
        Self::of(title, x, "", Data::Bars(bars))
    }

    fn of(title: &str, x: &str, y: &str, data: Data) -> Self {
        let (title, x, y) = (title.into(), x.into(), y.into());
        Self { title, x, y, log: false, diagonal: false, data, bands: Vec::new(), note: String::new() }
    }

    /// Both axes logarithmic; points that are not positive are left out.
    pub fn log_log(self) -> Self {
        Self { log: true, ..self }
    }

    /// With the line y = x, thin and grey, and both axes from the least to the greatest number of either. Bars have none.
    pub fn diagonal(self) -> Self {
        Self { diagonal: true, ..self }
    }

    /// With a band around every curve: for each of its points, from where to where y may lie, as the ends of an interval.
    ///
    /// Errors: not a chart of curves; not a pair of finite numbers per point, the lower first.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let curve = Series { name: "mean".into(), points: vec![(0.0, 1.0), (1.0, 0.5)] };
    /// let chart = Chart::curves("Deletion", "fraction", "p", vec![curve]).between(vec![vec![(1.0, 1.0), (0.4, 0.7)]])?;
    /// assert!(chart.text().contains("0: 1 (1 to 1)  1: 0.5 (0.4 to 0.7)"));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn between(self, bands: Vec<Vec<(f64, f64)>>) -> Result<Self> {
        let Data::Curves(series) = &self.data else {
            return Err(Error::argument("only curves have bands: a table has intervals with `ScoreTable::between`"));
        };
        let (points, ends) = (series.iter().map(|s| s.points.len()), bands.iter().map(Vec::len));
        if !points.clone().eq(ends.clone()) {
            let wanted = format!("{:?}, a pair per point of each curve", points.collect::<Vec<_>>());
            return Err(Error::shape("the bands", wanted, &ends.collect::<Vec<_>>()));
        }
        match bands.iter().flatten().find(|(low, high)| !(low.is_finite() && high.is_finite() && low <= high)) {
            None => Ok(Self { bands, ..self }),
            Some((low, high)) => {
                Err(Error::argument(format!("a band goes from {low} to {high}: the lower ends come first")))
            }
        }
    }

    /// With a line of text underneath.
    pub fn note(self, note: &str) -> Self {
        Self { note: note.into(), ..self }
    }

    /// The bars that are drawn, which are the first 200, and how many are left out.
    pub(super) fn bars_drawn(&self) -> (&[(String, f64)], Option<String>) {
        let Data::Bars(bars) = &self.data else { return (&[], None) };
        first(bars)
    }

    /// The points that can be drawn.
    pub(super) fn drawn<'a>(&self, series: &'a Series) -> impl Iterator<Item = (f64, f64)> + 'a {
        let log = self.log;
        let finite = series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
        finite.filter(move |(x, y)| !log || (*x > 0.0 && *y > 0.0))
    }

    /// The band of a curve that can be drawn: x, and from where to where.
    pub(super) fn band(&self, curve: usize) -> Vec<(f64, (f64, f64))> {
        let Data::Curves(series) = &self.data else { return Vec::new() };
        let points = series[curve].points.iter().map(|point| point.0);
        let ends = points.zip(self.bands.get(curve).into_iter().flatten().copied());
        ends.filter(|(x, (low, _))| x.is_finite() && (!self.log || (*x > 0.0 && *low > 0.0))).collect()
    }

    /// The ends of the line y = x: the least and the greatest number that is drawn. `None` if there is no such line.
    pub(super) fn ends(&self) -> Option<[f64; 2]> {
        let (Data::Curves(series) | Data::Points(series)) = &self.data else { return None };
        let drawn = series.iter().flat_map(|series| self.drawn(series)).flat_map(|(x, y)| [x, y]);
        let ends = drawn.map(|v| [v, v]).reduce(|ends, v| [ends[0].min(v[0]), ends[1].max(v[1])]);
        ends.filter(|_| self.diagonal)
    }
}

impl Attribution {
    /// The scores as bars, in the text's order.
    pub fn bars(&self) -> Chart {
        let bars = names(self).into_iter().zip(self.scores.iter().copied()).collect();
        Chart::bars(&headline(self), "score", bars).note(&law(self))
    }
}

impl Convergence {
    /// The relative completeness gap over the number of steps, one curve per rule.
    pub fn chart(&self) -> Chart {
        let points = |gaps: &[(usize, f64)]| gaps.iter().map(|&(n, gap)| (n as f64, gap)).collect();
        let series = self.curves.iter().map(|(rule, gaps)| Series { name: rule.to_string(), points: points(gaps) });
        let title = "Relative completeness gap over steps";
        let note = format!("lower is better; both axes logarithmic{}", self.exact());
        Chart::curves(title, "steps", "relative gap", series.collect()).log_log().note(&note)
    }

    /// What a logarithmic axis cannot show, in words.
    fn exact(&self) -> String {
        let zeros = self.curves.iter().filter_map(|(rule, gaps)| {
            let at: Vec<_> = gaps.iter().filter(|(_, gap)| *gap == 0.0).map(|(n, _)| n.to_string()).collect();
            (!at.is_empty()).then(|| format!("{rule} at {}", at.join(", ")))
        });
        let zeros: Vec<_> = zeros.collect();
        if zeros.is_empty() { String::new() } else { format!("; exactly 0, so not drawn: {}", zeros.join("; ")) }
    }
}
