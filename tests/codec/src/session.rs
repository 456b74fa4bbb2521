//! Decoders for every kind of session.

use bytes::BytesMut;
use causeway_bgp::types::{Asn, Family, RouterId};
use causeway_bgp::wire::{
    Capability, Decoder, DecoderConfig, EncodeOptions, HEADER_BYTES, Open, SessionKind, encode_open,
};

/// Our AS in every test.
pub const LOCAL_AS: u32 = 65001;
/// The peer's AS if it is another one.
pub const REMOTE_AS: u32 = 65002;

/// What decides how an UPDATE is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// How the peer relates to us.
    pub kind: SessionKind,
    /// Whether the peer speaks 4-octet AS numbers.
    pub as4: bool,
    /// Whether both announced extended messages.
    pub extended: bool,
    /// Whether external routes have to begin with the peer's AS.
    pub enforce_first_as: bool,
}

impl Session {
    /// Every session, in the order of [`Self::from_bits`].
    pub fn all() -> impl Iterator<Item = Self> {
        (0..32).map(Self::from_bits)
    }

    /// The session that 5 bits stand for; higher bits mean nothing.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self {
            kind: match bits & 3 {
                0 => SessionKind::External,
                1 => SessionKind::Internal,
                2 => SessionKind::Confederation,
                _ => SessionKind::External,
            },
            as4: bits & 4 != 0,
            extended: bits & 8 != 0,
            enforce_first_as: bits & 16 != 0,
        }
    }

    /// Our OPEN.
    #[must_use]
    pub fn local(self) -> Open {
        self.open(LOCAL_AS, true)
    }

    /// The peer's OPEN.
    #[must_use]
    pub fn remote(self) -> Open {
        let asn = match self.kind {
            SessionKind::Internal => LOCAL_AS,
            SessionKind::External | SessionKind::Confederation => REMOTE_AS,
        };
        self.open(asn, self.as4)
    }

    fn open(self, asn: u32, as4: bool) -> Open {
        let mut capabilities = vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
        ];
        if as4 {
            capabilities.push(Capability::FourOctetAs(Asn(asn)));
        }
        if self.extended {
            capabilities.push(Capability::ExtendedMessage);
        }
        Open {
            asn: Asn(asn),
            hold_time: 90,
            router_id: RouterId(asn),
            capabilities,
        }
    }

    /// A decoder that waits for the peer's OPEN.
    #[must_use]
    pub fn fresh_decoder(self) -> Decoder {
        let members: &[Asn] = match self.kind {
            SessionKind::Confederation => &[Asn(REMOTE_AS)],
            _ => &[],
        };
        let config = DecoderConfig {
            confederation_members: members.into(),
            enforce_first_as: self.enforce_first_as,
        };
        Decoder::new(&self.local(), config)
    }

    /// A decoder that has seen the peer's OPEN.
    ///
    /// # Panics
    ///
    /// If our own OPEN is refused, which is what a test is for.
    #[must_use]
    pub fn decoder(self) -> Decoder {
        let mut decoder = self.fresh_decoder();
        let mut bytes = BytesMut::new();
        encode_open(&self.remote(), &mut bytes);
        decoder
            .decode(&mut bytes)
            .expect("our OPEN is valid")
            .expect("our OPEN is whole");
        decoder
    }

    /// How to write UPDATEs that this session's decoder reads.
    #[must_use]
    pub fn encode_options(self) -> EncodeOptions {
        let decoder = self.decoder();
        let negotiated = decoder.negotiated().expect("the OPEN was decoded");
        EncodeOptions::from(negotiated)
    }
}

/// A whole message around a body; `None` if it is too long for a length field.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Option<BytesMut> {
    let length = u16::try_from(HEADER_BYTES + body.len()).ok()?;
    let mut bytes = BytesMut::from(&[0xff; 16][..]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[kind]);
    bytes.extend_from_slice(body);
    Some(bytes)
}
