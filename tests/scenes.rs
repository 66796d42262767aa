//! Drawn scenes: Rust draws what Python drew, masks are where the objects are, and what cannot be drawn is refused.

use std::path::Path;

use pellucid::prelude::*;

const MODELS: [&str; 2] = ["tiny-vit-shapes", "tiny-clip-shapes"];

/// The rows of an image's bytes, as Python has them.
fn bytes(scene: &Scene) -> Result<Vec<u8>> {
    let levels = (scene.image()?.pixels()?.permute((1, 2, 0))? * 255.0)?.round()?;
    Ok(levels.to_dtype(DType::U8)?.flatten_all()?.to_vec1()?)
}

fn adler32(bytes: &[u8]) -> u64 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &byte| {
        let a = (a + u64::from(byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

/// The checksums of the held-out scenes as Python drew them.
fn checksums(model: &str) -> Result<Vec<u64>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/zoo").join(model).join("truth.json");
    let truth: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    Ok(truth["scenes"].as_array().unwrap().iter().map(|scene| scene["adler32"].as_u64().unwrap()).collect())
}

#[test]
fn rust_draws_every_held_out_scene_as_python_did() -> Result<()> {
    assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    for model in MODELS {
        let (truth, expected) = (Scenes::of(&format!("pellucid/{model}"))?, checksums(model)?);
        assert_eq!(truth.scenes.len(), 60);
        let drawn: Vec<_> = truth.scenes.iter().map(|scene| Ok(adler32(&bytes(scene)?))).collect::<Result<_>>()?;
        assert_eq!(drawn, expected, "{model}");
    }
    Ok(())
}

#[test]
fn a_seed_gives_the_background_that_python_gave_it() -> Result<()> {
    for scene in
        MODELS.iter().map(|model| Scenes::of(model)).collect::<Result<Vec<_>>>()?.iter().flat_map(|t| &t.scenes)
    {
        assert_eq!(Scene { objects: Vec::new(), ..scene.clone() }, Scene::empty(scene.seed));
    }
    Ok(())
}

#[test]
fn held_out_scenes_are_as_their_description_says() -> Result<()> {
    for model in MODELS {
        let truth = Scenes::of(model)?;
        for Scene { objects, .. } in &truth.scenes {
            let shapes: std::collections::HashSet<_> = objects.iter().map(|object| object.shape).collect();
            assert!(objects.len() <= 3 && shapes.len() == objects.len());
            for (i, o) in objects.iter().enumerate() {
                assert!(truth.classes.contains(&o.to_string()) || truth.classes.contains(&o.shape.to_string()));
                assert!(o.rgb.iter().zip(o.colour.rgb()).all(|(&level, plain)| level.abs_diff(plain) <= 16));
                let others = objects[..i].iter();
                assert!(others.into_iter().all(|other| (o.x - other.x).hypot(o.y - other.y) > o.r + other.r));
            }
        }
    }
    Ok(())
}

/// `(3,h,w)` of a scene, and where it differs from another, `(h,w)`.
fn differs(one: &Scene, other: &Scene) -> Result<Tensor> {
    Ok(one.image()?.pixels()?.ne(&other.image()?.pixels()?)?.max(0)?)
}

#[test]
fn taking_an_object_away_changes_its_pixels_and_no_others() -> Result<()> {
    for scene in &Scenes::of("pellucid/tiny-vit-shapes")?.scenes {
        for (index, object) in scene.objects.iter().enumerate() {
            let (changed, mask) = (differs(scene, &scene.without(index)?)?, scene.mask(index)?);
            let missed = (&mask - changed.minimum(&mask)?)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
            assert_eq!(missed, 0.0, "a pixel of the mask is the same without {object}");
            for (y, row) in changed.to_vec2::<u8>()?.iter().enumerate() {
                for x in (0..64).filter(|&x| row[x] == 1) {
                    let (dx, dy) = (x as f64 + 0.5 - object.x, y as f64 + 0.5 - object.y);
                    assert!(dx.hypot(dy) < object.r + 0.71, "{object} reaches to {x}, {y}");
                }
            }
        }
    }
    Ok(())
}

/// What a shape of radius one covers, by geometry.
fn area(shape: Shape) -> f64 {
    match shape {
        Shape::Circle => std::f64::consts::PI,
        Shape::Square => 1.4 * 1.4,
        Shape::Triangle => 0.75 * 3f64.sqrt(),
        Shape::Cross => 2.0 * 0.6 * 1.9 - 0.6 * 0.6,
        Shape::Ring => std::f64::consts::PI * 0.7,
        Shape::Star => 5.0 * 72f64.to_radians().cos() * 36f64.to_radians().tan(),
    }
}

#[test]
fn masks_have_the_area_of_their_shapes() -> Result<()> {
    for shape in Shape::ALL {
        let mask = Scene::empty(3).with(shape, Colour::Green, 31.8, 32.2, 30.0)?.mask(0)?;
        assert_eq!((mask.dims(), mask.dtype()), (&[64, 64][..], DType::U8));
        let pixels = mask.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        let exact = area(shape) * 900.0;
        assert!((pixels / exact - 1.0).abs() < 0.02, "{shape}: {pixels} pixels, {exact} by geometry");
    }
    Ok(())
}

#[test]
fn what_cannot_be_drawn_is_refused() -> Result<()> {
    let message = |scene: Result<Scene>| scene.unwrap_err().to_string();
    let scene = Scene::empty(1).with(Shape::Ring, Colour::Orange, 20.0, 20.0, 10.0)?;
    for (x, y, r) in
        [(9.0, 30.0, 10.0), (30.0, 55.0, 10.0), (30.0, 30.0, 0.0), (f64::NAN, 30.0, 9.0), (30.0, 30.0, f64::NAN)]
    {
        let found = message(scene.with(Shape::Star, Colour::Red, x, y, r));
        assert!(found.starts_with("a red star of radius") && found.contains("64 × 64"), "{found}");
    }
    let found = message(scene.with(Shape::Star, Colour::Red, 30.0, 30.0, 10.0));
    assert!(found.contains("may overlap an orange ring, of radius 10 around (20.0, 20.0)"), "{found}");
    assert!(message(scene.without(1)).contains("object 1 is out of range: there are 1"));
    assert!(scene.mask(1).is_err() && scene.without(0)?.mask(0).is_err());
    assert!(Scenes::of("pellucid/tiny-vit").is_err());
    Ok(())
}
