//! A plot: what a ping waits under load, above an idle path's, against the share of the line that the load uses.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::report::PathResults;
use crate::types::{System, Way};

/// The least wait that the logarithmic axis shows, in ms.
const LEAST: f64 = 0.1;

/// What an SVG viewer has at hand.
const FONT: &str = "sans-serif";

/// A transfer: the share of the line that its payload uses, and the ping's wait in ms: median and 95th percentile.
struct Point {
    share: f64,
    median: f64,
    p95: f64,
}

/// Writes the plot of all transfers as SVG. A line leads from each median to its 95th percentile.
pub(crate) fn write(file: &Path, paths: &[PathResults]) -> Result<(), Box<dyn Error>> {
    let systems =
        [System::None, System::WireguardGo, System::Ours, System::OursHost, System::OursBbr, System::OursCubic];
    let series: Vec<(System, Vec<Point>)> = systems.map(|system| (system, points(system, paths))).into();
    let all = || series.iter().flat_map(|(_, points)| points);
    let most = all().map(|point| point.p95).fold(10.0, f64::max) * 1.5;
    let widest = all().map(|point| point.share).fold(1.0, f64::max);

    let area = SVGBackend::new(file, (900, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("A ping's wait under load: median, and line to the 95th percentile", (FONT, 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..widest * 1.02, (LEAST..most).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("payload, share of the line's rate")
        .y_desc("above idle, ms")
        .axis_desc_style((FONT, 14))
        .label_style((FONT, 12))
        .light_line_style(WHITE)
        .draw()?;
    for (system, points) in series.into_iter().filter(|(_, points)| !points.is_empty()) {
        let colour = colour(system);
        let lines = points.iter().map(|point| {
            PathElement::new(vec![(point.share, point.median), (point.share, point.p95)], colour.mix(0.35))
        });
        chart.draw_series(lines)?;
        chart
            .draw_series(points.iter().map(|point| Circle::new((point.share, point.median), 4, colour.filled())))?
            .label(system.name())
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 13))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.4))
        .draw()?;
    Ok(area.present()?)
}

fn points(system: System, paths: &[PathResults]) -> Vec<Point> {
    let mut points = Vec::new();
    for path in paths {
        for (_, measured) in path.measured.iter().filter(|(of, _)| *of == system) {
            let idle = measured.idle.ping.median().unwrap_or_default();
            for bulk in Way::BOTH.map(|way| measured.bulk(way)) {
                let above = |time: Option<f64>| time.map(|time| (time - idle).max(LEAST));
                if let (Some(median), Some(p95)) = (above(bulk.small.ping.median()), above(bulk.small.ping.p95())) {
                    points.push(Point { share: bulk.mbit / f64::from(path.case.rate), median, p95 });
                }
            }
        }
    }
    points
}

fn colour(system: System) -> RGBColor {
    match system {
        System::None => RGBColor(120, 120, 120),
        System::WireguardGo => RGBColor(136, 23, 26),
        System::Ours => RGBColor(0, 98, 178),
        System::OursHost => RGBColor(236, 140, 0),
        System::OursBbr => RGBColor(0, 140, 90),
        System::OursCubic => RGBColor(130, 60, 170),
    }
}
