//! Charts, as SVG that the server draws. A reader of the screen gets the same figures as a table.

use maud::{Markup, html};

use super::part::number;

/// A small line of counts: `what` says of what, for those who don't see it.
pub(in crate::web) fn spark(counts: &[u64], what: &str) -> Markup {
    let (width, height) = (88.0, 22.0);
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let step = width / (counts.len().max(2) - 1) as f64;
    let point = |(at, count): (usize, &u64)| {
        let y = height - 2.0 - (height - 4.0) * *count as f64 / most as f64;
        format!("{:.1},{y:.1}", at as f64 * step)
    };
    let points: Vec<String> = counts.iter().enumerate().map(point).collect();
    html! {
        svg.spark viewBox="0 0 88 22" preserveAspectRatio="none" role="img" aria-label=(what) {
            path.c-grid d="M0 20.5h88" {}
            polyline.c-line points=(points.join(" ")) {}
        }
    }
}

/// A chart of counts over time.
pub(in crate::web) struct Chart<'c> {
    /// The id of its title, which no other chart of the page has.
    pub(in crate::web) id: &'c str,
    pub(in crate::web) title: &'c str,
    /// The figure above the line, and what it counts.
    pub(in crate::web) figure: String,
    pub(in crate::web) note: String,
    /// Of each step its time as the table shows it, and its count. The last step is now.
    pub(in crate::web) steps: Vec<(Markup, u64)>,
    /// The words below the beginning and the middle.
    pub(in crate::web) from: String,
    pub(in crate::web) middle: String,
    /// The head of the table's first column, such as `Hour from`.
    pub(in crate::web) step: &'c str,
    /// Bars instead of a line; the highest stand out.
    pub(in crate::web) bars: bool,
}

const WIDTH: f64 = 260.0;
/// The line that the counts stand on, and the highest that one reaches.
const BASE: f64 = 84.0;
const TOP: f64 = 12.0;

impl Chart<'_> {
    pub(in crate::web) fn draw(&self) -> Markup {
        let most = self.steps.iter().map(|(_, count)| *count).max().unwrap_or_default();
        let grid = grid(most);
        let y = |count: u64| BASE - (BASE - TOP) * count as f64 / most.max(1) as f64;
        html! {
            figure.chart {
                h3 id=(self.id) { (self.title) }
                p.fig { b { (self.figure) } span.muted.xs { (self.note) } }
                svg viewBox="0 0 260 100" role="img" aria-labelledby=(self.id) {
                    path.c-grid d=(format!("M0 {BASE}h{WIDTH}M0 {:.1}h{WIDTH}", y(grid))) {}
                    @if self.bars { (self.bars(&y, most)) } @else { (self.line(&y)) }
                    @if grid > 0 { text.c-txt x="0" y=(format!("{:.1}", y(grid) - 3.0)) { (number(grid)) } }
                    text.c-txt x="0" y="97" { (self.from) }
                    text.c-txt x="130" y="97" text-anchor="middle" { (self.middle) }
                    text.c-txt x="260" y="97" text-anchor="end" { "now" }
                }
                details {
                    summary { "As a table" }
                    table.tbl {
                        caption.vh { (self.title) }
                        thead { tr { th scope="col" { (self.step) } th.num scope="col" { (self.title) } } }
                        tbody {
                            @for (when, count) in self.steps.iter().rev() {
                                tr { th scope="row" { (when) } td.num { (number(*count)) } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn line(&self, y: &dyn Fn(u64) -> f64) -> Markup {
        let step = WIDTH / (self.steps.len().max(2) - 1) as f64;
        let point = |(at, (_, count)): (usize, &(Markup, u64))| format!("{:.1} {:.1}", at as f64 * step, y(*count));
        let points: Vec<String> = self.steps.iter().enumerate().map(point).collect();
        let line = points.join("L");
        let last = self.steps.last().map_or(BASE, |(_, count)| y(*count));
        html! {
            path.c-area d=(format!("M0 {BASE}L{line}L{WIDTH} {BASE}z")) {}
            path.c-line d=(format!("M{line}")) {}
            circle.c-dot cx="260" cy=(format!("{last:.1}")) r="3.5" {}
        }
    }

    fn bars(&self, y: &dyn Fn(u64) -> f64, most: u64) -> Markup {
        let step = WIDTH / self.steps.len().max(1) as f64;
        html! {
            @for (at, (_, count)) in self.steps.iter().enumerate() {
                rect class=(if *count * 2 > most && *count > 0 { "c-bar hi" } else { "c-bar" })
                    x=(format!("{:.1}", at as f64 * step)) y=(format!("{:.1}", y(*count)))
                    width=(format!("{:.1}", step * 0.86)) height=(format!("{:.1}", BASE - y(*count))) {}
            }
        }
    }
}

/// A round number at about half of the most, for the line across.
fn grid(most: u64) -> u64 {
    let half = most / 2;
    let unit = 10_u64.pow(half.checked_ilog10().unwrap_or_default());
    [5, 2, 1]
        .into_iter()
        .map(|times| times * unit)
        .find(|round| *round <= half)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_nothing_and_of_anything_has_no_broken_number() {
        for counts in [vec![], vec![0], vec![7], vec![0, 0, 0], vec![1, u64::MAX / 4, 3]] {
            let steps = counts.iter().map(|count| (html! { "12:00" }, *count)).collect();
            for bars in [true, false] {
                let chart = Chart {
                    id: "c1",
                    title: "Sent",
                    figure: "1".to_owned(),
                    note: String::new(),
                    steps: std::clone::Clone::clone(&steps),
                    from: String::new(),
                    middle: String::new(),
                    step: "Hour from",
                    bars,
                };
                let drawn = chart.draw().into_string() + &spark(&counts, "x").into_string();
                // A shape that isn't closed swallows those behind it.
                for shape in ["path", "polyline", "circle", "rect"] {
                    let count = |text: &str| drawn.matches(text).count();
                    assert_eq!(
                        count(&format!("<{shape} ")),
                        count(&format!("</{shape}>")),
                        "{shape}: {drawn}"
                    );
                }
                assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
            }
        }
        assert_eq!(
            [grid(0), grid(1), grid(9), grid(1_000), grid(13_264)],
            [0, 0, 2, 500, 5_000]
        );
    }
}
