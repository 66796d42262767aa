//! Pictures brought to a model's size: what Pillow makes of them, as transformers, timm and open_clip ask it to.

#[path = "common/seen.rs"]
mod seen;

use std::fs;
use std::path::Path;

use pellucid::prelude::*;
use seen::{copy, folder, picture};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Height and width of the picture.
    size: [usize; 2],
    /// Which file, or part of one, the configuration is.
    file: String,
    config: Value,
}

fn cases() -> Result<Vec<Case>> {
    Ok(serde_json::from_slice(&fs::read(folder("pictures").join("cases.json"))?)?)
}

/// Writes a part of a file of JSON.
fn change(folder: &Path, file: &str, part: &str, value: &Value) -> Result<()> {
    let path = folder.join(file);
    let mut json: Value = serde_json::from_slice(&fs::read(&path)?)?;
    json[part] = value.clone();
    Ok(fs::write(path, json.to_string())?)
}

/// The picture as a model reads it whose files say `config`.
fn fitted(file: &str, config: &Value, picture: &Image) -> Result<Image> {
    match file {
        "pretrained_cfg" => {
            let folder = copy("timm_odd")?;
            change(folder.path(), "config.json", file, config)?;
            Vit::load(&folder.path().to_string_lossy())?.fit(picture)
        }
        "preprocess_cfg" => {
            let folder = copy("open_clip")?;
            change(folder.path(), "open_clip_config.json", file, config)?;
            Clip::load(&folder.path().to_string_lossy())?.fit(picture)
        }
        file => {
            let folder = copy("vit_oblong")?;
            fs::write(folder.path().join(file), config.to_string())?;
            Vit::load(&folder.path().to_string_lossy())?.fit(picture)
        }
    }
}

/// How many bytes differ, and by how much at most.
fn differences(a: &Image, b: &Image) -> Result<(usize, u32)> {
    assert_eq!([a.height(), a.width()], [b.height(), b.width()]);
    let steps = ((a.pixels()? - b.pixels()?)?.abs()? * 255.0)?.round()?.flatten_all()?.to_vec1::<f32>()?;
    let largest = steps.iter().fold(0.0, |a: f32, &b| a.max(b));
    Ok((steps.iter().filter(|&&step| step > 0.0).count(), largest as u32))
}

/// Pillow weighs pixels with 22 bits, and fast_image_resize with 15.
#[test]
fn pictures_come_out_as_pillow_has_them_but_for_one_byte_in_a_hundred() -> Result<()> {
    for Case { name, size: [height, width], file, config } in cases()? {
        let theirs = Image::open(folder("pictures").join(format!("{name}.png")))?;
        let ours = fitted(&file, &config, &picture(height, width)?)?;
        let ((differ, most), bytes) = (differences(&ours, &theirs)?, 3 * theirs.height() * theirs.width());
        println!("{name}: {differ} of {bytes} bytes differ, by {most} at most");
        assert!(most <= 1 && differ * 100 <= bytes, "{name}: {differ} of {bytes} bytes differ, by {most} at most");
        assert!(!name.starts_with("nearest") || differ == 0, "{name} weighs nothing, and {differ} bytes differ");
    }
    Ok(())
}
