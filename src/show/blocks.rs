//! Maps for a terminal: coarse, of ░▒▓█, with − before what is negative.

/// At most so many blocks across, and down.
const MOST: (usize, usize) = (16, 24);

/// A map of `width` columns as blocks, each the mean of the cells it covers, shaded by its share of the largest |mean|.
pub(super) fn blocks(map: &[f64], width: usize) -> String {
    let height = map.len() / width.max(1);
    let (rows, columns) = coarse(height, width);
    let means = means(map, width, rows, columns);
    let full = means.iter().fold(f64::MIN_POSITIVE, |full, mean| full.max(mean.abs()));
    let line = |row: &[f64]| row.iter().map(|mean| block(mean / full)).collect::<String>();
    means.chunks(columns).map(|row| format!("{}\n", line(row).trim_end())).collect()
}

/// How many blocks down and across: as square as the map's cells, and no more than there are cells.
fn coarse(height: usize, width: usize) -> (usize, usize) {
    let scale = (MOST.0 as f64 / width as f64).min(MOST.1 as f64 / height as f64).min(1.0);
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
