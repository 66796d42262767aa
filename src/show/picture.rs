//! Pictures inside figures: at a comfortable size, in few bytes, never stretched.

use std::borrow::Cow;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ImageFormat, ImageResult, Rgb, RgbImage};
use maud::{Markup, html};

use super::blocks::blocks;
use super::card::card;
use super::svg::{Drawing, document};
use super::{Panel, Show};
use crate::model::Image;

/// Pictures with a longer side up to this have pixels worth seeing one by one.
const SMALL: u32 = 160;
/// The width and height that a single picture may take.
pub(super) const ROOM: (f64, f64) = (320.0, 420.0);

/// How large a picture is shown, given the room.
pub(super) fn fitted(picture: &RgbImage, room: (f64, f64)) -> (f64, f64) {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let scale = (room.0 / width).min(room.1 / height);
    (width * scale, height * scale)
}

/// A picture ready to be put into HTML or SVG: its bytes as a data URI, and how they are to be enlarged.
pub(super) struct Inlay {
    href: String,
    rendering: &'static str,
}

/// Every pixel as it is, and a square when enlarged: for maps and small drawings.
pub(super) fn exact(picture: &RgbImage) -> Inlay {
    Inlay { href: uri("png", png(picture)), rendering: "image-rendering: pixelated" }
}

/// For being shown `side` pixels long: small pictures exactly, large ones as JPEG, and not much larger than shown.
pub(super) fn photograph(picture: &RgbImage, side: f64) -> Inlay {
    if picture.width().max(picture.height()) <= SMALL {
        return exact(picture);
    }
    let bytes = jpeg(&at_most(picture, (1.25 * side).ceil() as u32));
    Inlay { href: uri("jpeg", bytes), rendering: "image-rendering: auto" }
}

/// A data URI. If there was no room for the bytes, it is that of a drawing that says so.
fn uri(kind: &str, bytes: ImageResult<Vec<u8>>) -> String {
    let of = |kind: &str, bytes: &[u8]| format!("data:image/{kind};base64,{}", STANDARD.encode(bytes));
    match bytes {
        Ok(bytes) => of(kind, &bytes),
        Err(error) => of("svg+xml", document(ROOM.0, 60.0, &html! { text x="10" y="35" { (error) } }).as_bytes()),
    }
}

/// A picture within an SVG, in a thin frame.
pub(super) fn framed(x: f64, y: f64, (width, height): (f64, f64), inlay: &Inlay) -> Markup {
    html! {
        image x=(x) y=(y) width=(width) height=(height) href=(inlay.href) preserveAspectRatio="none" style=(inlay.rendering) {}
        rect x=(x) y=(y) width=(width) height=(height) fill="none" stroke="#999999" {}
    }
}

/// The picture, or a smaller one with a longer side of `side`.
pub(super) fn at_most(picture: &RgbImage, side: u32) -> Cow<'_, RgbImage> {
    let longest = picture.width().max(picture.height());
    let part = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longest)).max(1) as u32;
    match longest > side {
        true => Cow::Owned(resize(picture, part(picture.width()), part(picture.height()), FilterType::Triangle)),
        false => Cow::Borrowed(picture),
    }
}

pub(super) fn png(picture: &RgbImage) -> ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

fn jpeg(picture: &RgbImage) -> ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 88).encode_image(picture)?;
    Ok(bytes)
}

fn light(&Rgb([r, g, b]): &Rgb<u8>) -> f64 {
    (0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)) / 255.0
}

impl Show for Image {
    fn text(&self) -> String {
        let lights: Vec<f64> = self.rgb().pixels().map(light).collect();
        let lightest = lights.iter().copied().fold(0.0, f64::max);
        let darkness: Vec<f64> = lights.iter().map(|light| lightest - light).collect();
        format!("{self:?}\n{}", blocks(&darkness, self.width()))
    }

    fn html(&self) -> String {
        let (width, height) = fitted(self.rgb(), ROOM);
        let body = framed(0.0, 0.0, (width, height), &photograph(self.rgb(), width.max(height)));
        let words = format!("{self:?}");
        card(html! {}, Drawing { width, height, body }.picture(&words), &[words]).into_string()
    }

    fn png(&self) -> Option<Vec<u8>> {
        png(self.rgb()).ok()
    }

    fn panel(&self) -> Option<Panel> {
        Some(Panel::Picture(self.clone()))
    }
}
