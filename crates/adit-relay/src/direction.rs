//! One direction of one connection as a pure state machine: given what is known of the source and
//! the sink, what to do next. It does no I/O and holds no bytes; `session` does both.
//!
//! ```text
//!   Wait ──ready──▶ Fill ──bytes──▶ Flush ──all out──▶ Fill … source ended ──▶ Shut ──▶ Done
//! ```
//!
//! Invariants: nothing is taken from the source while something taken earlier is still held, or
//! while the sink is not known to take more (but for a client's first words, which `accept` takes in with it and which are
//! bounded there); the sink is shut only after the source ended
//! and everything went out. Readiness is edge-triggered: a flag stays set until the kernel
//! says "not now".

/// What to do next for a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, until an event.
    Wait,
    /// Take bytes from the source.
    Fill,
    /// Hand what is held to the sink.
    Flush,
    /// Tell the sink that nothing more comes.
    Shut,
    /// Nothing, ever.
    Done,
}

/// What an attempt to fill came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// This many bytes, and there may be more.
    More(u32),
    /// This many bytes, fewer than there was room for: nothing more is there as far as the kernel knew.
    Short(u32),
    /// Nothing there now.
    Dry,
    /// The source said its last.
    Ended,
}

#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// Bytes that went out to the sink, the preface excluded.
    moved: u64,
    /// Bytes taken but not yet out.
    held: u32,
    /// Of `held`, bytes that did not come from the source.
    preface: u32,
    /// How many bytes the source had the last time that it had any.
    filled_last: u32,
    readable: bool,
    writable: bool,
    /// The source hung up or has urgent data: a short read does not mean that nothing more is there.
    thorough: bool,
    ended: bool,
    shut: bool,
}

impl Direction {
    /// A direction that owes its sink `preface` bytes before any of the source's, and holds the first `early` of those.
    pub(crate) fn new(preface: u32, early: u32) -> Self {
        Self {
            held: preface + early,
            preface,
            ..Self::default()
        }
    }

    pub(crate) fn next(&self) -> Step {
        if self.shut {
            Step::Done
        } else if !self.writable {
            // Also before the first fill: what cannot be passed on stays in the kernel, whose
            // window then slows the sender down.
            if self.ended && self.held == 0 {
                Step::Shut
            } else {
                Step::Wait
            }
        } else if self.held > 0 {
            Step::Flush
        } else if self.ended {
            Step::Shut
        } else if self.readable {
            Step::Fill
        } else {
            Step::Wait
        }
    }

    /// The source may have something; `thorough` when it hung up or has urgent data.
    pub(crate) fn source_ready(&mut self, thorough: bool) {
        self.readable = true;
        self.thorough |= thorough;
    }

    /// The sink may take something.
    pub(crate) fn sink_ready(&mut self) {
        self.writable = true;
    }

    /// The answer to `Step::Fill`.
    pub(crate) fn filled(&mut self, filled: Filled) {
        debug_assert!(
            self.held == 0 && !self.ended,
            "filled while holding or after the end"
        );
        match filled {
            Filled::More(n) => {
                self.held = n;
                self.filled_last = n;
            }
            Filled::Short(n) => {
                self.held = n;
                self.filled_last = n;
                self.readable = self.thorough;
            }
            Filled::Dry => self.readable = false,
            Filled::Ended => self.ended = true,
        }
    }

    /// Part of the answer to `Step::Flush`: this much went out. Returns how much of it was the source's.
    pub(crate) fn flushed(&mut self, n: u32) -> u32 {
        debug_assert!(n <= self.held, "flushed more than was held");
        self.held -= n;
        let preface = n.min(self.preface);
        self.preface -= preface;
        self.moved += u64::from(n - preface);
        n - preface
    }

    /// The other possible answer to `Step::Flush`: the sink takes nothing now.
    pub(crate) fn sink_full(&mut self) {
        self.writable = false;
    }

    /// The answer to `Step::Shut`.
    pub(crate) fn shut(&mut self) {
        debug_assert!(self.ended && self.held == 0 && !self.shut, "shut out of turn");
        self.shut = true;
    }

