//! Pieces of pictures: superpixels, squares, masks of one's own, and scores that go back onto pixels.

use std::collections::BTreeMap;

use pellucid::baseline::{flat, mean_colour};
use pellucid::prelude::*;
use pellucid::zoo::photo;

/// Left half dark, right half light, with a slow slope so that no two pixels are alike.
fn halves(width: usize, height: usize) -> Result<Image> {
    let value =
        |i: usize| if i % width < width * 5 / 8 { 0.1 } else { 0.9 } + 0.02 * (i / width) as f64 / height as f64;
    let plane: Vec<f64> = (0..width * height).map(value).collect();
    Image::from_pixels(&Tensor::from_vec(plane.repeat(3), (3, height, width), &Device::Cpu)?)
}

/// Pixels of each id.
fn pieces(ids: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut pieces = BTreeMap::<usize, Vec<usize>>::new();
    ids.iter().enumerate().for_each(|(pixel, &id)| pieces.entry(id).or_default().push(pixel));
    pieces
}

fn connected(piece: &[usize], width: usize) -> bool {
    let inside: std::collections::BTreeSet<usize> = piece.iter().copied().collect();
    let (mut seen, mut open) = (std::collections::BTreeSet::from([piece[0]]), vec![piece[0]]);
    while let Some(pixel) = open.pop() {
        let left = (!pixel.is_multiple_of(width)).then(|| pixel - 1);
        let right = (pixel % width + 1 < width).then_some(pixel + 1);
        for beside in [left, right, pixel.checked_sub(width), Some(pixel + width)].into_iter().flatten() {
            if inside.contains(&beside) && seen.insert(beside) {
                open.push(beside);
            }
        }
    }
    seen.len() == piece.len()
}

#[test]
fn superpixels_are_connected_of_like_size_and_numbered() -> Result<()> {
    for (name, count) in [("cat", 60), ("coffee", 150), ("rocket", 20)] {
        let picture = photo(name)?;
        let ids = superpixels(&picture, count)?;
        assert_eq!(ids.len(), picture.width() * picture.height());
        let pieces = pieces(&ids);
        assert!(pieces.keys().copied().eq(0..pieces.len()), "{name}: ids have gaps");
        assert!((count * 7 / 10..=count * 13 / 10).contains(&pieces.len()), "{name}: {} of {count}", pieces.len());
        let mean = ids.len() / pieces.len();
        assert!(pieces.values().skip(1).all(|piece| (mean / 6..mean * 6).contains(&piece.len())), "{name}");
        assert!(pieces.values().all(|piece| connected(piece, picture.width())), "{name}: a piece is torn");
        assert_eq!(ids, superpixels(&picture, count)?, "{name}: no chance is involved");
    }
    Ok(())
}

#[test]
fn superpixels_follow_an_edge_that_squares_cross() -> Result<()> {
    let (picture, light) = (halves(64, 48)?, |pixel: usize| pixel % 64 >= 40);
    let straddling = |ids: &[usize]| {
        pieces(ids).values().filter(|piece| piece.iter().any(|&p| light(p)) && !piece.iter().all(|&p| light(p))).count()
    };
    assert_eq!(straddling(&superpixels(&picture, 12)?), 0);
    let squares: Vec<usize> = (0..64 * 48).map(|pixel| pixel / 64 / 16 * 4 + pixel % 64 / 16).collect();
    assert_eq!(straddling(&squares), 3);
    Ok(())
}

#[test]
fn superpixels_of_small_thin_and_too_many() -> Result<()> {
    let one = halves(1, 1)?;
    assert_eq!(superpixels(&one, 1)?, [0]);
    let thin = superpixels(&halves(300, 1)?, 10)?;
    assert!(pieces(&thin).values().all(|piece| connected(piece, 300)) && pieces(&thin).len() == 10);
    assert_eq!(superpixels(&halves(8, 4)?, 1)?, [0; 32]);
    for count in [0, 33] {
        let error = superpixels(&halves(8, 4)?, count).expect_err("refused").to_string();
        assert!(error.contains("between 1 and the 32 pixels"), "{error}");
    }
    Ok(())
}

