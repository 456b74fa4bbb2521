//! UPDATE, decoding (RFC 4271 4.3 and 6.3, RFC 4760, RFC 7606).
//!
//! Three passes over borrowed bytes, then one that owns: split the fields; walk the attributes by their table into
//! [`Found`]; parse the prefixes, which decides whether a fault costs the routes or the session (RFC 7606 3 j, 5.2); and
//! build the attributes if there are routes that use them.

use super::attribute_table::{self, Context, Found, Malformed, MpReach, attribute, flags};
use super::error::{Approach, Fault, MessageError, Reaction};
use super::negotiated::{FamilySet, SessionKind};
use super::notification::{code, update as subcode};
use super::{Attributes, NextHop, Reach, UnknownAttribute, Update, nlri};
use crate::types::{AddressFamily, Asn, Family, Prefix4, Prefix6};

/// Reactions that one message reports; further ones are carried out silently. A hostile message can contain thousands.
pub const MAX_REACTIONS_PER_UPDATE: usize = 16;

/// What decoding an UPDATE needs to know about its session.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpdateContext {
    pub(super) session: SessionKind,
    pub(super) as4: bool,
    pub(super) families: FamilySet,
    /// Routes of an external peer have to begin with this AS (RFC 4271 6.3).
    pub(super) first_as: Option<Asn>,
}

/// A decoded UPDATE.
pub(super) struct DecodedUpdate {
    pub(super) update: Update,
    pub(super) reactions: Vec<Reaction>,
    /// IPv4 prefixes in MP_REACH_NLRI with another next hop than those of the NLRI field: a message of their own.
    pub(super) second: Option<Update>,
}

/// Decodes the message behind its header.
pub(super) fn decode(body: &[u8], context: UpdateContext) -> Result<DecodedUpdate, MessageError> {
    let fields = Fields::split(body)?;
    let mut walk = Walk::new(context, !fields.nlri.is_empty());
    walk.attributes(fields.attributes)?;
    walk.finish(fields)
}

/// The three fields (RFC 4271 4.3).
struct Fields<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    nlri: &'a [u8],
}

impl<'a> Fields<'a> {
    fn split(body: &'a [u8]) -> Result<Self, MessageError> {
        Self::try_split(body).ok_or_else(|| {
            MessageError::new(
                code::UPDATE,
                subcode::MALFORMED_ATTRIBUTE_LIST,
                &[],
                "the withdrawn routes or the attributes are longer than the message",
            )
        })
    }

    fn try_split(body: &'a [u8]) -> Option<Self> {
        let (withdrawn, rest) = split_u16(body)?;
        let (attributes, nlri) = split_u16(rest)?;
        Some(Self {
            withdrawn,
            attributes,
            nlri,
        })
    }
}

fn split_u16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The first fault that costs the routes: what a session reset would say (RFC 7606 5.2).
struct Worst<'a> {
    reason: Reaction,
    subcode: u8,
    data: &'a [u8],
}

/// Prefixes of MP_REACH_NLRI, and their next hop if it is one.
type MpPrefixes<P> = (Vec<P>, Result<NextHop, Fault>);

/// What a message announces.
struct Announced {
    /// Prefixes of the NLRI field, whose next hop is NEXT_HOP.
    classic: Vec<Prefix4>,
    mp4: Option<MpPrefixes<Prefix4>>,
    mp6: Option<MpPrefixes<Prefix6>>,
}

/// The walk over the attributes.
struct Walk<'a> {
    context: UpdateContext,
    has_nlri: bool,
    found: Found<'a>,
    seen: [u64; 4],
    reactions: Vec<Reaction>,
    worst: Option<Worst<'a>>,
}

impl<'a> Walk<'a> {
    fn new(context: UpdateContext, has_nlri: bool) -> Self {
        Self {
            context,
            has_nlri,
            found: Found::default(),
            seen: [0; 4],
            reactions: Vec::new(),
            worst: None,
        }
    }

