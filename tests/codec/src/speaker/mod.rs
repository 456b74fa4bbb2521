//! The fuzz target of the whole speaker: bytes are read as a schedule of what happens to it, and after every step
//! everything that must always hold is looked at.
//!
//! - [`plan`]: who its peers are, and its configuration in variants, by the bits of one octet.
//! - [`remote`]: the other end of a connection, which writes messages and keeps what the speaker tells it.
//! - [`world`]: the shell around the speaker: connections, forwarding tables, next hops, credit, time.
//! - [`schedule`]: what the octets of an input mean.
//! - [`check`]: what must hold.
//! - [`seeds`]: schedules to start from; the corpus in `tests/fuzz/corpus/speaker` is written from them.

mod check;
mod plan;
mod remote;
mod schedule;
pub mod seeds;
mod world;

use plan::Manner;
use schedule::Cursor;
use world::World;

pub use world::Seen;

/// Steps of one execution; the rest of the input is not looked at.
const MAX_STEPS: usize = 160;

/// Does what the bytes say to a speaker. The first octet says how the shell behaves, the second one is the variant of the
/// configuration, then come steps: what to do, and its arguments.
///
/// # Panics
///
/// If something does not hold that must.
pub fn speaker(data: &[u8]) {
    run(data, false);
}

/// The same, and what it led to.
///
/// # Panics
///
/// If something does not hold that must.
#[must_use]
pub fn observe(data: &[u8]) -> Seen {
    run(data, true)
}

fn run(data: &[u8], watched: bool) -> Seen {
    let mut cursor = Cursor::new(data);
    let mut manner = Manner::new(cursor.byte());
    manner.watched = watched;
    let mut world = World::new(manner, cursor.byte());
    check::always(&world);
    for _ in 0..MAX_STEPS {
        let Some(what) = cursor.next() else {
            break;
        };
        schedule::step(&mut world, what, &mut cursor);
        check::always(&world);
    }
    world.settle();
    check::always(&world);
    world.seen.routes_compared = check::at_rest(&world);
    world.seen
}
