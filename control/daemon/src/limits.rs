//! Limits of the daemon, all of them.

use core::time::Duration;

/// Events waiting for the speaker task. Connections wait when it is full.
pub(crate) const SPEAKER_EVENTS: usize = 1024;
/// Questions waiting for the speaker task.
pub(crate) const SPEAKER_QUESTIONS: usize = 64;
/// Batches of decoded messages that a connection may have before the speaker: one that is handled, one that is decoded.
pub(crate) const BATCHES_PER_CONNECTION: usize = 2;
/// Room offered to each read from a connection.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// Messages of one batch. Other peers' news wait while it is taken in: some 1,000 prefixes, a third of a millisecond.
pub(crate) const MESSAGES_PER_BATCH: usize = 128;
/// With fewer messages than this the speaker answers at once, without looking for more to come.
pub(crate) const FEW_MESSAGES: usize = 16;
/// Events that the speaker takes in before it answers, so that changes merge.
pub(crate) const EVENTS_PER_ROUND: usize = 512;
/// Time for which the speaker takes events in before it answers.
pub(crate) const ROUND_TIME: Duration = Duration::from_micros(500);
/// Time for which the speaker hands outputs on before it looks at events again.
pub(crate) const OUTPUT_TIME: Duration = Duration::from_millis(1);
/// Connections that wait to be accepted by us.
pub(crate) const LISTEN_BACKLOG: i32 = 1024;
/// Connections accepted and not yet closed; more are closed at once.
pub(crate) const CONNECTIONS: usize = 8192;
/// Connections whose last bytes are on their way; with more, others are reset.
pub(crate) const LINGERING: usize = 1024;
/// Time for the last bytes of a connection that is being closed.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// Time for which we wait for our last messages when the daemon ends.
pub(crate) const SHUTDOWN_TIME: Duration = Duration::from_secs(2);
/// Time for a TCP connection to be made.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(30);
/// Pause after a file changed before the directory is read, as editors and Kubernetes change several things in a row.
pub(crate) const RELOAD_PAUSE: Duration = Duration::from_millis(200);
/// Connections to the API at a time.
pub(crate) const API_CONNECTIONS: usize = 64;
/// Bytes of a request's body.
pub(crate) const API_BODY_BYTES: usize = 64 * 1024;
/// Time for a request.
pub(crate) const API_TIME: Duration = Duration::from_secs(30);
/// Commands waiting for the fabric thread. The speaker holds its outputs back when half of it is full.
pub(crate) const FABRIC_COMMANDS: usize = 256;
/// Time for which the fabric takes commands in before it writes: a link that fails waits meanwhile. A table that loads comes
/// in commands of about a millisecond.
pub(crate) const FABRIC_ROUND_TIME: Duration = Duration::from_millis(1);
/// Map operations planned at a time: some milliseconds, for which a link that fails waits too.
pub(crate) const FABRIC_BATCH_OPS: usize = 4096;
/// Pause before what failed is tried again.
pub(crate) const FABRIC_RETRY: Duration = Duration::from_secs(1);
/// Most pauses before what the kernel refused is tried again: they double from one to the next.
pub(crate) const FABRIC_RETRY_TICKS: u32 = 32;
/// Prefixes named at a time that could not be written to the maps, or could after all.
pub(crate) const PREFIXES_PER_EVENT: usize = 4096;
/// Retries between two comparisons of all maps with what is wanted.
pub(crate) const FABRIC_VERIFY_TICKS: u32 = 60;
/// Pause of the speaker while the fabric is busy.
pub(crate) const FABRIC_BUSY: Duration = Duration::from_millis(1);
/// Bytes of a recording that wait to be written; with more it ends.
pub(crate) const RECORDING_QUEUE_BYTES: usize = 32 << 20;
/// Pause between two log lines on what others can cause without end: malformed UPDATEs of one peer, connections refused.
pub(crate) const LOG_PAUSE: Duration = Duration::from_secs(1);
