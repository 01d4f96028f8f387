//! Text as a QR code, for a terminal, a page and a file.

use qrcode::{Color, EcLevel, QrCode, render::svg, types::QrError as CodeError};
use zeroize::Zeroizing;

/// Light modules around a code, as ISO/IEC 18004 asks.
const QUIET_ZONE: usize = 4;

/// Width and height of a module of the PNG in pixels.
const PNG_MODULE_PIXELS: usize = 8;

/// Black on white whatever the terminal's colours are, and back.
const BLACK_ON_WHITE: &str = "\x1b[30;107m";
const OWN_COLOURS: &str = "\x1b[0m";

/// Why there is no QR code.
#[derive(Debug, thiserror::Error)]
pub enum QrError {
    /// More than a QR code can hold.
    #[error("the text is too long for a QR code; use the file instead")]
    TooLong(#[source] CodeError),
    /// The picture could not be written.
    #[error("the QR code could not be written as PNG")]
    Png(#[source] png::EncodingError),
}

/// Draws `text` with two modules per character (Unicode half blocks), black on white.
///
/// # Errors
/// [`QrError::TooLong`]
pub fn terminal(text: &str) -> Result<Zeroizing<String>, QrError> {
    let modules = Modules::of(text)?;
    let mut drawing = Zeroizing::new(String::with_capacity(modules.side * modules.side * 2 + 4096));
    for y in (0..modules.side).step_by(2) {
        drawing.push_str(BLACK_ON_WHITE);
        for x in 0..modules.side {
            drawing.push(match (modules.is_dark(x, y), modules.is_dark(x, y + 1)) {
                (false, false) => ' ',
                (true, false) => '▀',
                (false, true) => '▄',
                (true, true) => '█',
            });
        }
        drawing.push_str(OWN_COLOURS);
        drawing.push('\n');
    }
    Ok(drawing)
}

/// Draws `text` as an SVG document.
///
/// # Errors
/// [`QrError::TooLong`]
pub fn svg(text: &str) -> Result<Zeroizing<String>, QrError> {
    let svg = code(text)?.render::<svg::Color<'_>>().min_dimensions(256, 256).build();
    Ok(Zeroizing::new(svg))
}

/// Draws `text` as a PNG file, one bit per pixel.
///
/// # Errors
/// [`QrError::TooLong`], or [`QrError::Png`] if it cannot be written.
pub fn png(text: &str) -> Result<Zeroizing<Vec<u8>>, QrError> {
    let modules = Modules::of(text)?;
    let side_pixels = modules.side * PNG_MODULE_PIXELS;
    let mut pixels = Zeroizing::new(Vec::with_capacity(side_pixels * modules.side));
    for y in 0..modules.side {
        // A module is a byte wide: eight pixels of one bit.
        let row: Zeroizing<Vec<u8>> = Zeroizing::new(
            (0..modules.side).map(|x| if modules.is_dark(x, y) { 0x00 } else { 0xff }).collect(),
        );
        (0..PNG_MODULE_PIXELS).for_each(|_| pixels.extend_from_slice(&row));
    }
    let side_pixels = u32::try_from(side_pixels).unwrap_or(u32::MAX);
    let mut file = Zeroizing::new(Vec::with_capacity(pixels.len() + 4096));
    let mut encoder = png::Encoder::new(&mut *file, side_pixels, side_pixels);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().map_err(QrError::Png)?;
    writer.write_image_data(&pixels).map_err(QrError::Png)?;
    writer.finish().map_err(QrError::Png)?;
    Ok(file)
}

fn code(text: &str) -> Result<QrCode, QrError> {
    QrCode::with_error_correction_level(text, EcLevel::M).map_err(QrError::TooLong)
}

/// The modules of a code with its quiet zone.
struct Modules {
    side: usize,
    code_side: usize,
    colours: Zeroizing<Vec<bool>>,
}

impl Modules {
    fn of(text: &str) -> Result<Self, QrError> {
        let code = code(text)?;
        let code_side = code.width();
        let colours = code.into_colors().into_iter().map(|colour| colour == Color::Dark).collect();
        Ok(Self { side: code_side + 2 * QUIET_ZONE, code_side, colours: Zeroizing::new(colours) })
    }

    /// Whether a module is dark; everything around the code is light.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = QUIET_ZONE..QUIET_ZONE + self.code_side;
        if !inside.contains(&x) || !inside.contains(&y) {
            return false;
        }
        self.colours[(y - QUIET_ZONE) * self.code_side + x - QUIET_ZONE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As long as a client config is.
    fn text() -> String {
        "PrivateKey = uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n".repeat(7)
    }

    /// What a phone reads in a picture of `side` times `side` pixels.
    fn scan(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
        let grey = |x, y| if is_dark(x, y) { 0 } else { 255 };
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side, side, grey);
        let (_, text) = picture.detect_grids()[0].decode().unwrap();
        text
    }

    #[test]
    fn terminal_drawing_scans() {
        let drawing = terminal(&text()).unwrap();
        let lines: Vec<Vec<char>> = drawing
            .lines()
            .map(|line| {
                let line = line.strip_prefix(BLACK_ON_WHITE).unwrap();
                line.strip_suffix(OWN_COLOURS).unwrap().chars().collect()
            })
            .collect();
        let side = lines[0].len();
        let is_dark = |x: usize, y: usize| {
            let (x, y) = (x / 4, y / 4);
            match lines[y / 2][x] {
                '█' => true,
                '▀' => y % 2 == 0,
                '▄' => y % 2 == 1,
                _ => false,
            }
        };
        assert_eq!(scan(side * 4, is_dark), text());
    }

    #[test]
    fn png_scans() {
        let file = png(&text()).unwrap();
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&file[..]));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let side = reader.next_frame(&mut pixels).unwrap().width as usize;
        assert_eq!(scan(side, |x, y| pixels[y * side + x] < 128), text());
    }

    #[test]
    fn svg_scans() {
        let document = svg(&text()).unwrap();
        let side: usize = between(&document, "width=\"", "\"").parse().unwrap();
        let mut dark = vec![false; side * side];
        for path in between(&document, " d=\"M", "\"").split('M') {
            // "x yhWvHHxVy": a rectangle.
            let numbers: Vec<usize> = path
                .split(|c: char| !c.is_ascii_digit())
                .map(|number| number.parse().unwrap())
                .collect();
            let [x, y, width, height, ..] = numbers[..] else { panic!("not a rectangle") };
            for row in y..y + height {
                dark[row * side + x..row * side + x + width].fill(true);
            }
        }
        assert_eq!(scan(side, |x, y| dark[y * side + x]), text());
    }

    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        text.split_once(start).unwrap().1.split_once(end).unwrap().0
    }

    #[test]
    fn too_long_a_text_is_refused() {
        let long = "x".repeat(3000);
        assert!(matches!(terminal(&long), Err(QrError::TooLong(_))));
        assert!(matches!(svg(&long), Err(QrError::TooLong(_))));
        assert!(matches!(png(&long), Err(QrError::TooLong(_))));
    }
}