    /// Whether epoll is to tell when more bytes come from the source; `told` if it does now. Not while bytes wait there that
    /// the sink does not take, since each packet would be a wake-up for nothing; and from then on not before the source is dry.
    pub(crate) fn is_to_be_told(&self, told: bool) -> bool {
        if self.held > 0 && !self.writable {
            told && !self.readable
        } else {
            told || !self.readable
        }
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    pub(crate) fn filled_last(&self) -> u32 {
        self.filled_last
    }

    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    pub(crate) fn is_done(&self) -> bool {
        self.shut
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A kernel in miniature: a source that fills up and ends, a sink that fills up and drains, and edges.
    #[derive(Debug, Default)]
    struct World {
        there: u32,
        fin: bool,
        fin_seen: bool,
        room: u32,
        hungry: bool,
        out: u64,
        shut: bool,
        deaf: bool,
    }

    impl World {
        fn answer(&mut self, direction: &mut Direction, step: Step, room: u32) {
            match step {
                Step::Fill => {
                    let n = self.there.min(room);
                    self.there -= n;
                    direction.filled(match n {
                        0 if self.fin => {
                            self.fin_seen = true;
                            Filled::Ended
                        }
                        0 => Filled::Dry,
                        n if n < room => Filled::Short(n),
                        n => Filled::More(n),
                    });
                }
                Step::Flush => {
                    let n = direction.held().min(self.room);
                    self.room -= n;
                    self.out += u64::from(n);
                    direction.flushed(n);
                    if n == 0 {
                        direction.sink_full();
                        self.hungry = true;
                    }
                }
                Step::Shut => {
                    assert!(self.fin_seen && self.there == 0, "shut before the end was read");
                    assert!(!self.shut, "shut twice");
                    self.shut = true;
                    direction.shut();
                }
                Step::Wait | Step::Done => {}
            }
        }

        fn drain(&mut self, direction: &mut Direction, n: u32) {
            self.room += n;
            if n > 0 && std::mem::take(&mut self.hungry) {
                direction.sink_ready();
            }
        }
    }

    /// Runs the machine until it waits; it must within a bounded number of steps.
    fn run(world: &mut World, direction: &mut Direction, room: u32) {
        for _ in 0..10_000_000 {
            let step = direction.next();
            if matches!(step, Step::Wait | Step::Done) {
                let deaf = !direction.is_to_be_told(!world.deaf);
                // Who asks to be told again is told of what is there already.
                if std::mem::replace(&mut world.deaf, deaf) && !deaf && world.there > 0 {
                    direction.source_ready(false);
                    continue;
                }
                return;
            }
            world.answer(direction, step, room);
        }
        panic!("it never waits: {direction:?} {world:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the order of events: every byte goes out exactly once, then one shut, and no lost wake-up.
        #[test]
        fn everything_goes_out_then_one_shut(
            preface in 0_u32..100,
            early in 0_u32..100,
            room in 10_u32..5_000,
            events in proptest::collection::vec((0_u8..4, 0_u32..20_000), 0..60),
        ) {
            let mut world = World { hungry: true, ..World::default() };
            let mut direction = Direction::new(preface, early);
            let mut sent = u64::from(early);
            for (kind, n) in events {
                match kind {
                    0 if n > 0 && !world.fin => {
                        world.there += n;
                        sent += u64::from(n);
                        if !world.deaf {
                            direction.source_ready(false);
                        }
                    }
                    1 => world.drain(&mut direction, n),
                    2 if n < 2_000 => {
                        world.fin = true;
                        direction.source_ready(true);
                    }
                    // One step only: the turn's share of work is used up, other events come first.
                    _ => {
                        let step = direction.next();
                        world.answer(&mut direction, step, room);
                        continue;
                    }
                }
                if n % 2 == 0 {
                    run(&mut world, &mut direction, room);
                }
                let read = sent - u64::from(world.there) + u64::from(preface);
                prop_assert_eq!(world.out + u64::from(direction.held()), read, "bytes lost or made up");
                prop_assert!(!world.shut || world.fin);
            }
            world.fin = true;
            direction.source_ready(true);
            for _ in 0..1_000 {
                run(&mut world, &mut direction, room);
                if direction.is_done() {
                    break;
                }
                world.drain(&mut direction, 100_000);
            }
            prop_assert!(direction.is_done() && world.shut, "stalled: {:?} {:?}", direction, world);
            prop_assert_eq!(world.out, sent + u64::from(preface));
            prop_assert_eq!(direction.moved(), sent);
            prop_assert_eq!(direction.next(), Step::Done);
        }
    }

    #[test]
    fn nothing_is_read_before_the_sink_takes_it() {
        let mut direction = Direction::new(0, 0);
        direction.source_ready(false);
        assert_eq!(direction.next(), Step::Wait);
        direction.sink_ready();
        assert_eq!(direction.next(), Step::Fill);
    }

    #[test]
    fn a_source_is_not_heard_while_the_sink_is_full() {
        let mut direction = Direction::new(0, 0);
        direction.sink_ready();
        direction.source_ready(false);
        direction.filled(Filled::More(5));
        assert!(direction.is_to_be_told(true));
        direction.flushed(2);
        direction.sink_full();
        assert!(!direction.is_to_be_told(true));
        direction.sink_ready();
        direction.flushed(3);
        assert!(!direction.is_to_be_told(false), "there may be more still");
        direction.filled(Filled::Dry);
        assert!(direction.is_to_be_told(false));
    }

    #[test]
    fn a_short_read_after_a_hang_up_is_followed_by_another() {
        let mut direction = Direction::new(0, 0);
        direction.sink_ready();
        direction.source_ready(true);
        direction.filled(Filled::Short(5));
        assert_eq!(direction.flushed(5), 5);
        assert_eq!(direction.next(), Step::Fill);
    }
}
