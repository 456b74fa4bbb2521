//! From `BGPFilter` and `BGPAdvertisement` to the policies of a session.

use std::sync::Arc;

use causeway_api::bgp::{Afi, Attributes};
use causeway_api::filter::{
    BgpFilter, CommunityChange, FilterAction, FilterRule, Lengths, MatchOperator, NextHop,
    NextHopWord, Origin as ApiOrigin, PeerType as ApiPeerType, Source,
};
use causeway_bgp::policy::{
    Action, AsPathMatch, Edit, Match, NextHopAction, PeerType, Policy, PrefixRange, RouteSource,
    Rule, SetMatch, Verdict,
};
use causeway_bgp::types::{Asn, Family as BgpFamily};
use causeway_bgp::wire::{Community, ExtendedCommunity, LargeCommunity, Origin};
use causeway_config::{Community as Written, Family};

use super::prefix;

/// Name of the part of an export policy that announces what was asked for.
const ADVERTISEMENTS: &str = "advertisements";

/// The family of the speaker.
pub(super) fn family(afi: Afi) -> BgpFamily {
    match afi {
        Afi::Ipv4 => BgpFamily::Ipv4Unicast,
        Afi::Ipv6 => BgpFamily::Ipv6Unicast,
    }
}

/// The import filters; `None` without any, which RFC 8212 gives its meaning.
pub(super) fn import(family: &Family) -> Option<Arc<Policy>> {
    (!family.import.is_empty()).then(|| Arc::new(chain(&[], &family.import)))
}

/// The advertisements, then the export filters; `None` without any.
pub(super) fn export(family: &Family) -> Option<Arc<Policy>> {
    if family.spec.advertisements.is_none() && family.export.is_empty() {
        return None;
    }
    let own: Vec<_> = family
        .advertisements
        .iter()
        .flat_map(|advertisement| {
            let name = &advertisement.metadata.name;
            advertisement.spec.advertisements.iter().map(move |group| {
                let mut rule = Rule::new(name.as_str());
                let prefixes = group.prefixes.iter().filter_map(|cidr| prefix(*cidr));
                rule.matches = vec![
                    Match::Source(RouteSource::Local),
                    Match::Prefix(prefixes.map(PrefixRange::exact).collect()),
                ];
                rule.actions = group.attributes.as_ref().map_or_else(Vec::new, attributes);
                rule.verdict = Some(Verdict::Accept);
                rule
            })
        })
        .collect();
    Some(Arc::new(chain(&own, &family.export)))
}

/// One policy of all rules in order. What no filter decides is rejected.
fn chain(own: &[Rule], filters: &[Arc<BgpFilter>]) -> Policy {
    let mut rules = own.to_vec();
    let mut names: Vec<&str> = Vec::new();
    if !own.is_empty() || filters.is_empty() {
        names.push(ADVERTISEMENTS);
    }
    let several = filters.len() + names.len() > 1;
    let mut default = Verdict::Reject;
    for filter in filters {
        let name = filter.metadata.name.as_str();
        names.push(name);
        rules.extend(filter.spec.rules.iter().map(|written| {
            let mut lowered = rule(written);
            if several {
                lowered.name = format!("{name}/{}", written.name).into();
            }
            lowered
        }));
        default = match filter.spec.default_action {
            Some(FilterAction::Accept) => Verdict::Accept,
            _ => Verdict::Reject,
        };
    }
    Policy::new(names.join("+"), rules, default)
}

fn rule(written: &FilterRule) -> Rule {
    let mut rule = Rule::new(written.name.as_str());
    rule.matches = conditions(written);
    rule.actions = changes(written);
    rule.verdict = match written.action {
        FilterAction::Accept => Some(Verdict::Accept),
        FilterAction::Reject => Some(Verdict::Reject),
        FilterAction::Next => None,
    };
    rule.reason = written.reason.as_deref().map(Into::into);
    rule
}

