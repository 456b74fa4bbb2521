//! What a changed configuration asks for: nothing, new facts for the RIB, or a new session.

use crate::config::{PeerConfig, SessionConfig};

/// What a change of a peer's configuration asks for. The strongest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing to do now: used by the next timer, attempt or check.
    Live,
    /// A new MD5 key for the live connection and the listening sockets.
    Rekey,
    /// Routes are imported and sent anew under the new policies; the session stays.
    Routes,
    /// A new session, because of this field.
    Reset(&'static str),
}

type Row = (
    &'static str,
    fn(&SessionConfig, &SessionConfig) -> bool,
    fn(&'static str) -> Change,
);

/// One row per field: whether it differs, and what that asks for.
const TABLE: &[Row] = &[
    (
        "remote_as",
        |a, b| a.remote_as != b.remote_as,
        Change::Reset,
    ),
    ("local_as", |a, b| a.local_as != b.local_as, Change::Reset),
    (
        "local_address",
        |a, b| a.local_address != b.local_address,
        Change::Reset,
    ),
    (
        "shutdown",
        |a, b| a.shutdown.is_some() != b.shutdown.is_some(),
        Change::Reset,
    ),
    (
        "transport.ttl",
        |a, b| a.transport.ttl != b.transport.ttl,
        Change::Reset,
    ),
    (
        "transport.dscp",
        |a, b| a.transport.dscp != b.transport.dscp,
        Change::Reset,
    ),
    (
        "transport.md5",
        |a, b| a.transport.md5.is_some() != b.transport.md5.is_some(),
        Change::Reset,
    ),
    (
        "transport.md5",
        |a, b| a.transport.md5 != b.transport.md5,
        |_| Change::Rekey,
    ),
    (
        "timers.hold",
        |a, b| a.timers.hold != b.timers.hold,
        Change::Reset,
    ),
    ("timers", |a, b| a.timers != b.timers, |_| Change::Live),
    ("families", families_differ, Change::Reset),
    ("families.routing", routing_differs, |_| Change::Routes),
    ("families.max_prefixes", max_prefixes_differ, |_| {
        Change::Live
    }),
    (
        "graceful_restart",
        |a, b| a.graceful_restart != b.graceful_restart,
        Change::Reset,
    ),
    (
        "extended_messages",
        |a, b| a.extended_messages != b.extended_messages,
        Change::Reset,
    ),
    (
        "route_reflector_client",
        |a, b| a.route_reflector_client != b.route_reflector_client,
        Change::Reset,
    ),
    (
        "enforce_first_as",
        |a, b| a.enforce_first_as != b.enforce_first_as,
        |_| Change::Routes,
    ),
    (
        "allow_own_as",
        |a, b| a.allow_own_as != b.allow_own_as,
        |_| Change::Routes,
    ),
];

/// What the change from `old` to `new` asks for, or `None` if nothing differs.
#[must_use]
pub fn change(old: &PeerConfig, new: &PeerConfig) -> Option<Change> {
    if (old.remote, old.scope, old.port) != (new.remote, new.scope, new.port) {
        return Some(Change::Reset("remote"));
    }
    let passive = (old.passive != new.passive).then_some(Change::Live);
    session_change(&old.session, &new.session).max(passive)
}

/// The same for what a template shares.
#[must_use]
pub fn session_change(old: &SessionConfig, new: &SessionConfig) -> Option<Change> {
    TABLE
        .iter()
        .filter(|(_, differs, _)| differs(old, new))
        .map(|(field, _, change)| change(field))
        .max()
}

fn families_differ(a: &SessionConfig, b: &SessionConfig) -> bool {
    a.families.len() != b.families.len() || a.families.iter().any(|f| b.family(f.family).is_none())
}

fn routing_differs(a: &SessionConfig, b: &SessionConfig) -> bool {
    a.families.iter().any(|f| {
        b.family(f.family)
            .is_some_and(|other| other.routing != f.routing)
    })
}

fn max_prefixes_differ(a: &SessionConfig, b: &SessionConfig) -> bool {
    a.families.iter().any(|f| {
        b.family(f.family)
            .is_some_and(|other| other.max_prefixes != f.max_prefixes)
    })
}
