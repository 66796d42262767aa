//! Tiny models that see, which `tests/vision/generate.py` made, and the pictures it drew.

use std::fs;
use std::path::{Path, PathBuf};

use pellucid::prelude::*;

/// A model's folder.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vision").join(name)
}

/// A copy that a test may change.
pub fn copy(name: &str) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(folder(name))? {
        let path = entry?.path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap_or_default()))?;
    }
    Ok(copy)
}

/// Parabolas that wrap around, so that there are slopes and edges everywhere.
pub fn picture(height: usize, width: usize) -> Result<Image> {
    let byte = |i: usize| {
        let (c, y, x) = (i / (height * width), i / width % height, i % width);
        ((3 * x * x + 5 * y * y + 7 * x * y + 40 * c * x + 90 * c) / 4 % 256) as f64 / 255.0
    };
    let bytes = Tensor::from_iter((0..3 * height * width).map(byte), &Device::Cpu)?;
    Image::from_pixels(&bytes.reshape((3, height, width))?)
}