    fn attributes(&mut self, list: &'a [u8]) -> Result<(), MessageError> {
        let mut rest = list;
        while let Some((&attribute_flags, _)) = rest.split_first() {
            let whole = rest;
            let Some((type_code, value, tail)) = split_attribute(rest) else {
                // RFC 7606 4: the NLRI field is where the total length says.
                let type_code = rest.get(1).copied().unwrap_or_default();
                self.withdraw(
                    type_code,
                    Fault::Overrun,
                    subcode::MALFORMED_ATTRIBUTE_LIST,
                    &[],
                );
                break;
            };
            rest = tail;
            let raw = &whole[..whole.len() - tail.len()];
            self.attribute(attribute_flags, type_code, value, raw)?;
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        attribute_flags: u8,
        type_code: u8,
        value: &'a [u8],
        raw: &'a [u8],
    ) -> Result<(), MessageError> {
        if self.mark_seen(type_code) {
            return self.duplicate(type_code);
        }
        let Some(row) = attribute_table::row(type_code) else {
            return self.unknown(attribute_flags, type_code, value, raw);
        };
        // RFC 4760 3: NEXT_HOP says nothing about the prefixes of MP_REACH_NLRI and is ignored without others.
        if type_code == attribute::NEXT_HOP && !self.has_nlri {
            return Ok(());
        }
        let context = Context {
            session: self.context.session,
            as4: self.context.as4,
        };
        let Err(verdict) = row.take(&mut self.found, attribute_flags, value, context) else {
            return Ok(());
        };
        let fault = verdict.fault;
        match verdict.cost {
            Malformed::Reset => {
                let error = match fault {
                    Fault::Flags => subcode::ATTRIBUTE_FLAGS,
                    _ => row.subcode,
                };
                Err(MessageError::new(
                    code::UPDATE,
                    error,
                    raw,
                    format!("{} {fault}", row.name),
                ))
            }
            Malformed::React(Approach::TreatAsWithdraw) => {
                let error = match fault {
                    Fault::Flags => subcode::ATTRIBUTE_FLAGS,
                    Fault::Length => subcode::ATTRIBUTE_LENGTH,
                    _ => row.subcode,
                };
                self.withdraw(type_code, fault, error, raw);
                Ok(())
            }
            Malformed::React(approach) => {
                self.react(type_code, fault, approach);
                Ok(())
            }
        }
    }

    /// Marks a type code and says whether it was marked before.
    fn mark_seen(&mut self, type_code: u8) -> bool {
        let word = &mut self.seen[usize::from(type_code >> 6)];
        let bit = 1 << (type_code & 63);
        let seen = *word & bit != 0;
        *word |= bit;
        seen
    }

    fn was_seen(&self, type_code: u8) -> bool {
        self.seen[usize::from(type_code >> 6)] & 1 << (type_code & 63) != 0
    }

    /// RFC 7606 3 g.
    fn duplicate(&mut self, type_code: u8) -> Result<(), MessageError> {
        if matches!(
            type_code,
            attribute::MP_REACH_NLRI | attribute::MP_UNREACH_NLRI
        ) {
            return Err(MessageError::new(
                code::UPDATE,
                subcode::MALFORMED_ATTRIBUTE_LIST,
                &[],
                "MP_REACH_NLRI or MP_UNREACH_NLRI appears more than once",
            ));
        }
        self.react(type_code, Fault::Duplicate, Approach::AttributeDiscard);
        Ok(())
    }

    /// RFC 4271 5 and 6.3: optional transitive attributes travel on, optional non-transitive ones are quietly ignored, and
    /// a well-known one that this speaker does not know is an error, about which RFC 7606 says nothing else.
    fn unknown(
        &mut self,
        attribute_flags: u8,
        type_code: u8,
        value: &[u8],
        raw: &[u8],
    ) -> Result<(), MessageError> {
        if attribute_flags & flags::OPTIONAL == 0 {
            return Err(MessageError::new(
                code::UPDATE,
                subcode::UNRECOGNIZED_WELL_KNOWN,
                raw,
                format!("attribute {type_code} claims to be well-known but is not known"),
            ));
        }
        if attribute_flags & flags::TRANSITIVE != 0 {
            self.found.unknown.push(UnknownAttribute {
                flags: flags::OPTIONAL | flags::TRANSITIVE | flags::PARTIAL,
                code: type_code,
                value: value.into(),
            });
        }
        Ok(())
    }

    fn react(&mut self, attribute: u8, fault: Fault, approach: Approach) {
        if self.reactions.len() < MAX_REACTIONS_PER_UPDATE {
            self.reactions.push(Reaction {
                attribute,
                fault,
                approach,
            });
        }
    }

    fn withdraw(&mut self, attribute: u8, fault: Fault, subcode: u8, data: &'a [u8]) {
        self.react(attribute, fault, Approach::TreatAsWithdraw);
        self.worst.get_or_insert(Worst {
            reason: Reaction {
                attribute,
                fault,
                approach: Approach::TreatAsWithdraw,
            },
            subcode,
            data,
        });
    }

    fn finish(mut self, fields: Fields<'a>) -> Result<DecodedUpdate, MessageError> {
        let mut update = Update::default();
        if nlri::decode(fields.withdrawn, &mut update.withdrawn4).is_none() {
            return Err(invalid_network("a withdrawn prefix is malformed"));
        }
        self.unreach(&mut update)?;

        let mut classic: Vec<Prefix4> = Vec::new();
        if nlri::decode(fields.nlri, &mut classic).is_none() {
            return Err(invalid_network("an announced prefix is malformed"));
        }
        let used = !classic.is_empty() || !update.withdrawn4.is_empty();
        if used && !self.context.families.contains(Family::Ipv4Unicast) {
            self.react(0, Fault::Family, Approach::IgnorePrefix);
            classic.clear();
            update.withdrawn4.clear();
        }
        let reach = self.found.mp_reach.take();
        let mp4 = self.mp_prefixes::<Prefix4>(reach)?;
        let mp6 = self.mp_prefixes(reach)?;

        self.check_mandatory(reach);
        let announces = self.has_nlri || reach.is_some_and(|reach| !reach.nlri.is_empty());
        if let Some(worst) = self.worst.as_ref().filter(|_| !announces) {
            return Err(MessageError::new(
                code::UPDATE,
                worst.subcode,
                worst.data,
                format!("{}, and the message announces nothing", worst.reason),
            ));
        }

        update.end_of_rib = self.end_of_rib(&fields);
        self.ignore_multicast(&mut classic);
        let second = if self.worst.is_some() {
            update.withdrawn4.append(&mut classic);
            let mp4 = mp4.into_iter().flat_map(|(prefixes, _)| prefixes);
            update.withdrawn4.extend(mp4);
            let mp6 = mp6.into_iter().flat_map(|(prefixes, _)| prefixes);
            update.withdrawn6.extend(mp6);
            None
        } else {
            self.build(Announced { classic, mp4, mp6 }, &mut update)
        };
        Ok(DecodedUpdate {
            update,
            reactions: self.reactions,
            second,
        })
    }

    /// Puts the announced prefixes into `update`; returns those that need a second message.
    fn build(&mut self, announced: Announced, update: &mut Update) -> Option<Update> {
        if let Some(addr) = self.found.next_hop
            && !announced.classic.is_empty()
        {
            update.reach4 = Some(Reach {
                attributes: self.attributes_with(NextHop::V4(addr), None),
                prefixes: announced.classic,
            });
        }
        let mut second = None;
        if let Some((prefixes, Ok(next_hop))) = announced.mp4 {
            match &mut update.reach4 {
                Some(reach) if reach.attributes.next_hop == next_hop => {
                    reach.prefixes.extend(prefixes);
                }
                first => {
                    let like = first.as_ref().map(|reach| &reach.attributes);
                    let attributes = self.attributes_with(next_hop, like);
                    let reach = Some(Reach {
                        attributes,
                        prefixes,
                    });
                    if first.is_none() {
                        *first = reach;
                    } else {
                        second = Some(Update {
                            reach4: reach,
                            ..Update::default()
                        });
                    }
                }
            }
        }
        if let Some((prefixes, Ok(next_hop))) = announced.mp6 {
            let like = update.reach4.as_ref().map(|reach| &reach.attributes);
            update.reach6 = Some(Reach {
                attributes: self.attributes_with(next_hop, like),
                prefixes,
            });
        }
        second
    }

    /// The attributes with this next hop; a copy if they were built before.
    fn attributes_with(&mut self, next_hop: NextHop, like: Option<&Attributes>) -> Attributes {
        match like {
            Some(like) => Attributes {
                next_hop,
                ..like.clone()
            },
            None => self.found.take_attributes(next_hop, self.context.as4),
        }
    }

    /// MP_UNREACH_NLRI (RFC 4760 4, RFC 7606 5.3).
    fn unreach(&mut self, update: &mut Update) -> Result<(), MessageError> {
        let Some(unreach) = self.found.mp_unreach else {
            return Ok(());
        };
        let Some(family) = self.negotiated(unreach.family) else {
            self.react(
                attribute::MP_UNREACH_NLRI,
                Fault::Family,
                Approach::AttributeDiscard,
            );
            return Ok(());
        };
        let parsed = match family {
            Family::Ipv4Unicast => nlri::decode(unreach.nlri, &mut update.withdrawn4),
            Family::Ipv6Unicast => nlri::decode(unreach.nlri, &mut update.withdrawn6),
        };
        parsed.ok_or_else(|| optional_attribute("a prefix of MP_UNREACH_NLRI is malformed"))
    }

    /// The prefixes of MP_REACH_NLRI if they are of family `P`. A next hop that is no host withdraws them.
    fn mp_prefixes<P: AddressFamily>(
        &mut self,
        reach: Option<MpReach<'a>>,
    ) -> Result<Option<MpPrefixes<P>>, MessageError> {
        let Some(reach) = reach else {
            return Ok(None);
        };
        if self.negotiated(reach.family).is_none() {
            // Asked once per family: say it once.
            if P::FAMILY == Family::Ipv4Unicast {
                self.react(
                    attribute::MP_REACH_NLRI,
                    Fault::Family,
                    Approach::AttributeDiscard,
                );
            }
            return Ok(None);
        }
        if reach.family != Some(P::FAMILY) {
            return Ok(None);
        }
        let mut prefixes = Vec::new();
        nlri::decode::<P>(reach.nlri, &mut prefixes)
            .ok_or_else(|| optional_attribute("a prefix of MP_REACH_NLRI is malformed"))?;
        self.ignore_multicast(&mut prefixes);
        if let Err(fault) = reach.next_hop {
            self.withdraw(
                attribute::MP_REACH_NLRI,
                fault,
                subcode::OPTIONAL_ATTRIBUTE,
                &[],
            );
        }
        Ok(Some((prefixes, reach.next_hop)).filter(|(prefixes, _)| !prefixes.is_empty()))
    }

    fn negotiated(&self, family: Option<Family>) -> Option<Family> {
        family.filter(|family| self.context.families.contains(*family))
    }

    /// RFC 4271 6.3: a semantically incorrect prefix is logged and ignored.
    fn ignore_multicast<P: AddressFamily>(&mut self, prefixes: &mut Vec<P>) {
        if prefixes.iter().any(|prefix| nlri::is_multicast(*prefix)) {
            prefixes.retain(|prefix| !nlri::is_multicast(*prefix));
            self.react(0, Fault::Multicast, Approach::IgnorePrefix);
        }
    }

    /// RFC 7606 3 d, RFC 4271 5. LOCAL_PREF is mandatory between internal peers (RFC 4271 5.1.5).
    fn check_mandatory(&mut self, reach: Option<MpReach<'a>>) {
        if !self.has_nlri && reach.is_none_or(|reach| reach.nlri.is_empty()) {
            return;
        }
        let mandatory = [
            (attribute::ORIGIN, true),
            (attribute::AS_PATH, true),
            (attribute::NEXT_HOP, self.has_nlri),
            (
                attribute::LOCAL_PREF,
                self.context.session == SessionKind::Internal,
            ),
        ];
        for (type_code, needed) in mandatory {
            if needed && !self.was_seen(type_code) {
                self.withdraw(type_code, Fault::Missing, subcode::MISSING_WELL_KNOWN, &[]);
            }
        }
        self.check_first_as();
    }

    fn check_first_as(&mut self) {
        let (Some(expected), Some(path)) = (self.context.first_as, self.found.as_path) else {
            return;
        };
        let first = match (path, self.context.as4) {
            ([2, _, a, b, c, d, ..], true) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            ([2, _, a, b, ..], false) => Some(u32::from(u16::from_be_bytes([*a, *b]))),
            _ => None,
        };
        let expected = if self.context.as4 || expected.0 <= u32::from(u16::MAX) {
            expected
        } else {
            Asn::TRANS
        };
        if first != Some(expected.0) {
            self.withdraw(
                attribute::AS_PATH,
                Fault::Value("does not begin with the AS of the peer"),
                subcode::MALFORMED_AS_PATH,
                &[],
            );
        }
    }

    /// RFC 4724 2: an empty message, or nothing but an empty MP_UNREACH_NLRI.
    fn end_of_rib(&self, fields: &Fields<'_>) -> Option<Family> {
        if !fields.withdrawn.is_empty() || !fields.nlri.is_empty() {
            return None;
        }
        if fields.attributes.is_empty() {
            return self.negotiated(Some(Family::Ipv4Unicast));
        }
        let mut only_unreach = [0; 4];
        only_unreach[0] = 1 << attribute::MP_UNREACH_NLRI;
        let unreach = self.found.mp_unreach.filter(|unreach| {
            self.seen == only_unreach && unreach.nlri.is_empty() && self.worst.is_none()
        })?;
        self.negotiated(unreach.family)
    }
}

/// Flags, type, length and value; `None` if there are not that many octets.
fn split_attribute(list: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([attribute_flags, type_code], rest) = list.split_first_chunk()?;
    let (length, rest) = if attribute_flags & flags::EXTENDED_LENGTH == 0 {
        let (length, rest) = rest.split_first()?;
        (usize::from(*length), rest)
    } else {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::from(u16::from_be_bytes(*length)), rest)
    };
    let (value, tail) = rest.split_at_checked(length)?;
    Some((*type_code, value, tail))
}

fn invalid_network(reason: &'static str) -> MessageError {
    MessageError::new(code::UPDATE, subcode::INVALID_NETWORK, &[], reason)
}

fn optional_attribute(reason: &'static str) -> MessageError {
    MessageError::new(code::UPDATE, subcode::OPTIONAL_ATTRIBUTE, &[], reason)
}
