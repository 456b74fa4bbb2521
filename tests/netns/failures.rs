//! What fails, fails under traffic: links, neighbours, the daemon, room in the maps. Forwarding and announcements must be
//! right in each case, and what is lost is counted and printed.
//!
//! `fan` is the stage: a router with many links to one peer.
//! `apart`: two of our nodes on one kernel.
//! `flows`: which flows move when a member of eight goes, and when it comes back.
//! `full`: a map has no room for what peers announce.
//! `links`: links cut one by one, together, twice, and while the daemon stands still; a neighbour that falls silent.
//! `table`: a link flaps under a hundred thousand routes.
//! `tiers`: two tiers of routers, one behind the other, choose independently.

mod apart;
mod fan;
mod flows;
mod full;
mod links;
mod table;
mod tiers;

use std::time::Duration;

/// For states that are waited for, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether long forms are wanted.
fn full() -> bool {
    std::env::var("CAUSEWAY_TIER").is_ok_and(|tier| tier == "full")
}
