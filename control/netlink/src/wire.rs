//! Framing of netlink: messages, attributes, errors. Everything is bounds-checked; integers are in host order.

use crate::error::KernelError;

/// `struct nlmsghdr`.
pub const HEADER_BYTES: usize = 16;
/// The last message of a dump.
pub const NLMSG_DONE: u16 = 3;
/// An error, or with errno 0 an acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// The dump was interrupted by a change and may be inconsistent.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// The header of the refused request comes without its payload.
const NLM_F_CAPPED: u16 = 0x100;
/// Attributes follow the refused request.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The kernel's words, a C string.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The bits of an attribute's type that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// Bytes that are not what they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A message ends before its header does, or claims more than there is.
    #[error("a message is cut short")]
    Message,
    /// An attribute ends before its header does, or claims more than there is.
    #[error("an attribute is cut short")]
    Attribute,
    /// A fixed part, or an attribute's value, has the wrong size.
    #[error("{0} has the wrong size")]
    Size(&'static str),
    /// Something needed is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// That of the request it answers; 0 for notifications.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of one datagram. Ends after the first malformed one.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = message(rest);
        rest = parsed.map_or(&[], |(_, after)| after);
        Some(parsed.map(|(message, _)| message))
    })
}

fn message(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let len = u32_at(bytes, 0).ok_or(Malformed::Message)? as usize;
    let (Some(kind), Some(flags), Some(sequence)) =
        (u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8))
    else {
        return Err(Malformed::Message);
    };
    let body = bytes.get(HEADER_BYTES..len).ok_or(Malformed::Message)?;
    let message = Message {
        kind,
        flags,
        sequence,
        body,
    };
    Ok((message, bytes.get(align(len)..).unwrap_or_default()))
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Type, without flags.
    pub kind: u16,
    /// Value.
    pub value: &'a [u8],
}

/// The attributes of a message. Ends after the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = attribute(rest);
        rest = parsed.map_or(&[], |(_, after)| after);
        Some(parsed.map(|(attribute, _)| attribute))
    })
}

fn attribute(bytes: &[u8]) -> Result<(Attribute<'_>, &[u8]), Malformed> {
    let (Some(len), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else {
        return Err(Malformed::Attribute);
    };
    let len = usize::from(len);
    let value = bytes.get(4..len).ok_or(Malformed::Attribute)?;
    let attribute = Attribute {
        kind: kind & !ATTRIBUTE_FLAGS,
        value,
    };
    Ok((attribute, bytes.get(align(len)..).unwrap_or_default()))
}

impl Message<'_> {
    /// What an [`NLMSG_ERROR`] or [`NLMSG_DONE`] says: `None` for success.
    ///
    /// # Errors
    ///
    /// If it is too short to say anything.
    pub fn error(&self) -> Result<Option<KernelError>, Malformed> {
        let code = i32_at(self.body, 0).ok_or(Malformed::Size("an error message"))?;
        if code >= 0 {
            return Ok(None);
        }
        Ok(Some(KernelError {
            errno: code.saturating_neg(),
            message: self.words(),
        }))
    }

    fn words(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        // After the code comes, in an error, the header of the request and, unless it was capped, the rest of it.
        let start = match (self.kind, self.flags & NLM_F_CAPPED) {
            (NLMSG_DONE, _) => 4,
            (_, 0) => 4 + align(u32_at(self.body, 4)? as usize),
            _ => 4 + HEADER_BYTES,
        };
        let text = attributes(self.body.get(start..)?)
            .map_while(Result::ok)
            .find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG)?;
        let text = text.value.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// Builds one message.
#[derive(Clone, Debug)]
pub struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// A request (`NLM_F_REQUEST` and `flags`) with the fixed part `body`.
    #[must_use]
    pub fn new(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Self {
        /// `NLM_F_REQUEST`.
        const REQUEST: u16 = 1;
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(align(bytes.len()), 0);
        Self { bytes }
    }

    /// Appends an attribute.
    ///
    /// # Panics
    ///
    /// If `value` is longer than an attribute can be (65,531 bytes): ours have a few.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(value.len() + 4).expect("attributes of requests are short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// The message, its length filled in.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes
    }
}

/// The next multiple of 4.
fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array_at(bytes, at).map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Builder::new(kind, 0, 9, body).finish();
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn messages_of_a_datagram_come_one_by_one() {
        let mut datagram = framed(16, 0, &[1, 2, 3]);
        datagram.extend(framed(3, 0, &[0; 4]));
        let found: Vec<_> = messages(&datagram).map(Result::unwrap).collect();
        assert_eq!(
            found.iter().map(|message| message.kind).collect::<Vec<_>>(),
            [16, 3]
        );
        assert_eq!(found[0].sequence, 9);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for len in [0_u32, 15, 200, u32::MAX] {
            let mut bytes = framed(16, 0, &[0; 16]);
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            let found: Vec<_> = messages(&bytes).collect();
            assert_eq!(found, [Err(Malformed::Message)], "{len}");
        }
        for len in [0_u16, 3, 9, u16::MAX] {
            let mut bytes = vec![0; 8];
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            let found: Vec<_> = attributes(&bytes).collect();
            assert_eq!(found, [Err(Malformed::Attribute)], "{len}");
        }
        assert_eq!(
            attributes(&[4, 0]).collect::<Vec<_>>(),
            [Err(Malformed::Attribute)]
        );
    }

    #[test]
    fn an_extended_acknowledgement_gives_the_kernels_words() {
        let attribute = |text: &[u8]| {
            let mut bytes = Vec::new();
            bytes.extend((text.len() as u16 + 4).to_ne_bytes());
            bytes.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
            bytes.extend(text);
            bytes
        };
        let mut capped = (-22_i32).to_ne_bytes().to_vec();
        capped.extend(framed(28, 0, &[]));
        capped.extend(attribute(b"Invalid state\0"));
        let bytes = framed(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &capped);
        let error = messages(&bytes).next().unwrap().unwrap().error();
        let error = error.unwrap().unwrap();
        assert_eq!(
            (error.errno, error.message.as_deref()),
            (22, Some("Invalid state"))
        );
        assert_eq!(
            error.to_string(),
            "Invalid state (Invalid argument (os error 22))"
        );

        let mut whole = (-22_i32).to_ne_bytes().to_vec();
        whole.extend(framed(28, 0, &[0; 12]));
        whole.extend(attribute(b"No\0"));
        let bytes = framed(NLMSG_ERROR, NLM_F_ACK_TLVS, &whole);
        let error = messages(&bytes).next().unwrap().unwrap().error();
        assert_eq!(error.unwrap().unwrap().message.as_deref(), Some("No"));

        let acknowledged = framed(NLMSG_ERROR, 0, &[0; 20]);
        let message = messages(&acknowledged).next().unwrap().unwrap();
        assert_eq!(message.error(), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes).flatten() {
                let _ = message.error();
                for attribute in attributes(message.body) {
                    let _ = attribute;
                }
            }
            prop_assert!(attributes(&bytes).count() <= 51);
        }
    }
}
