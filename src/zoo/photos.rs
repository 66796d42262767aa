//! Photographs to explain: free of rights, and credited in `photos/CREDITS.md`.

use crate::model::Image;
use crate::{Error, Result};

/// A photograph: its name, and its file.
macro_rules! photo {
    ($name:literal) => {
        ($name, include_bytes!(concat!("photos/", $name, ".jpg")) as &[u8])
    };
}

const PHOTOS: [(&str, &[u8]); 3] = [photo!("cat"), photo!("coffee"), photo!("rocket")];

/// A photograph inside the crate: `cat` (Chelsea, by Stéfan van der Walt), `coffee` (a cup on a saucer, by Rachel Michetti) or
/// `rocket` (a launch at night, by SpaceX). All three are free of rights (CC0, public domain).
///
/// Errors: no photograph of that name.
///
/// ```
/// # use pellucid::prelude::*;
/// let cat = pellucid::zoo::photo("cat")?;
/// assert_eq!((cat.width(), cat.height()), (451, 300));
/// # Ok::<(), pellucid::Error>(())
/// ```
pub fn photo(name: &str) -> Result<Image> {
    let known = || PHOTOS.map(|(name, _)| format!("`{name}`")).join(", ");
    let found = PHOTOS.iter().find(|photo| photo.0 == name);
    let missing =
        || Error::NotFound(format!("no photograph inside the crate is called `{name}`; there are {}", known()));
    Image::decode(found.ok_or_else(missing)?.1)
}