#[test]
fn patches_cover_a_picture_to_its_ragged_edges() -> Result<()> {
    let x = Tensor::ones((3, 5, 7), DType::F64, &Device::Cpu)?;
    let groups = Groups::patches(&x, 3)?;
    assert_eq!(groups.len(), 2 * 3);
    let drop = feature_ablation(|x| Ok(x.sum((1, 2, 3))?), &x, &x.zeros_like()?, &groups)?;
    assert_eq!(drop.scores, [27.0, 27.0, 9.0, 18.0, 18.0, 6.0]);
    let pixels = drop.over_segments(&groups)?;
    assert_eq!(pixels.features, Features::Pixels { height: 5, width: 7 });
    assert!(pixels.scores.iter().all(|score| (score - 3.0).abs() < 1e-12) && (pixels.sum() - 105.0).abs() < 1e-9);
    assert!(Groups::patches(&x, 0).is_err_and(|e| e.to_string().contains("at least 1")));
    assert!(Groups::patches(&x.get(0)?, 2).is_err_and(|e| e.to_string().contains("(c, h, w)")));
    Ok(())
}

#[test]
fn the_segment_that_matters_is_found() -> Result<()> {
    let picture = halves(40, 30)?;
    let (x, ids) = (picture.pixels()?, superpixels(&picture, 12)?);
    let segments = Groups::segments(&x, &ids)?;
    let middle_of_the_left = |x: &Tensor| Ok(x.narrow(2, 14, 2)?.narrow(3, 4, 2)?.mean((1, 2, 3))?);
    let why = feature_ablation(middle_of_the_left, &x, &flat(&x, 1.0)?, &segments)?.over_segments(&segments)?;
    let lowest = (0..why.scores.len()).min_by(|&a, &b| why.scores[a].total_cmp(&why.scores[b])).unwrap_or(0);
    assert_eq!(ids[lowest], ids[14 * 40 + 4]);
    assert!(why.scores.iter().zip(&ids).all(|(score, id)| (*score == 0.0) == (*id != ids[lowest])));
    Ok(())
}

#[test]
fn masks_of_ones_own_are_segments() -> Result<()> {
    let x = photo("coffee")?.pixels()?.to_dtype(DType::F64)?;
    let (_, height, width) = x.dims3()?;
    let left: Vec<usize> = (0..height * width).map(|pixel| usize::from(pixel % width < 100)).collect();
    let groups = Groups::segments(&x, &left)?;
    let drop = feature_ablation(|x| Ok(x.sum((1, 2, 3))?), &x, &mean_colour(&x)?, &groups)?;
    assert!(drop.sum().abs() < 1e-6 * drop.scores[0].abs(), "a mean colour takes away what it adds");
    assert!(Groups::segments(&x, &left[1..]).is_err_and(|e| e.to_string().contains("one per pixel of 320 rows")));
    assert!(Groups::segments(&x.get(0)?, &left).is_err_and(|e| e.to_string().contains("(c, h, w)")));
    let rows = Groups::rows(&Tensor::ones((2, 2), DType::F64, &Device::Cpu)?);
    assert!(drop.clone().over_segments(&rows).is_err_and(|e| e.to_string().contains("(c, h, w)")));
    assert!(drop.over_segments(&Groups::elements(&x)).is_err_and(|e| e.to_string().contains("one per group")));
    Ok(())
}

#[test]
fn photographs_are_there_by_name() -> Result<()> {
    for name in ["cat", "coffee", "rocket"] {
        assert!(photo(name)?.width() > 400);
    }
    let error = photo("dog").expect_err("there is none").to_string();
    assert!(error.contains("`dog`") && error.contains("`cat`, `coffee`, `rocket`"), "{error}");
    Ok(())
}
