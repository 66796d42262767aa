//! Maps at another size, against published numbers and against laws of interpolation.

#[path = "common/apart.rs"]
mod apart;

use apart::largest_difference;
use pellucid::prelude::*;
use pellucid::show::{min_max, red_mask};
use serde_json::Value;

/// The case about display of the reference file: its input and what is expected.
fn display() -> Result<(Value, Value)> {
    let cases: Value = serde_json::from_str(include_str!("reference/context_cite_rollout_cases.json"))?;
    let case = cases["cases"].as_array().into_iter().flatten().find(|case| case["id"] == "ro10_display").cloned();
    let mut case = case.expect("the reference file has the case");
    Ok((case["input"].take(), case["expected"].take()))
}

/// Numbers in JSON, however deep, as a tensor of this shape.
fn tensor(value: &Value, shape: &[usize]) -> Result<Tensor> {
    fn collect(value: &Value, all: &mut Vec<f64>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, all)),
            number => all.extend(number.as_f64()),
        }
    }
    let mut all = Vec::new();
    collect(value, &mut all);
    Ok(Tensor::from_vec(all, shape, &Device::Cpu)?)
}

fn close(a: &Tensor, b: &Tensor) -> Result<()> {
    assert!(largest_difference(a, b)? < 1e-9, "{a} is not {b}");
    Ok(())
}

#[test]
fn enlarged_maps_have_the_published_numbers() -> Result<()> {
    let (input, expected) = display()?;
    let square = resample(&tensor(&input["bilinear_in"], &[2, 2])?, 4, 4, Interpolation::Bilinear)?;
    close(&square, &tensor(&expected["bilinear_x2"], &[4, 4])?)?;
    let row = tensor(&input["bicubic_in"], &[1, 6])?;
    for (how, name) in [(Interpolation::Bicubic, "bicubic1d_x2_a075"), (Interpolation::CatmullRom, "bicubic1d_x2_a05")]
    {
        close(&resample(&row, 1, 12, how)?, &tensor(&expected[name], &[1, 12])?)?;
        close(&resample(&row.t()?, 12, 1, how)?, &tensor(&expected[name], &[12, 1])?)?;
    }
    Ok(())
}

#[test]
fn red_masks_have_the_published_numbers() -> Result<()> {
    let (input, expected) = display()?;
    let map = tensor(&input["rollout"], &[2, 2])?;
    close(&min_max(&map)?, &tensor(&expected["minmax"], &[2, 2])?)?;
    let picture = tensor(&input["image_chw"], &[3, 2, 2])?;
    close(&red_mask(&picture, &map, 0.2)?, &tensor(&expected["overlay_chw"], &[3, 2, 2])?)?;
    let mask = red_mask(&picture.zeros_like()?, &map, 0.2)?.get(0)?;
    close(&(mask * 2.0)?, &tensor(&expected["mask"], &[2, 2])?)
}

#[test]
fn a_map_of_one_value_has_no_mask() -> Result<()> {
    let (flat, black) =
        (Tensor::full(0.3f64, (2, 2), &Device::Cpu)?, Tensor::zeros((3, 2, 2), DType::F64, &Device::Cpu)?);
    close(&min_max(&flat)?, &flat.zeros_like()?)?;
    close(&red_mask(&black, &flat, 0.0)?, &black)?;
    assert!(min_max(&Tensor::new(&[f64::NAN], &Device::Cpu)?).is_err_and(|e| e.to_string().contains("not finite")));
    assert!(
        red_mask(&black, &flat.narrow(0, 0, 1)?, 0.2).is_err_and(|e| e.to_string().contains("with the map's [1, 2]"))
    );
    Ok(())
}

const ALL: [Interpolation; 4] =
    [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::CatmullRom];

#[test]
fn every_interpolation_keeps_what_is_there() -> Result<()> {
    let map = Tensor::new(&[[[1f64, -2.0, 4.0], [0.5, 3.0, 7.0]]], &Device::Cpu)?;
    for how in ALL {
        close(&resample(&map, 2, 3, how)?, &map)?;
        let flat = resample(&map.ones_like()?, 7, 5, how)?;
        close(&flat, &flat.ones_like()?)?;
        let (odd, wide) = (resample(&map, 6, 9, how)?, resample(&map.t()?, 9, 6, how)?);
        close(&odd, &wide.t()?)?;
        close(&odd.narrow(1, 1, 1)?.narrow(2, 4, 1)?, &Tensor::new(&[[[-2f64]]], &Device::Cpu)?)?;
    }
    Ok(())
}

#[test]
fn nearest_repeats_cells_and_only_cubics_overshoot() -> Result<()> {
    let step = Tensor::new(&[[0f64, 0.0, 1.0, 1.0]], &Device::Cpu)?;
    let nearest = resample(&step, 2, 8, Interpolation::Nearest)?;
    assert_eq!(nearest.to_vec2::<f64>()?, [[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]; 2]);
    for how in ALL {
        let highest = resample(&step, 1, 40, how)?.max_all()?.to_scalar::<f64>()?;
        let swings = matches!(how, Interpolation::Bicubic | Interpolation::CatmullRom);
        assert_eq!(highest > 1.01, swings, "{how:?}: {highest}");
    }
    Ok(())
}

#[test]
fn maps_that_are_none_are_refused() -> Result<()> {
    let map = Tensor::zeros((2, 2), DType::F32, &Device::Cpu)?;
    for (bad, height, message) in [
        (map.flatten_all()?, 2, "expected (h, w)"),
        (Tensor::zeros((0, 2), DType::F32, &Device::Cpu)?, 2, "at least one cell"),
        (map.to_dtype(DType::U8)?, 2, "DType::F32"),
        (map.clone(), 0, "got 0 × 2"),
    ] {
        let error = resample(&bad, height, 2, Interpolation::Bilinear).expect_err("refused").to_string();
        assert!(error.contains(message), "{error}");
    }
    Ok(())
}
