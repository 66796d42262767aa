//! Pictures as files hold them: every kind that is read, and every way in which a file can be broken.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
use pellucid::prelude::*;

fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("a small picture can be written");
    bytes.into_inner()
}

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    file(&picture.into(), ImageFormat::Png)
}

/// 32 × 16 pixels: red, green above; blue, white below.
fn quarters() -> RgbImage {
    const COLOURS: [[u8; 3]; 4] = [[220, 20, 20], [20, 200, 20], [20, 20, 220], [250, 250, 250]];
    RgbImage::from_fn(32, 16, |x, y| Rgb(COLOURS[(y / 8 * 2 + x / 16) as usize]))
}

/// Red, green, blue of a pixel, 0 to 255.
fn pixel(picture: &Image, x: usize, y: usize) -> Result<[u8; 3]> {
    let colour =
        (picture.pixels()?.narrow(1, y, 1)?.narrow(2, x, 1)?.flatten_all()? * 255.0)?.round()?.to_vec1::<f32>()?;
    Ok([colour[0] as u8, colour[1] as u8, colour[2] as u8])
}

/// The names of the four quarters, in reading order.
fn seen(picture: &Image) -> Result<String> {
    let (width, height) = (picture.width(), picture.height());
    let name = |[r, g, b]: [u8; 3]| match (r > 128, g > 128, b > 128) {
        (true, false, false) => 'r',
        (false, true, false) => 'g',
        (false, false, true) => 'b',
        (true, true, true) => 'w',
        _ => '?',
    };
    let places = [(1, 1), (3, 1), (1, 3), (3, 3)];
    places.into_iter().map(|(x, y)| Ok(name(pixel(picture, x * width / 4, y * height / 4)?))).collect()
}

#[test]
fn png_jpeg_and_webp_hold_the_same_picture() -> Result<()> {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let picture = Image::decode(&file(&quarters().into(), format))?;
        assert_eq!((picture.width(), picture.height()), (32, 16));
        assert_eq!(seen(&picture)?, "rgbw", "{format:?}");
        assert_eq!(picture.pixels()?.dims(), [3, 16, 32]);
    }
    Ok(())
}

#[test]
fn pixels_and_files_go_round() -> Result<()> {
    let picture = Image::decode(&png(quarters()))?;
    assert_eq!(Image::from_pixels(&picture.pixels()?)?, picture);
    assert_eq!(Image::decode(&picture.png().unwrap_or_default())?, picture);
    let folder = tempfile::tempdir()?;
    picture.save(folder.path().join("quarters.png"))?;
    assert_eq!(Image::open(folder.path().join("quarters.png"))?, picture);
    let beyond = Tensor::new(&[[[-1.0f64]], [[0.5]], [[7.0]]], &Device::Cpu)?;
    assert_eq!(pixel(&Image::from_pixels(&beyond)?, 0, 0)?, [0, 128, 255]);
    assert!(Image::from_pixels(&beyond.get(0)?).is_err_and(|e| e.to_string().contains("(3, h, w)")));
    assert!(Image::from_pixels(&Tensor::zeros((3, 0, 4), DType::F32, &Device::Cpu)?).is_err());
    Ok(())
}

#[test]
fn grey_becomes_colour_and_sixteen_bits_become_eight() -> Result<()> {
    let grey = Image::decode(&png(GrayImage::from_pixel(2, 2, Luma([77]))))?;
    assert_eq!(pixel(&grey, 1, 1)?, [77, 77, 77]);
    let deep = ImageBuffer::from_pixel(2, 2, Rgb([0u16, 0x8080, 0xffff]));
    assert_eq!(pixel(&Image::decode(&png(deep))?, 0, 0)?, [0, 128, 255]);
    let grey = ImageBuffer::from_pixel(1, 1, Luma([0x4040u16]));
    assert_eq!(pixel(&Image::decode(&png(grey))?, 0, 0)?, [64, 64, 64]);
    Ok(())
}

#[test]
fn white_shines_through_what_is_transparent() -> Result<()> {
    for (alpha, expected) in [(0, [255, 255, 255]), (255, [200, 0, 100]), (51, [244, 204, 224])] {
        let glass = RgbaImage::from_pixel(3, 3, Rgba([200, 0, 100, alpha]));
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            assert_eq!(pixel(&Image::decode(&file(&glass.clone().into(), format))?, 1, 1)?, expected, "{format:?}");
        }
    }
    let grey = ImageBuffer::from_pixel(1, 1, LumaA([0u8, 0]));
    assert_eq!(pixel(&Image::decode(&png(grey))?, 0, 0)?, [255, 255, 255]);
    Ok(())
}

/// A JPEG with a camera's note about how it was held.
fn held(orientation: u8) -> Vec<u8> {
    let tiff =
        [b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation, 0, 0, 0, 0, 0, 0, 0]]
            .concat();
    let jpeg = file(&quarters().into(), ImageFormat::Jpeg);
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &tiff, &jpeg[2..]].concat()
}

#[test]
fn pictures_stand_upright_however_the_camera_was_held() -> Result<()> {
    for (orientation, expected) in
        [(1, "rgbw"), (2, "grwb"), (3, "wbgr"), (4, "bwrg"), (5, "rbgw"), (6, "brwg"), (7, "wgbr"), (8, "gwrb")]
    {
        let picture = Image::decode(&held(orientation))?;
        assert_eq!(seen(&picture)?, expected, "orientation {orientation}");
        assert_eq!(picture.width() > picture.height(), orientation <= 4, "orientation {orientation}");
    }
    Ok(())
}

