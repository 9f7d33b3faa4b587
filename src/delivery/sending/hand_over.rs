//! Partitions that come, go and are started over.

use std::time::Duration;

use super::{AGAIN_AFTER, Effect, Gone, NEWER_AGAIN_AFTER, Notice, Sending};
use crate::delivery::ledger::{NewerOutcomes, Ownership};
use crate::delivery::limit::Micros;
use crate::delivery::recall::Recalled;
use crate::trail::{Crumb, Trail};

/// What a predecessor left of a partition is to be read back, not before the delay is over.
#[derive(Debug, Clone, Copy)]
pub struct Recall {
    pub partition: i32,
    pub ownership: Ownership,
    /// The last record that we read of it ourselves, when we had it before.
    pub ours: Option<Crumb>,
    pub delay: Duration,
}

/// What a predecessor left of a partition, by what is in Kafka now.
#[derive(Debug)]
pub struct Past {
    pub recalled: Recalled,
    pub trail: Trail,
    /// Where reading goes on, if the jobs that were read aren't there any more.
    pub anew: Option<i64>,
    /// The jobs' end.
    pub end: i64,
    /// Jobs that retention took before they were settled, at the most.
    pub passed: u64,
    /// The place of its outcomes is behind their end.
    pub outcomes_anew: bool,
}

/// Why a partition isn't taken over yet.
#[derive(Debug)]
pub enum NotRecalled {
    /// Kafka didn't say.
    Failed(String),
    /// A sender that doesn't know what was sent would send it again.
    Newer(NewerOutcomes),
}

impl From<String> for NotRecalled {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// A record of a partition to look at: is it still there?
#[derive(Debug, Clone, Copy)]
pub struct Looking {
    pub partition: i32,
    pub ownership: Ownership,
    pub crumb: Crumb,
    /// The newest record that was read when the look began.
    pub newest: Option<Crumb>,
}

/// What a look at a partition has found.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    pub looking: Looking,
    /// The record isn't there any more.
    pub is_gone: bool,
}

/// Partitions that go away once nothing of them is in flight or unwritten, and at the latest then.
#[derive(Debug)]
pub(super) struct Leaving {
    revocation: u64,
    partitions: Vec<(i32, Ownership)>,
    pub(super) until: Micros,
}

impl Sending {
    pub(super) fn take_over(&mut self, partition: i32, now: Micros) {
        let ownership = self.dispatch.take_over(partition, now);
        self.recall(partition, ownership, Duration::ZERO);
    }

    fn recall(&mut self, partition: i32, ownership: Ownership, delay: Duration) {
        let ours = self.dispatch.ledger.left(partition);
        self.effects.push(Effect::Recall(Recall {
            partition,
            ownership,
            ours,
            delay,
        }));
    }

    pub(super) fn recalled(
        &mut self,
        partition: i32,
        ownership: Ownership,
        past: Result<Box<Past>, NotRecalled>,
        now: Micros,
    ) {
        if !self.dispatch.ledger.is_ours(partition, ownership) {
            return;
        }
        let past = match past {
            Ok(past) => *past,
            Err(NotRecalled::Newer(newer)) => {
                self.dispatch.ledger.wait_for(partition, newer);
                return self.recall(partition, ownership, NEWER_AGAIN_AFTER);
            }
            Err(NotRecalled::Failed(message)) => {
                self.say(Notice::NotRecalled { partition, message });
                return self.recall(partition, ownership, AGAIN_AFTER);
            }
        };
        let started_over = self.say_gone(partition, &past);
        let from = past.recalled.committed;
        self.dispatch.own(partition, past.recalled, past.trail, now);
        self.effects.push(Effect::Begin {
            partition,
            ownership,
            from,
        });
        if started_over {
            self.rejoin();
        }
    }

    /// The group is left and joined anew, by a client that knows nothing: one that knew the topic may take its successor
    /// for an outdated word of it, and then reads none of it.
    fn rejoin(&mut self) {
        if !self.rejoins && !self.stopping {
            self.rejoins = true;
            self.effects.push(Effect::Rejoin);
        }
    }

