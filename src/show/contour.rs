//! Iso-lines of a map: marching squares (Lorensen & Cline 1987, in the plane), their segments joined to lines.

use std::collections::BTreeMap;

use image::{Rgb, RgbImage};

use super::palette::outline;

/// A line at one level, in pixels of the picture.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub level: f64,
    pub points: Vec<(f64, f64)>,
}

/// Values at the middles of `rows` × `columns` cells that cover a picture.
pub(super) struct Field<'a> {
    pub values: &'a [f64],
    pub rows: usize,
    pub columns: usize,
    pub picture: (u32, u32),
}

/// An edge between a node and the one to its right, or below it.
type Edge = (usize, usize, bool);

impl Field<'_> {
    /// All lines at a level.
    pub fn lines(&self, level: f64) -> Vec<Line> {
        let chains = chains(self.segments(level));
        let point = |edge: &Edge| self.crossing(level, *edge);
        chains.iter().map(|chain| Line { level, points: chain.iter().map(point).collect() }).collect()
    }

    /// A node's value. Around the cells lies a border of nodes with their neighbours' values, so that lines reach the edge.
    fn value(&self, x: usize, y: usize) -> f64 {
        let (column, row) = (x.saturating_sub(1).min(self.columns - 1), y.saturating_sub(1).min(self.rows - 1));
        self.values[row * self.columns + column]
    }

    /// Where a node lies in the picture; the border's lie on its edge.
    fn place(&self, x: usize, y: usize) -> (f64, f64) {
        let along = |node: usize, cells: usize, length: u32| {
            ((node as f64 - 0.5) / cells as f64).clamp(0.0, 1.0) * f64::from(length)
        };
        (along(x, self.columns, self.picture.0), along(y, self.rows, self.picture.1))
    }

    /// Within every cell of four nodes, the edges that the level crosses, joined two by two.
    fn segments(&self, level: f64) -> Vec<(Edge, Edge)> {
        let above = |x: usize, y: usize| self.value(x, y) > level;
        let mut segments = Vec::new();
        for (y, x) in (0..=self.rows).flat_map(|y| (0..=self.columns).map(move |x| (y, x))) {
            let corners = [above(x, y), above(x + 1, y), above(x + 1, y + 1), above(x, y + 1)];
            let edges = [(x, y, true), (x + 1, y, false), (x, y + 1, true), (x, y, false)];
            let crossed: Vec<Edge> = (0..4).filter(|&i| corners[i] != corners[(i + 1) % 4]).map(|i| edges[i]).collect();
            let middle =
                [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)].map(|(x, y)| self.value(x, y)).iter().sum::<f64>();
            match crossed[..] {
                [a, b] => segments.push((a, b)),
                // A saddle: the middle says which two corners belong together.
                [top, right, bottom, left] if (middle / 4.0 > level) == corners[0] => {
                    segments.extend([(top, right), (bottom, left)]);
                }
                [top, right, bottom, left] => segments.extend([(left, top), (right, bottom)]),
                _ => {}
            }
        }
        segments
    }

    /// The point of an edge where the level lies, between the values of its ends.
    fn crossing(&self, level: f64, (x, y, right): Edge) -> (f64, f64) {
        let (x2, y2) = if right { (x + 1, y) } else { (x, y + 1) };
        let (from, to) = (self.value(x, y), self.value(x2, y2));
        let share = (level - from) / (to - from);
        let ((ax, ay), (bx, by)) = (self.place(x, y), self.place(x2, y2));
        (ax + share * (bx - ax), ay + share * (by - ay))
    }
}

/// Segments joined end to end: first those that end at the border, then the closed ones.
fn chains(segments: Vec<(Edge, Edge)>) -> Vec<Vec<Edge>> {
    let mut beside: BTreeMap<Edge, Vec<Edge>> = BTreeMap::new();
    for (a, b) in segments {
        beside.entry(a).or_default().push(b);
        beside.entry(b).or_default().push(a);
    }
    let (ends, rings): (Vec<Edge>, Vec<Edge>) = beside.keys().partition(|edge| beside[edge].len() == 1);
    let chains = ends.into_iter().chain(rings).map(|start| walk(&mut beside, start));
    chains.filter(|chain| chain.len() > 1).collect()
}

/// From an edge as far as segments lead, taking them away.
fn walk(beside: &mut BTreeMap<Edge, Vec<Edge>>, start: Edge) -> Vec<Edge> {
    let mut chain = vec![start];
    let mut at = start;
    while let Some(next) = beside.get_mut(&at).and_then(Vec::pop) {
        if let Some(back) = beside.get_mut(&next) {
            back.retain(|edge| *edge != at);
        }
        chain.push(next);
        at = next;
    }
    chain
}

/// Draws lines into a picture: coloured on white, dashed where negative.
pub(super) fn engrave(picture: &mut RgbImage, lines: &[Line]) {
    let dots = |line: &Line| dots(&line.points, line.level < 0.0);
    for (x, y) in lines.iter().flat_map(dots) {
        let around = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (x + dx, y + dy)));
        around.for_each(|(x, y)| dot(picture, x, y, [255; 3]));
    }
    for line in lines {
        dots(line).into_iter().for_each(|(x, y)| dot(picture, x, y, outline(line.level >= 0.0)));
    }
}

/// The pixels along a line; of a dashed one, every other four.
fn dots(points: &[(f64, f64)], dashed: bool) -> Vec<(i64, i64)> {
    let mut dots = Vec::new();
    for ends in points.windows(2) {
        let (dx, dy) = (ends[1].0 - ends[0].0, ends[1].1 - ends[0].1);
        let steps = dx.abs().max(dy.abs()).ceil().max(1.0);
        let at = |step: f64| ((ends[0].0 + dx * step / steps) as i64, (ends[0].1 + dy * step / steps) as i64);
        dots.extend((0..steps as usize).map(|step| at(step as f64)));
    }
    dots.dedup();
    dots.into_iter().enumerate().filter(|(i, _)| !dashed || i / 4 % 2 == 0).map(|(_, dot)| dot).collect()
}

fn dot(picture: &mut RgbImage, x: i64, y: i64, colour: [u8; 3]) {
    if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
        && let Some(pixel) = picture.get_pixel_mut_checked(x, y)
    {
        *pixel = Rgb(colour);
    }
}
