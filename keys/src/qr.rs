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