fn conditions(written: &FilterRule) -> Vec<Match> {
    let mut matches = Vec::new();
    prefixes(written, &mut matches);
    if let Some(afi) = written.afi {
        matches.push(Match::Family(family(afi)));
    }
    if let Some(kind) = written.peer_type {
        matches.push(Match::PeerType(match kind {
            ApiPeerType::Ebgp => PeerType::External,
            ApiPeerType::Ibgp => PeerType::Internal,
        }));
    }
    if let Some(source) = written.source {
        matches.push(Match::Source(match source {
            Source::Local => RouteSource::Local,
            Source::Ebgp => RouteSource::External,
            Source::Ibgp => RouteSource::Internal,
        }));
    }
    if let Some(communities) = &written.communities {
        if !communities.any.is_empty() {
            matches.push(any_community(&communities.any));
        }
        for text in &communities.all {
            matches.push(any_community(core::slice::from_ref(text)));
        }
        if !communities.none.is_empty() {
            matches.push(Match::Not(Box::new(any_community(&communities.none))));
        }
    }
    if !written.as_path_prefix.is_empty() {
        let path = written.as_path_prefix.iter().map(|asn| Asn(*asn)).collect();
        matches.push(Match::AsPath(AsPathMatch::Prefix(path)));
    }
    if let Some(path) = &written.as_path {
        let contains = path.contains.map(|asn| AsPathMatch::Contains(Asn(asn)));
        let originator = path.originator.map(|asn| AsPathMatch::Originator(Asn(asn)));
        let length = path.length.map(|length| {
            AsPathMatch::Length(length.min.unwrap_or(0)..=length.max.unwrap_or(u32::MAX))
        });
        let all = [contains, originator, length];
        matches.extend(all.into_iter().flatten().map(Match::AsPath));
    }
    if !written.next_hop.is_empty() {
        let prefixes = written.next_hop.iter().filter_map(|cidr| prefix(*cidr));
        matches.push(Match::NextHop(prefixes.collect()));
    }
    if let Some(written) = written.origin {
        matches.push(Match::Origin(origin(written)));
    }
    matches
}

fn prefixes(written: &FilterRule, matches: &mut Vec<Match>) {
    let lengths = written
        .prefix_length
        .map(|Lengths { min, max }| min.unwrap_or(0)..=max.unwrap_or(u8::MAX));
    if written.cidr.is_empty() {
        if let Some(lengths) = lengths {
            let any = [
                PrefixRange {
                    prefix: any(Afi::Ipv4),
                    lengths: lengths.clone(),
                },
                PrefixRange {
                    prefix: any(Afi::Ipv6),
                    lengths,
                },
            ];
            matches.push(Match::Prefix(any.to_vec()));
        }
        return;
    }
    let operator = written.match_operator.unwrap_or(MatchOperator::In);
    let exact = matches!(operator, MatchOperator::Equal | MatchOperator::NotEqual);
    let negated = matches!(operator, MatchOperator::NotEqual | MatchOperator::NotIn);
    let wanted = written.cidr.iter().filter_map(|cidr| prefix(*cidr));
    if negated {
        let range = if exact {
            PrefixRange::exact
        } else {
            PrefixRange::or_longer
        };
        matches.push(Match::Not(Box::new(Match::Prefix(
            wanted.map(range).collect(),
        ))));
        if let Some(lengths) = lengths {
            let any = [Afi::Ipv4, Afi::Ipv6].map(|afi| PrefixRange {
                prefix: any(afi),
                lengths: lengths.clone(),
            });
            matches.push(Match::Prefix(any.to_vec()));
        }
        return;
    }
    let range = |prefix| {
        let mut range = if exact {
            PrefixRange::exact(prefix)
        } else {
            PrefixRange::or_longer(prefix)
        };
        if let Some(lengths) = &lengths {
            let (least, most) = (*range.lengths.start(), *range.lengths.end());
            range.lengths = least.max(*lengths.start())..=most.min(*lengths.end());
        }
        range
    };
    matches.push(Match::Prefix(wanted.map(range).collect()));
}

/// The prefix that covers its family.
fn any(afi: Afi) -> causeway_bgp::types::Prefix {
    use causeway_bgp::types::{AddressFamily as _, Prefix4, Prefix6};
    match afi {
        Afi::Ipv4 => Prefix4::from_bytes(&[], 0).map(Into::into),
        Afi::Ipv6 => Prefix6::from_bytes(&[], 0).map(Into::into),
    }
    .unwrap_or_else(|| unreachable!("length 0 fits every family"))
}

/// Communities by kind. What is no community was refused when the configuration was checked.
#[derive(Default)]
struct Kinds {
    standard: Vec<Community>,
    extended: Vec<ExtendedCommunity>,
    large: Vec<LargeCommunity>,
}

