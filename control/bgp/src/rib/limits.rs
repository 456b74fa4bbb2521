//! Every limit of the RIB, with its unit in the name.

/// Sessions whose paths the RIB can hold per family at once, those under removal included.
pub(super) const MAX_SOURCES: usize = u16::MAX as usize - 1;

/// Default of [`super::RibConfig::group_log_bytes`].
pub(super) const GROUP_LOG_BYTES: usize = 4 << 20;

/// Encoded messages are handed out in pieces of about this size.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Destinations of one batch of exports or of a table dump: what is grouped by attributes and encoded at once.
pub(super) const MAX_BATCH_DESTINATIONS: usize = 16 << 10;

/// Destinations by which a flush or batch may exceed its size to keep routes with the same attributes together: a little
/// more than the /24s that fit a 4096-byte UPDATE.
pub(super) const MAX_EXCESS_DESTINATIONS: usize = 1024;

/// What is encoded ahead for a member that catches up.
pub(super) const MAX_READY_BYTES: usize = 256 << 10;

/// Destinations looked at for one page of a listing.
pub(super) const MAX_PAGE_SCAN_DESTINATIONS: u32 = 64 << 10;

/// Destinations without paths looked at beside those of the flush itself, to forget them.
pub(super) const MAX_BURY_DESTINATIONS: usize = 1024;
