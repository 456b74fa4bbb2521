//! NOTIFICATION (RFC 4271 4.5, 6).

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data, as the code defines it.
    pub data: Box<[u8]>,
}