fn kinds<'a>(texts: impl IntoIterator<Item = &'a String>) -> Kinds {
    let mut kinds = Kinds::default();
    for written in texts.into_iter().filter_map(|text| Written::parse(text)) {
        match written {
            Written::Standard(value) => kinds.standard.push(Community(value)),
            Written::Extended(value) => kinds.extended.push(ExtendedCommunity(value)),
            Written::Large(global, local1, local2) => kinds.large.push(LargeCommunity {
                global,
                local1,
                local2,
            }),
        }
    }
    kinds
}

fn any_community(texts: &[String]) -> Match {
    let Kinds {
        standard,
        extended,
        large,
    } = kinds(texts);
    let mut any = Vec::new();
    if !standard.is_empty() {
        any.push(Match::Community(SetMatch::Any(standard)));
    }
    if !extended.is_empty() {
        any.push(Match::ExtendedCommunity(SetMatch::Any(extended)));
    }
    if !large.is_empty() {
        any.push(Match::LargeCommunity(SetMatch::Any(large)));
    }
    match any.len() {
        1 => any.swap_remove(0),
        _ => Match::Any(any),
    }
}

fn changes(written: &FilterRule) -> Vec<Action> {
    let Some(set) = &written.set else {
        return Vec::new();
    };
    let mut actions = Vec::new();
    actions.extend(set.local_preference.map(Action::LocalPref));
    actions.extend(set.med.map(|med| Action::Med(Some(med))));
    if set.remove_med {
        actions.push(Action::Med(None));
    }
    actions.extend(set.origin.map(|written| Action::Origin(origin(written))));
    if let Some(change) = &set.communities {
        community_changes(change, &mut actions);
    }
    actions.extend(set.as_path_prepend.map(|prepend| Action::Prepend {
        asn: prepend.asn.map(Asn),
        count: prepend.count,
    }));
    actions.extend(set.next_hop.map(|next_hop| {
        Action::NextHop(match next_hop {
            NextHop::Word(NextHopWord::SelfAddress) => NextHopAction::SelfAddress,
            NextHop::Word(NextHopWord::Unchanged) => NextHopAction::Unchanged,
            NextHop::Address(address) => NextHopAction::Address(address),
        })
    }));
    actions
}

fn community_changes(change: &CommunityChange, actions: &mut Vec<Action>) {
    if let Some(replace) = &change.replace {
        let Kinds {
            standard,
            extended,
            large,
        } = kinds(replace);
        actions.push(Action::Communities(Edit::Replace(standard)));
        actions.push(Action::ExtendedCommunities(Edit::Replace(extended)));
        actions.push(Action::LargeCommunities(Edit::Replace(large)));
    }
    edit(&change.remove, actions, false);
    edit(&change.add, actions, true);
}

fn edit(texts: &[String], actions: &mut Vec<Action>, add: bool) {
    fn of<T>(list: Vec<T>, add: bool) -> Option<Edit<T>> {
        let edit = if add { Edit::Add } else { Edit::Remove };
        (!list.is_empty()).then(|| edit(list))
    }
    let Kinds {
        standard,
        extended,
        large,
    } = kinds(texts);
    actions.extend(of(standard, add).map(Action::Communities));
    actions.extend(of(extended, add).map(Action::ExtendedCommunities));
    actions.extend(of(large, add).map(Action::LargeCommunities));
}

/// The attributes of an advertisement as changes.
fn attributes(attributes: &Attributes) -> Vec<Action> {
    let mut actions = Vec::new();
    actions.extend(attributes.local_preference.map(Action::LocalPref));
    actions.extend(attributes.med.map(|med| Action::Med(Some(med))));
    if let Some(communities) = &attributes.communities {
        let texts: Vec<_> = communities
            .standard
            .iter()
            .chain(&communities.well_known)
            .chain(&communities.large)
            .cloned()
            .collect();
        edit(&texts, &mut actions, true);
    }
    actions.extend(
        attributes
            .as_path_prepend
            .filter(|count| *count > 0)
            .map(|count| Action::Prepend { asn: None, count }),
    );
    actions
}

fn origin(origin: ApiOrigin) -> Origin {
    match origin {
        ApiOrigin::Igp => Origin::Igp,
        ApiOrigin::Egp => Origin::Egp,
        ApiOrigin::Incomplete => Origin::Incomplete,
    }
}
