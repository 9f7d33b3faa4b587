//! A lane as a drawing: jobs queue up to a gate. The number beside it says the same.

use maud::{Markup, html};

use super::Standing;

/// At most so many blocks are drawn.
const BLOCKS_MAX: u32 = 11;

/// How many blocks stand for what waits: it grows with the logarithm.
fn blocks(waiting: u64) -> u32 {
    match waiting {
        0..=3 => waiting as u32,
        more => (3.0 + (more as f64 / 3.0).log2()).round() as u32,
    }
    .min(BLOCKS_MAX)
}

pub(super) fn lane(waiting: u64, standing: Standing) -> Markup {
    let blocks = blocks(waiting);
    let x = |nth: u32| 112.0 - 9.5 * f64::from(nth);
    let free = if blocks == 0 { 100.0 } else { x(blocks - 1) - 12.0 };
    html! {
        svg.lane viewBox="0 0 152 22" aria-hidden="true" {
            rect.road x=".5" y="2.5" width="151" height="17" rx="3" {}
            path.dash d=(format!("M6 11h{:.1}", free.max(4.0))) {}
            @for nth in 0..blocks {
                rect class=(if nth == 0 { "first" } else { "job" }) x=(format!("{:.1}", x(nth))) y="7.5" width="6" height="7" rx="1.5" {}
            }
            @match standing {
                Standing::Refused => path.gate.bad d="M126 4v14M132 6l10 10M142 6l-10 10" {},
                Standing::Paused => path.gate.wait d="M132 6v10M139 6v10" {},
                Standing::Frozen => path.gate.warn d="M126 4v14M131 4v14" {},
                Standing::Sending => path.go d="M131 7l4 4-4 4M139 7l4 4-4 4" {},
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_never_fuller_than_its_drawing() {
        assert_eq!([0, 1, 3, 6, 1_204, u64::MAX].map(blocks), [0, 1, 3, 4, 11, 11]);
        for waiting in [0, 1, 50, u64::MAX] {
            let drawn = lane(waiting, Standing::Frozen).into_string();
            assert!(!drawn.contains("h-") && !drawn.contains("x=\"-"), "{drawn}");
        }
    }
}
