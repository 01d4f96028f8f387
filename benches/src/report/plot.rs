//! One unit's figures as horizontal bars: a group per load, a bar per column.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::{
        DrawingArea, IntoDrawingArea, IntoFont, RGBColor, Rectangle, SVGBackend, Text, TextStyle,
        WHITE,
    },
    style::{
        Color,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Report, Row, number};

const WIDTH: i32 = 900;
const MARGIN: i32 = 16;
const LABELS_WIDTH: i32 = 230;
/// Room for the figure at the end of a bar.
const FIGURES_WIDTH: i32 = 60;
const HEADING_HEIGHT: i32 = 74;
const BAR_HEIGHT: i32 = 14;
/// plotters makes 12 pixels of it.
const FONT_SIZE: i32 = 15;
const GROUP_GAP: i32 = 12;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// The first column, which is Tacit, stands out.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x0b, 0x6e, 0x99),
    RGBColor(0xb8, 0xb0, 0xa2),
    RGBColor(0xd9, 0xa4, 0x41),
    RGBColor(0x8f, 0xa8, 0x7c),
    RGBColor(0xa8, 0x7c, 0x9f),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the rows of `report` that have `unit`.
pub(super) fn draw(path: &Path, report: &Report, unit: &str) -> Result<()> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.unit == unit).collect();
    let group_height = BAR_HEIGHT * report.columns.len() as i32 + GROUP_GAP;
    let height = HEADING_HEIGHT + group_height * rows.len() as i32 + MARGIN;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    draw_heading(&area, report, unit)?;

    let figures =
        rows.iter().flat_map(|row| report.columns.iter().filter_map(|column| row.median(column)));
    let scale = f64::from(WIDTH - 2 * MARGIN - LABELS_WIDTH - FIGURES_WIDTH)
        / figures.fold(f64::MIN_POSITIVE, f64::max);
    for (n, row) in rows.iter().enumerate() {
        let top = HEADING_HEIGHT + group_height * n as i32;
        let middle = top + (group_height - GROUP_GAP) / 2;
        write(&area, &row.load, (MARGIN + LABELS_WIDTH - 8, middle), HPos::Right)?;
        for (n, column) in report.columns.iter().enumerate() {
            let Some(figure) = row.median(column) else { continue };
            let left = MARGIN + LABELS_WIDTH;
            let right = left + (figure * scale) as i32;
            let top = top + BAR_HEIGHT * n as i32;
            let corners = [(left, top), (right, top + BAR_HEIGHT - 2)];
            area.draw(&Rectangle::new(corners, colour(n).filled())).map_err(failed)?;
            write(&area, &number(figure), (right + 4, top + BAR_HEIGHT / 2), HPos::Left)?;
        }
    }
    area.present().map_err(failed)
}

fn draw_heading(area: &Area<'_>, report: &Report, unit: &str) -> Result<()> {
    write(area, unit, (MARGIN, MARGIN), HPos::Left)?;
    write(area, &report.heading(), (MARGIN, MARGIN + 18), HPos::Left)?;
    let width = (WIDTH - 2 * MARGIN) / report.columns.len().max(4) as i32;
    for (n, column) in report.columns.iter().enumerate() {
        let (left, top) = (MARGIN + width * n as i32, MARGIN + 32);
        let square = [(left, top), (left + 10, top + 10)];
        area.draw(&Rectangle::new(square, colour(n).filled())).map_err(failed)?;
        write(area, column, (left + 16, top + 5), HPos::Left)?;
    }
    Ok(())
}

fn colour(column: usize) -> RGBColor {
    COLOURS[column % COLOURS.len()]
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), side: HPos) -> Result<()> {
    let style = TextStyle::from(("sans-serif", FONT_SIZE).into_font())
        .color(&INK)
        .pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
