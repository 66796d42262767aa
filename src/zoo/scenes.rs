//! Drawn scenes: what the embedded vision models were trained on. Which pixels are an object's is known exactly.

use std::fmt;

use serde::Deserialize;

use super::drawing::{SIDE, mix};
use super::truth;
use crate::{Error, Result};

/// What is known about an embedded vision model.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let truth = Scenes::of("pellucid/tiny-vit-shapes")?;
/// assert_eq!(truth.classes, vit.labels());
/// let scene = &truth.scenes[0];
/// assert!(scene.objects.iter().any(|object| vit.predict(&scene.image().unwrap()).unwrap()[0].0 == object.shape.to_string()));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct Scenes {
    /// Where the scenes come from and which pixels decide, in words.
    pub about: String,
    /// What the model tells apart: its labels in their order, or captions of single objects.
    pub classes: Vec<String>,
    /// The share of right answers on held-out scenes: of labels, or of pairs of a true and a false caption of which the
    /// true one fits the scene better.
    pub accuracy: f64,
    /// Scenes the model was not trained on.
    pub scenes: Vec<Scene>,
}

/// 64 × 64 pixels: a greyish background with a gradient and some noise, and objects on it.
///
/// ```
/// # use pellucid::prelude::*;
/// let scene = Scene::empty(7).with(Shape::Circle, Colour::Red, 18.0, 20.0, 11.0)?;
/// assert_eq!(scene.image()?.pixels()?.dims(), [3, 64, 64]);
/// assert_eq!(scene.mask(0)?.i((20, 18))?.to_scalar::<u8>()?, 1);    // row 20, column 18: its middle
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Scene {
    /// Of the noise.
    pub seed: u32,
    /// Red, green and blue of the background, 0 to 255.
    pub background: [f64; 3],
    /// How much brighter the background is at the right edge than at the left, and at the bottom than at the top.
    pub gradient: [f64; 2],
    /// The noise adds at most so much, up or down.
    pub noise: f64,
    /// From the first drawn to the last.
    pub objects: Vec<Object>,
}

/// A shape of one colour. As text it is a caption: «a red circle».
///
/// ```
/// # use pellucid::prelude::*;
/// let scene = Scene::empty(7).with(Shape::Star, Colour::Orange, 46.0, 40.0, 12.0)?;
/// let Object { shape, colour, r, .. } = scene.objects[0].clone();
/// assert_eq!((shape, colour, r), (Shape::Star, Colour::Orange, 12.0));
/// assert_eq!(scene.objects[0].to_string(), "an orange star");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Object {
    /// Its shape.
    pub shape: Shape,
    /// What its colour is called.
    pub colour: Colour,
    /// Its colour.
    pub rgb: [u8; 3],
    /// Where its middle is, in pixels from the left edge.
    pub x: f64,
    /// Where its middle is, in pixels from the upper edge.
    pub y: f64,
    /// How far it reaches from its middle, in pixels.
    pub r: f64,
    /// How far it is turned, in degrees, clockwise.
    pub angle: f64,
}

/// What an object can be. As text: «circle».
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// assert_eq!(Shape::ALL.map(|shape| shape.to_string()).to_vec(), vit.labels());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Cross,
    Ring,
    Star,
}

/// What an object's colour is called. As text: «red».
///
/// ```
/// # use pellucid::prelude::*;
/// assert_eq!((Colour::Red.to_string().as_str(), Colour::Red.rgb()), ("red", [205, 45, 45]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Colour {
    Red,
    Green,
    Blue,
    Yellow,
    Purple,
    Orange,
}

impl Scenes {
    /// The scenes of an embedded vision model, by its full name.
    ///
    /// Errors: no embedded vision model of that name.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let truth = Scenes::of("pellucid/tiny-vit-shapes")?;
    /// assert!(truth.accuracy > 0.97);
    /// let scene = &truth.scenes[0];
    /// println!("{}", scene.objects[0]);
    /// assert_eq!(scene.mask(0)?.dims(), [64, 64]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn of(model: &str) -> Result<Self> {
        truth(model)
    }
}

impl Scene {
    /// A scene without objects; its background follows from the seed.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let scene = Scene::empty(5);
    /// assert!(scene.objects.is_empty() && scene == Scene::empty(5));    // same seed, same background
    /// ```
    pub fn empty(seed: u32) -> Self {
        let drawn = |index| mix(seed, index, 3);
        let base = 70 + drawn(0) % 131;
        Self {
            seed,
            background: [1, 2, 3].map(|index| f64::from(base + drawn(index) % 31) - 15.0),
            gradient: [4, 5].map(|index| f64::from(drawn(index) % 81) - 40.0),
            noise: f64::from(4 + drawn(6) % 9),
            objects: Vec::new(),
        }
    }

