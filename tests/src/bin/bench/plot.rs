//! Growth as a picture: both axes logarithmic, so that a power is a straight line and its exponent the slope.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Lines over one axis.
pub(crate) struct Plot {
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// One line, and its points in order.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Plot {
    /// As SVG.
    pub(crate) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        self.draw(&mut text)
            .map_err(|error| anyhow!("draw: {error}"))?;
        text.push('\n');
        Ok(text)
    }

    fn draw(&self, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        // Dark or light is the reader's: the picture brings its own paper.
        area.fill(&WHITE)?;
        let points = || self.lines.iter().flat_map(Line::drawn);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
                (least.min(value), most.max(value))
            });
            // Of nothing there is an empty picture.
            if least > most {
                (1.0, 10.0)
            } else {
                (least / 1.5, most * 1.5)
            }
        };
        let x = range(&mut points().map(|(x, _)| x));
        let y = range(&mut points().map(|(_, y)| y));
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d((x.0..x.1).log_scale(), (y.0..y.1).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|value| value.to_string())
            .y_label_formatter(&|value| value.to_string())
            .y_labels(6)
            .label_style(FONT)
            .axis_desc_style(FONT)
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        for (number, line) in self.lines.iter().enumerate() {
            let color = Palette99::pick(number).to_rgba();
            let points: Vec<_> = line.drawn().collect();
            if points.is_empty() {
                continue;
            }
            let dots = points.iter().map(|at| Circle::new(*at, 3, color.filled()));
            chart.draw_series(dots.collect::<Vec<_>>())?;
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(FONT)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
        Ok(())
    }
}

impl Line {
    /// Nothing has a logarithm that is not above 0.
    fn drawn(&self) -> impl Iterator<Item = (f64, f64)> {
        let points = self.points.iter().copied();
        points.filter(|(x, y)| *x > 0.0 && *y > 0.0)
    }

    /// With which power of x it grows: the slope of the straight line that lies nearest. `None` of fewer than
    /// two points.
    pub(crate) fn exponent(&self) -> Option<f64> {
        let points: Vec<_> = self.drawn().map(|(x, y)| (x.ln(), y.ln())).collect();
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let width: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let both: f64 = points
            .iter()
            .map(|point| (point.0 - x) * (point.1 - y))
            .sum();
        (width > 0.0).then(|| both / width)
    }
}

const SIZE: (u32, u32) = (720, 420);
const FONT: (&str, u32) = ("sans-serif", 14);

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line {
            name: "growth".to_owned(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn a_power_has_its_exponent() {
        let square = line(&[(1.0, 3.0), (10.0, 300.0), (100.0, 30_000.0)]);
        assert!((square.exponent().unwrap() - 2.0).abs() < 1e-9);
        let flat = line(&[(1.0, 5.0), (10.0, 5.0)]);
        assert!(flat.exponent().unwrap().abs() < 1e-9);
        assert_eq!(line(&[(1.0, 5.0)]).exponent(), None);
        assert_eq!(line(&[]).exponent(), None);
    }

    #[test]
    fn what_is_0_is_left_out_of_a_picture_and_the_rest_is_drawn() {
        let plot = |points: &[(f64, f64)]| Plot {
            x: "nodes",
            y: "%",
            lines: vec![line(points)],
        };
        let svg = plot(&[(0.0, 1.0), (1.0, 0.0), (2.0, 3.0), (4.0, 9.0)])
            .svg()
            .unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("growth"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert_eq!(plot(&[]).svg().unwrap().matches("<circle").count(), 0);
    }
}