/// Written by Pillow 12: the four quarters in printers' colours, and as the first frame of films whose second is black.
#[test]
fn printers_colours_are_read_and_of_films_the_first_frame() -> Result<()> {
    let of = |name: &str| Image::open(format!("{}/tests/image/{name}", env!("CARGO_MANIFEST_DIR")));
    for name in ["cmyk.jpg", "animated.webp", "animated.png"] {
        let picture = of(name)?;
        assert_eq!((picture.width(), picture.height()), (32, 16), "{name}");
        assert_eq!(seen(&picture)?, "rgbw", "{name}");
    }
    let error = of("animated.gif").unwrap_err().to_string();
    assert!(error.contains("animated.gif") && error.contains("PNG, JPEG and WebP"), "{error}");
    Ok(())
}

#[test]
fn pictures_of_any_proportion() -> Result<()> {
    for (width, height) in [(1, 1), (3000, 1), (1, 3000), (1000, 3)] {
        let picture = Image::decode(&png(RgbImage::from_pixel(width, height, Rgb([9, 8, 7]))))?;
        assert_eq!((picture.width(), picture.height()), (width as usize, height as usize));
        assert!(picture.html().contains("data:image/") && picture.text().lines().count() >= 2);
    }
    Ok(())
}

#[test]
fn broken_files_say_what_is_wrong() -> Result<()> {
    let whole = |format| {
        file(&image::DynamicImage::from(RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 * 3, y as u8 * 3, 9]))), format)
    };
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = whole(format);
        for length in [0, 1, 8, 20, bytes.len() / 2] {
            let error =
                Image::decode(&bytes[..length]).map(|_| ()).expect_err(&format!("{format:?} of {length} bytes"));
            assert!(error.to_string().contains("PNG, JPEG and WebP"), "{error}");
        }
    }
    for other in ["a text under a picture's name", "GIF89a\u{1}\0\u{1}\0", "<svg xmlns='x'/>", ""] {
        let error = Image::decode(other.as_bytes()).expect_err("no picture").to_string();
        assert!(error.contains("of another kind under that name"), "{error}");
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("letter.png");
    std::fs::write(&path, "Dear cat")?;
    assert!(Image::open(&path).is_err_and(|e| e.to_string().contains("letter.png") && e.to_string().contains("WebP")));
    assert!(Image::open(folder.path().join("none.png")).is_err_and(|e| e.to_string().contains("none.png")));
    Ok(())
}

/// A chunk of a PNG file: length, name, data, checksum (ISO 3309).
fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [name.as_slice(), data].concat();
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    };
    let crc = !body.iter().fold(!0u32, byte);
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
}

/// Chunks of a PNG file by name.
fn chunks(png: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut at, mut chunks) = (8, Vec::new());
    while at < png.len() {
        let length = u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]) as usize;
        chunks.push((png[at + 4..at + 8].to_vec(), png[at + 8..at + 8 + length].to_vec()));
        at += 12 + length;
    }
    chunks
}

#[test]
fn of_a_moving_png_the_first_frame_is_read() -> Result<()> {
    let frames = [[250, 10, 10], [10, 10, 250]].map(|colour| chunks(&png(RgbImage::from_pixel(2, 2, Rgb(colour)))));
    let data = |frame: usize| {
        frames[frame].iter().find(|chunk| chunk.0 == b"IDAT").map(|chunk| chunk.1.clone()).unwrap_or_default()
    };
    let control = |sequence: u32| {
        let header = [sequence, 2, 2, 0, 0].map(u32::to_be_bytes).concat();
        chunk(b"fcTL", &[&header[..], &[0, 1, 0, 10, 0, 0]].concat())
    };
    let film = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &frames[0][0].1),
        chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]),
        control(0),
        chunk(b"IDAT", &data(0)),
        control(1),
        chunk(b"fdAT", &[&[0, 0, 0, 2][..], &data(1)].concat()),
        chunk(b"IEND", &[]),
    ];
    assert_eq!(pixel(&Image::decode(&film.concat())?, 1, 1)?, [250, 10, 10]);
    Ok(())
}

/// A chunk of a RIFF file.
fn riff(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [name.as_slice(), &(data.len() as u32).to_le_bytes(), data, &[0][..data.len() % 2]].concat()
}

#[test]
fn of_a_moving_webp_the_first_frame_is_read() -> Result<()> {
    let frame = |colour| {
        let still = file(&RgbImage::from_pixel(2, 2, Rgb(colour)).into(), ImageFormat::WebP);
        let place = [0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 10, 0, 0, 0];
        riff(b"ANMF", &[&place[..], &still[12..]].concat())
    };
    let body = [
        b"WEBP".to_vec(),
        riff(b"VP8X", &[2, 0, 0, 0, 1, 0, 0, 1, 0, 0]),
        riff(b"ANIM", &[255, 255, 255, 255, 0, 0]),
        frame([250, 10, 10]),
        frame([10, 10, 250]),
    ];
    let colour = pixel(&Image::decode(&riff(b"RIFF", &body.concat()))?, 1, 1)?;
    assert!(colour.iter().zip([250u8, 10, 10]).all(|(got, drawn)| got.abs_diff(drawn) <= 1), "{colour:?}"); // frames are blended
    Ok(())
}

#[test]
fn a_small_file_that_claims_to_be_huge_is_refused() {
    let mut header = Vec::from(60_000u32.to_be_bytes());
    header.extend(60_000u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let png =
        [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &[]), &chunk(b"IEND", &[])].concat();
    assert!(Image::decode(&png).is_err_and(|error| error.to_string().contains("cannot be read")));
}