    /// The scene with one more object, upright, its middle at `(x, y)` and reaching `r` pixels from there.
    ///
    /// Errors: an object that sticks out, is not a size, or comes so near to another that they may overlap: a hidden pixel
    /// would be in two masks.
    ///
    /// **When it misleads**: the models know up to three objects of different shapes, of 8 to 13 pixels. Of others they may
    /// say anything.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let scene = Scene::empty(7)
    ///     .with(Shape::Circle, Colour::Red, 18.0, 20.0, 11.0)?
    ///     .with(Shape::Star, Colour::Orange, 46.0, 40.0, 12.0)?;
    /// assert_eq!(scene.objects[1].to_string(), "an orange star");
    /// assert_eq!(scene.without(0)?.objects.len(), 1);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn with(&self, shape: Shape, colour: Colour, x: f64, y: f64, r: f64) -> Result<Self> {
        let added = Object { shape, colour, rgb: colour.rgb(), x, y, r, angle: 0.0 };
        added.check_inside()?;
        if let Some(other) = self.objects.iter().find(|other| (x - other.x).hypot(y - other.y) < r + other.r) {
            let (around, wide) = ((other.x, other.y), other.r);
            return Err(Error::argument(format!(
                "{added} of radius {r} around {:?} may overlap {other}, of radius {wide} around {around:?}. Move it away, \
                 or make it smaller",
                (x, y)
            )));
        }
        let mut scene = self.clone();
        scene.objects.push(added);
        Ok(scene)
    }

    /// The scene with one object fewer, all else the same: what the model should say if the object were not there.
    ///
    /// Errors: no such object.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let scene = Scene::empty(7)
    ///     .with(Shape::Circle, Colour::Red, 18.0, 20.0, 11.0)?
    ///     .with(Shape::Star, Colour::Orange, 46.0, 40.0, 12.0)?;
    /// assert_eq!(scene.without(0)?, Scene::empty(7).with(Shape::Star, Colour::Orange, 46.0, 40.0, 12.0)?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn without(&self, index: usize) -> Result<Self> {
        self.object(index)?;
        let mut scene = self.clone();
        scene.objects.remove(index);
        Ok(scene)
    }

    pub(super) fn object(&self, index: usize) -> Result<&Object> {
        self.objects.get(index).ok_or_else(|| Error::out_of_range("object", index, self.objects.len()))
    }
}

impl Object {
    fn check_inside(&self) -> Result<()> {
        let (x, y, r, side) = (self.x, self.y, self.r, SIDE as f64);
        if r > 0.0 && [x, y].iter().all(|&middle| middle - r >= 0.0 && middle + r <= side) {
            return Ok(());
        }
        Err(Error::argument(format!(
            "{self} of radius {r} around {:?} is not inside the scene, which is {SIDE} × {SIDE} pixels: its radius must be \
             positive, and x and y between the radius and {SIDE} less the radius",
            (x, y)
        )))
    }
}

impl Shape {
    /// All of them, in the order of the labels of `pellucid/tiny-vit-shapes`.
    pub const ALL: [Self; 6] = [Self::Circle, Self::Square, Self::Triangle, Self::Cross, Self::Ring, Self::Star];
}

impl Colour {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Red, Self::Green, Self::Blue, Self::Yellow, Self::Purple, Self::Orange];

    /// Its red, green and blue. The colours of the held-out scenes differ from these by up to 16 in each.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let x = Scene::empty(1).with(Shape::Circle, Colour::Green, 20.0, 30.0, 10.0)?.image()?.pixels()?;
    /// let middle = (x.i((.., 30, 20))? * 255.0)?.round()?.to_vec1::<f32>()?;
    /// assert_eq!(middle, Colour::Green.rgb().map(f32::from));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [205, 45, 45],
            Self::Green => [50, 160, 60],
            Self::Blue => [50, 80, 210],
            Self::Yellow => [230, 215, 60],
            Self::Purple => [140, 60, 170],
            Self::Orange => [240, 140, 40],
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = if self.colour == Colour::Orange { "an" } else { "a" };
        write!(f, "{article} {} {}", self.colour, self.shape)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Cross => "cross",
            Self::Ring => "ring",
            Self::Star => "star",
        })
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Orange => "orange",
        })
    }
}
