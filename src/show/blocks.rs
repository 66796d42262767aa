//! Maps and bars for a terminal: maps coarse, of ░▒▓█, with − before what is negative.

/// So many blocks across, and down, fit a terminal.
const MOST: (usize, usize) = (16, 24);

/// A map of `width` columns as blocks, each shaded by its share of the largest |mean|.
pub(super) fn blocks(map: &[f64], width: usize) -> String {
    let coarse = Coarse::new(map, width, MOST);
    let line = |row: &[f64]| row.iter().map(|share| block(*share)).collect::<String>();
    coarse.shares.chunks(coarse.columns).map(|row| format!("{}\n", line(row).trim_end())).collect()
}

/// A map of few cells, each the mean of those it covers, as a share of the largest |mean|.
pub(super) struct Coarse {
    pub rows: usize,
    pub columns: usize,
    pub shares: Vec<f64>,
}

impl Coarse {
    /// A map of `width` columns with at most so many cells across, and down.
    pub fn new(map: &[f64], width: usize, most: (usize, usize)) -> Self {
        let height = map.len() / width.max(1);
        let (rows, columns) = coarse(height, width, most);
        let means = means(map, width, rows, columns);
        let full = means.iter().fold(f64::MIN_POSITIVE, |full, mean| full.max(mean.abs()));
        Self { rows, columns, shares: means.into_iter().map(|mean| mean / full).collect() }
    }
}

/// How many cells down and across: as square as the map's own, and no more than it has.
fn coarse(height: usize, width: usize, most: (usize, usize)) -> (usize, usize) {
    let scale = (most.0 as f64 / width as f64).min(most.1 as f64 / height as f64).min(1.0);
    let part = |length: usize| ((length as f64 * scale).round() as usize).max(1);
    (part(height), part(width))
}

fn means(map: &[f64], width: usize, rows: usize, columns: usize) -> Vec<f64> {
    let height = map.len() / width;
    let mut sums = vec![(0.0, 0.0); rows * columns];
    for (cell, value) in map.iter().enumerate() {
        let (sum, count) = &mut sums[cell / width * rows / height * columns + cell % width * columns / width];
        (*sum, *count) = (*sum + value, *count + 1.0);
    }
    sums.into_iter().map(|(sum, count)| sum / count).collect()
}

/// Two characters, which in most terminals make a square.
fn block(share: f64) -> String {
    let shade = [' ', '░', '▒', '▓', '█'][(share.abs() * 4.0).round() as usize];
    match share < 0.0 && shade != ' ' {
        true => format!("−{shade}"),
        false => format!("{shade}{shade}"),
    }
}

const BAR: usize = 20;

/// Bars of up to twenty blocks: solid for supporting, hollow for opposing.
pub(super) fn bars(shares: &[f64]) -> Vec<String> {
    let bar = |share: &f64| {
        let block = if *share < 0.0 { "░" } else { "█" };
        block.repeat((share.abs().min(1.0) * BAR as f64).round() as usize)
    };
    shares.iter().map(bar).collect()
}