    /// Says what of the past is gone. Whether the jobs are started over.
    fn say_gone(&mut self, partition: i32, past: &Past) -> bool {
        let ledger = &self.dispatch.ledger;
        let started_over = ledger.starts_over(partition) || past.anew.is_some();
        let lost = ledger.unsettled_before(partition, past.anew.unwrap_or(past.end));
        if started_over {
            let (from, end) = (past.recalled.committed, past.end);
            self.gone(partition, Gone::StartedOver { from, end, lost });
        }
        if past.passed > 0 {
            self.gone(partition, Gone::Passed { lost: past.passed });
        }
        if past.outcomes_anew {
            let end = past.recalled.outcomes_end;
            self.gone(partition, Gone::OutcomesAnew { end });
        }
        started_over
    }

    /// The records that we read aren't there any more. Nothing of the partition goes out until it is taken over as from
    /// another owner, by what Kafka has now.
    pub(super) fn start_over(&mut self, partition: i32, now: Micros) {
        if self.dispatch.ledger.is_open(partition) {
            self.effects.push(Effect::Pause(partition));
            self.take_over(partition, now);
        }
    }

    pub(super) fn revoked(&mut self, revocation: u64, partitions: &[i32], lost: bool, now: Micros) {
        let mut leaving = Vec::new();
        for partition in partitions {
            if lost {
                self.dispatch.disown(*partition);
            } else if let Some(ownership) = self.dispatch.ledger.ownership(*partition) {
                self.dispatch.retire(*partition);
                leaving.push((*partition, ownership));
            }
        }
        self.leaving.push(Leaving {
            revocation,
            partitions: leaving,
            until: now + self.hand_over_max,
        });
        // Kafka was away: it may come back with another topic of that name.
        if lost {
            self.rejoin();
        }
    }

    /// Hands over partitions with nothing in flight or unwritten, or whose time is up.
    pub(super) fn let_go(&mut self, now: Micros) {
        let all = std::mem::take(&mut self.leaving);
        let (stay, go): (Vec<Leaving>, Vec<Leaving>) = all
            .into_iter()
            .partition(|leaving| now < leaving.until && leaving.partitions.iter().any(|one| self.is_needed(*one)));
        self.leaving = stay;
        for leaving in go {
            let ours = leaving.partitions.iter();
            let ours = ours.filter(|(partition, ownership)| self.dispatch.ledger.is_ours(*partition, *ownership));
            let ours: Vec<i32> = ours.map(|(partition, _)| *partition).collect();
            let places = self.dispatch.ledger.places(&ours);
            ours.iter().for_each(|partition| self.dispatch.disown(*partition));
            self.effects.push(Effect::HandOver {
                revocation: leaving.revocation,
                places,
            });
        }
    }

    /// Whether something of a partition is in flight or unwritten.
    fn is_needed(&self, (partition, ownership): (i32, Ownership)) -> bool {
        let ledger = &self.dispatch.ledger;
        let is_needed = || self.dispatch.is_busy(partition) || ledger.is_owed(partition);
        ledger.is_ours(partition, ownership) && is_needed()
    }

    /// Looks whether what was read is still there, unless a look is under way.
    pub(super) fn look(&mut self) {
        if self.looks {
            return;
        }
        let looks = self.dispatch.ledger.looks();
        let looks: Vec<Looking> = looks
            .map(|(partition, ownership, crumb, newest)| Looking {
                partition,
                ownership,
                crumb,
                newest,
            })
            .collect();
        if !looks.is_empty() {
            self.looks = true;
            self.effects.push(Effect::Look(looks));
        }
    }

    pub(super) fn looked(&mut self, looked: Vec<Looked>, now: Micros) {
        self.looks = false;
        for Looked { looking, is_gone } in looked {
            if !self.dispatch.ledger.is_ours(looking.partition, looking.ownership) {
                continue;
            }
            if is_gone {
                self.start_over(looking.partition, now);
            } else {
                self.dispatch.ledger.found(looking.partition, looking.newest);
            }
        }
    }
}
