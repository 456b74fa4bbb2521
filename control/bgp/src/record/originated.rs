//! What is originated, one prefix a line: the prefix, then words and values for whatever is not the default.

use core::fmt;
use core::str::FromStr;

use super::output::write_hex;
use super::step::parse_hex;
use crate::origin::Originated;
use crate::types::Asn;
use crate::wire::{Community, ExtendedCommunity, LargeCommunity, Origin};

/// A prefix as text.
pub(super) struct Written<'a>(pub(super) &'a Originated);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = self.0;
        write!(f, "{}", one.prefix)?;
        match one.origin {
            Origin::Igp => {}
            Origin::Egp => f.write_str(" origin egp")?,
            Origin::Incomplete => f.write_str(" origin incomplete")?,
        }
        if let Some(local_pref) = one.local_pref {
            write!(f, " local-pref {local_pref}")?;
        }
        if let Some(med) = one.med {
            write!(f, " med {med}")?;
        }
        for community in &one.communities {
            write!(f, " community {}", community.0)?;
        }
        for community in &one.extended_communities {
            f.write_str(" extended-community ")?;
            write_hex(f, &community.0)?;
        }
        for community in &one.large_communities {
            write!(f, " large-community {community}")?;
        }
        for asn in &one.prepend {
            write!(f, " prepend {asn}")?;
        }
        if one.ready {
            Ok(())
        } else {
            f.write_str(" ready no")
        }
    }
}

/// A prefix from such a text.
pub(super) fn parse(text: &str) -> Option<Originated> {
    let mut words = text.split_whitespace();
    let mut one = Originated::new(words.next()?.parse().ok()?);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word {
            "origin" => {
                one.origin = match value {
                    "egp" => Origin::Egp,
                    "incomplete" => Origin::Incomplete,
                    _ => return None,
                }
            }
            "local-pref" => one.local_pref = Some(number(value)?),
            "med" => one.med = Some(number(value)?),
            "community" => one.communities.push(Community(number(value)?)),
            "extended-community" => {
                let bytes = parse_hex(value)?;
                let community = <[u8; 8]>::try_from(&*bytes).ok()?;
                one.extended_communities.push(ExtendedCommunity(community));
            }
            "large-community" => {
                let mut parts = value.split(':').map(number);
                one.large_communities.push(LargeCommunity {
                    global: parts.next()??,
                    local1: parts.next()??,
                    local2: parts.next()??,
                });
            }
            "prepend" => one.prepend.push(Asn(number(value)?)),
            "ready" if value == "no" => one.ready = false,
            _ => return None,
        }
    }
    Some(one)
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}
