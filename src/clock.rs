//! The two clocks of the machine. This module alone reads them; everyone else gets the time as an argument.
//!
//! - [`wall_micros`] is the time that other machines mean: for signatures, expiry, and times that people or other
//!   programs read. It jumps when somebody sets the clock.
//! - [`steady_micros`] never jumps, and goes on while the machine sleeps: for spacing alone, such as limits, delays
//!   and sessions.
//!
//! [`Jumps`] reports when the two have drifted apart.

use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

/// The clock that counts on while the machine sleeps, which Linux alone has.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// Less is the adjusting of a clock, not a jump.
const JUMP_MIN: i64 = 1_000_000;

/// The steady clock counts from the wall clock's time at the first look at it.
static OFFSET: LazyLock<i64> = LazyLock::new(|| wall_micros() - read(STEADY));

/// Microseconds since 1970 by the wall clock.
pub fn wall_micros() -> i64 {
    read(ClockId::Realtime)
}

/// Milliseconds since 1970 by the wall clock.
pub fn wall_millis() -> i64 {
    wall_micros().div_euclid(1000)
}

/// Microseconds by a clock that never jumps; they mean nothing to another process.
pub fn steady_micros() -> i64 {
    read(STEADY) + *OFFSET
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// Tells each jump of the wall clock once.
#[derive(Debug, Clone, Copy)]
pub struct Jumps {
    /// How far the wall clock was ahead of the steady one at the last look.
    ahead: i64,
}

impl Jumps {
    /// Begins with both clocks as they are, in microseconds.
    pub fn since(wall: i64, steady: i64) -> Self {
        Self { ahead: wall - steady }
    }

    /// By how many microseconds the wall clock has jumped since the last look: forward is positive.
    pub fn look(&mut self, wall: i64, steady: i64) -> Option<i64> {
        let jumped = (wall - steady) - std::mem::replace(&mut self.ahead, wall - steady);
        (jumped.abs() >= JUMP_MIN).then_some(jumped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn each_jump_is_told_once_with_its_size_and_slow_adjusting_never() {
        let mut jumps = Jumps::since(1_000 * SECOND, 7 * SECOND);
        assert_eq!(jumps.look(1_005 * SECOND, 12 * SECOND), None);
        // Half a second in each of many looks is a clock that is adjusted.
        assert_eq!(jumps.look(1_006 * SECOND + SECOND / 2, 13 * SECOND), None);
        assert_eq!(jumps.look(1_008 * SECOND, 14 * SECOND), None);
        assert_eq!(jumps.look(1_609 * SECOND, 15 * SECOND), Some(600 * SECOND));
        assert_eq!(jumps.look(1_610 * SECOND, 16 * SECOND), None);
        assert_eq!(jumps.look(1_011 * SECOND, 17 * SECOND), Some(-600 * SECOND));
        assert_eq!(jumps.look(1_012 * SECOND, 18 * SECOND), None);
    }

    #[test]
    fn the_steady_clock_begins_at_the_wall_clock_and_goes_on() {
        let (wall, first) = (wall_micros(), steady_micros());
        assert!((wall - first).abs() < 60 * SECOND, "{wall} {first}");
        assert!(steady_micros() >= first);
    }
}
