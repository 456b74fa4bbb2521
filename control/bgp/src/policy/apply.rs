//! Evaluation: which rules apply, what they change, which one decides.

use core::net::IpAddr;

use smallvec::SmallVec;

use super::{
    Action, AsPathMatch, Edit, Match, NextHopAction, PeerType, Policy, PrefixRange, Rule, SetMatch,
    Subject, Verdict,
};
use crate::types::{AddressFamily, Asn, Family, Prefix};
use crate::wire::{AsPath, AsSegmentKind, Attributes, NextHop, RareAttributes};

/// What a policy made of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Verdict.
    pub verdict: Verdict,
    /// Index of the rule that decided; `None` for the default verdict.
    pub decided_by: Option<u16>,
    /// Indexes of the rules whose actions apply, in order. With the attributes it determines the result.
    pub applied: SmallVec<[u16; 4]>,
}

impl Outcome {
    /// Whether the attributes stay as they are.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.applied.is_empty()
    }
}

/// What actions need to know of the session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The AS to prepend where an action names none.
    pub local_asn: Asn,
    /// What "self" means as next hop; `None` if no address fits.
    pub self_next_hop: Option<NextHop>,
}

impl Policy {
    /// Runs the rules over a route. Rules see the changes of those before them.
    #[must_use]
    pub fn evaluate(
        &self,
        attributes: &Attributes,
        subject: &Subject,
        session: &Session,
    ) -> Outcome {
        let mut changed: Option<Box<Attributes>> = None;
        let mut applied = SmallVec::new();
        for (index, rule) in self.rules().iter().enumerate() {
            let current = changed.as_deref().unwrap_or(attributes);
            if !rule
                .matches
                .iter()
                .all(|condition| condition.holds(current, subject))
            {
                continue;
            }
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            if let Some(verdict) = rule.verdict {
                if verdict == Verdict::Accept && !rule.actions.is_empty() {
                    applied.push(index);
                }
                return Outcome {
                    verdict,
                    decided_by: Some(index),
                    applied,
                };
            }
            if !rule.actions.is_empty() {
                applied.push(index);
                let target = changed.get_or_insert_with(|| Box::new(attributes.clone()));
                rule.apply(target, subject.prefix.family(), session);
            }
        }
        Outcome {
            verdict: self.default_verdict(),
            decided_by: None,
            applied,
        }
    }

    /// Carries out what [`Self::evaluate`] found for the same attributes.
    pub fn apply(
        &self,
        outcome: &Outcome,
        attributes: &mut Attributes,
        family: Family,
        session: &Session,
    ) {
        for rule in self.applied(outcome) {
            rule.apply(attributes, family, session);
        }
    }

    /// The rules whose actions apply.
    pub fn applied<'a>(&'a self, outcome: &'a Outcome) -> impl Iterator<Item = &'a Rule> {
        outcome
            .applied
            .iter()
            .filter_map(|&index| self.rules().get(usize::from(index)))
    }
}

impl Rule {
    fn apply(&self, attributes: &mut Attributes, family: Family, session: &Session) {
        for action in &self.actions {
            action.apply(attributes, family, session);
        }
    }
}

impl PrefixRange {
    /// Whether `prefix` lies in the range.
    #[must_use]
    pub fn contains(&self, prefix: Prefix) -> bool {
        self.lengths.contains(&prefix.len())
            && match (self.prefix, prefix) {
                (Prefix::V4(outer), Prefix::V4(inner)) => outer.covers(inner),
                (Prefix::V6(outer), Prefix::V6(inner)) => outer.covers(inner),
                _ => false,
            }
    }
}

impl Match {
    fn holds(&self, attributes: &Attributes, subject: &Subject) -> bool {
        let rare = attributes.rare.as_deref();
        match self {
            Self::Prefix(ranges) => ranges.iter().any(|range| range.contains(subject.prefix)),
            Self::Community(set) => set.holds(&attributes.communities),
            Self::ExtendedCommunity(set) => {
                set.holds(rare.map_or(&[], |rare| &rare.extended_communities))
            }
            Self::LargeCommunity(set) => {
                set.holds(rare.map_or(&[], |rare| &rare.large_communities))
            }
            Self::AsPath(condition) => condition.holds(&attributes.as_path),
            Self::NextHop(prefixes) => {
                let host = host(attributes.next_hop);
                prefixes
                    .iter()
                    .any(|&prefix| PrefixRange::or_longer(prefix).contains(host))
            }
            Self::PeerType(peer) => *peer == subject.peer,
            Self::Source(source) => *source == subject.source,
            Self::Family(family) => *family == subject.prefix.family(),
            Self::Origin(origin) => *origin == attributes.origin,
            Self::Not(inner) => !inner.holds(attributes, subject),
            Self::Any(inner) => inner.iter().any(|inner| inner.holds(attributes, subject)),
        }
    }
}

fn host(next_hop: NextHop) -> Prefix {
    let addr = match next_hop {
        NextHop::V4(addr) => IpAddr::V4(addr),
        NextHop::V6(addr) | NextHop::V6LinkLocal { global: addr, .. } => IpAddr::V6(addr),
    };
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    Prefix::new(addr, bits).expect("a host prefix has the family's length")
}

impl<T: Ord> SetMatch<T> {
    /// `have` is sorted.
    fn holds(&self, have: &[T]) -> bool {
        let there = |wanted: &T| have.binary_search(wanted).is_ok();
        match self {
            Self::Any(wanted) => wanted.iter().any(there),
            Self::All(wanted) => wanted.iter().all(there),
        }
    }
}

impl AsPathMatch {
    fn holds(&self, path: &AsPath) -> bool {
        match self {
            Self::Contains(asn) => path.contains(*asn),
            Self::First(asn) => path.first_as() == Some(*asn),
            Self::Originator(asn) => path.origin_as() == Some(*asn),
            Self::Prefix(wanted) => {
                let mut path = path
                    .segments()
                    .filter(|segment| !segment.kind.is_confederation())
                    .flat_map(|segment| segment.asns().map(move |asn| (segment.kind, asn)));
                wanted
                    .iter()
                    .all(|&asn| path.next() == Some((AsSegmentKind::Sequence, asn)))
            }
            Self::Length(range) => {
                u32::try_from(path.hops()).is_ok_and(|hops| range.contains(&hops))
            }
        }
    }
}

impl Action {
    /// Whether it says what MULTI_EXIT_DISC shall be.
    pub(crate) const fn sets_med(&self) -> bool {
        matches!(self, Self::Med(_))
    }

    /// Whether it says what the next hop shall be.
    pub(crate) const fn sets_next_hop(&self) -> bool {
        matches!(self, Self::NextHop(_))
    }

    fn apply(&self, attributes: &mut Attributes, family: Family, session: &Session) {
        match self {
            Self::LocalPref(value) => attributes.local_pref = Some(*value),
            Self::Med(value) => attributes.med = *value,
            Self::Origin(origin) => attributes.origin = *origin,
            Self::Communities(edit) => edit.apply(&mut attributes.communities),
            Self::ExtendedCommunities(edit) => {
                edit_rare(attributes, |rare| {
                    edit.apply(&mut rare.extended_communities)
                });
            }
            Self::LargeCommunities(edit) => {
                edit_rare(attributes, |rare| edit.apply(&mut rare.large_communities));
            }
            Self::Prepend { asn, count } => {
                let asn = asn.unwrap_or(session.local_asn);
                attributes.as_path = attributes.as_path.prepend(asn, *count);
            }
            Self::NextHop(NextHopAction::Unchanged) => {}
            Self::NextHop(NextHopAction::SelfAddress) => {
                if let Some(next_hop) = session.self_next_hop
                    && matches!(next_hop, NextHop::V4(_)) == (family == Family::Ipv4Unicast)
                {
                    attributes.next_hop = next_hop;
                }
            }
            Self::NextHop(NextHopAction::Address(addr)) => match (addr, family) {
                (IpAddr::V4(addr), Family::Ipv4Unicast) => attributes.next_hop = NextHop::V4(*addr),
                (IpAddr::V6(addr), Family::Ipv6Unicast) => attributes.next_hop = NextHop::V6(*addr),
                _ => {}
            },
        }
    }
}

/// Changes the rare attributes and forgets them if they are empty, so that equal sets stay equal.
fn edit_rare(attributes: &mut Attributes, edit: impl FnOnce(&mut RareAttributes)) {
    let mut rare = attributes.rare.take().unwrap_or_default();
    edit(&mut rare);
    attributes.rare = (*rare != RareAttributes::default()).then_some(rare);
}

impl<T: Ord + Copy> Edit<T> {
    /// `set` is sorted and without duplicates, before and after.
    fn apply(&self, set: &mut Box<[T]>) {
        let mut values = core::mem::take(set).into_vec();
        match self {
            Self::Add(more) => values.extend(more),
            Self::Remove(less) => values.retain(|value| !less.contains(value)),
            Self::Replace(other) => values.clone_from(other),
        }
        values.sort_unstable();
        values.dedup();
        *set = values.into();
    }
}

impl Subject {
    /// The subject of a route, with the kind of its source.
    pub(crate) const fn new(prefix: Prefix, peer: PeerType, source: super::RouteSource) -> Self {
        Self {
            prefix,
            peer,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::policy::RouteSource;
    use crate::types::RouterId;
    use crate::wire::{Aggregator, Community, ExtendedCommunity, LargeCommunity, Origin};

    const LARGE: LargeCommunity = LargeCommunity {
        global: 1,
        local1: 2,
        local2: 3,
    };
    const EXTENDED: ExtendedCommunity = ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 9]);

    fn route() -> Attributes {
        Attributes {
            origin: Origin::Egp,
            atomic_aggregate: false,
            as_path: AsPath::sequence([65_001, 65_002, 65_003]),
            next_hop: NextHop::V4(Ipv4Addr::new(192, 0, 2, 7)),
            med: Some(4),
            local_pref: None,
            communities: [Community(10), Community(20)].into(),
            rare: Some(Box::new(RareAttributes {
                extended_communities: [EXTENDED].into(),
                large_communities: [LARGE].into(),
                ..RareAttributes::default()
            })),
        }
    }

    fn subject() -> Subject {
        let prefix = "10.1.0.0/16".parse().unwrap();
        Subject::new(prefix, PeerType::External, RouteSource::Internal)
    }

    const SESSION: Session = Session {
        local_asn: Asn(65_000),
        self_next_hop: Some(NextHop::V4(Ipv4Addr::new(192, 0, 2, 1))),
    };

    #[test]
    fn each_condition_holds_where_it_should_and_nowhere_else() {
        let parse = |text: &str| text.parse::<Prefix>().unwrap();
        let range = |text, lengths| {
            Match::Prefix(vec![PrefixRange {
                prefix: parse(text),
                lengths,
            }])
        };
        let path = Match::AsPath;
        let cases = [
            (range("10.0.0.0/8", 16..=24), range("10.0.0.0/8", 17..=24)),
            (
                Match::Prefix(vec![PrefixRange::exact(parse("10.1.0.0/16"))]),
                Match::Prefix(vec![PrefixRange::exact(parse("10.0.0.0/8"))]),
            ),
            (
                Match::Prefix(vec![PrefixRange::or_longer(parse("0.0.0.0/0"))]),
                Match::Prefix(vec![PrefixRange::or_longer(parse("::/0"))]),
            ),
            (
                Match::Community(SetMatch::Any(vec![Community(9), Community(20)])),
                Match::Community(SetMatch::All(vec![Community(9), Community(20)])),
            ),
            (
                Match::Community(SetMatch::All(vec![Community(20), Community(10)])),
                Match::Community(SetMatch::Any(vec![Community(30)])),
            ),
            (
                Match::LargeCommunity(SetMatch::Any(vec![LARGE])),
                Match::LargeCommunity(SetMatch::Any(vec![LargeCommunity { local2: 4, ..LARGE }])),
            ),
            (
                Match::ExtendedCommunity(SetMatch::Any(vec![EXTENDED])),
                Match::ExtendedCommunity(SetMatch::Any(vec![ExtendedCommunity([1; 8])])),
            ),
            (
                path(AsPathMatch::Contains(Asn(65_002))),
                path(AsPathMatch::Contains(Asn(1))),
            ),
            (
                path(AsPathMatch::First(Asn(65_001))),
                path(AsPathMatch::First(Asn(65_002))),
            ),
            (
                path(AsPathMatch::Originator(Asn(65_003))),
                path(AsPathMatch::Originator(Asn(65_001))),
            ),
            (
                path(AsPathMatch::Prefix(vec![Asn(65_001), Asn(65_002)])),
                path(AsPathMatch::Prefix(vec![Asn(65_002)])),
            ),
            (
                path(AsPathMatch::Length(3..=3)),
                path(AsPathMatch::Length(4..=9)),
            ),
            (
                Match::NextHop(vec![parse("192.0.2.0/24")]),
                Match::NextHop(vec![parse("192.0.2.8/32"), parse("::/0")]),
            ),
            (
                Match::PeerType(PeerType::External),
                Match::PeerType(PeerType::Internal),
            ),
            (
                Match::Source(RouteSource::Internal),
                Match::Source(RouteSource::Local),
            ),
            (
                Match::Family(Family::Ipv4Unicast),
                Match::Family(Family::Ipv6Unicast),
            ),
            (Match::Origin(Origin::Egp), Match::Origin(Origin::Igp)),
        ];
        for (holds, fails) in cases {
            assert!(holds.holds(&route(), &subject()), "{holds:?}");
            assert!(!fails.holds(&route(), &subject()), "{fails:?}");
            assert!(Match::Not(Box::new(fails.clone())).holds(&route(), &subject()));
            assert!(Match::Any(vec![fails, holds]).holds(&route(), &subject()));
        }
        assert!(!Match::Any(vec![]).holds(&route(), &subject()));
    }

    #[test]
    fn each_action_changes_what_it_names_and_nothing_else() {
        let next_hop = Ipv4Addr::new(198, 51, 100, 1);
        type Expect = fn(&mut Attributes);
        let cases: Vec<(Action, Expect)> = vec![
            (Action::LocalPref(7), |route| route.local_pref = Some(7)),
            (Action::Med(None), |route| route.med = None),
            (Action::Origin(Origin::Igp), |route| {
                route.origin = Origin::Igp
            }),
            (
                Action::Communities(Edit::Add(vec![Community(15), Community(10)])),
                |route| {
                    route.communities = [Community(10), Community(15), Community(20)].into();
                },
            ),
            (
                Action::Communities(Edit::Remove(vec![Community(10)])),
                |route| {
                    route.communities = [Community(20)].into();
                },
            ),
            (
                Action::Communities(Edit::Replace(vec![Community(2), Community(1)])),
                |route| {
                    route.communities = [Community(1), Community(2)].into();
                },
            ),
            (Action::LargeCommunities(Edit::Replace(vec![])), |route| {
                route.rare.as_mut().unwrap().large_communities = Box::default();
            }),
            (
                Action::ExtendedCommunities(Edit::Remove(vec![EXTENDED])),
                |route| {
                    route.rare.as_mut().unwrap().extended_communities = Box::default();
                },
            ),
            (
                Action::Prepend {
                    asn: None,
                    count: 2,
                },
                |route| {
                    route.as_path = AsPath::sequence([65_000, 65_000, 65_001, 65_002, 65_003]);
                },
            ),
            (
                Action::Prepend {
                    asn: Some(Asn(9)),
                    count: 1,
                },
                |route| {
                    route.as_path = AsPath::sequence([9, 65_001, 65_002, 65_003]);
                },
            ),
            (Action::NextHop(NextHopAction::SelfAddress), |route| {
                route.next_hop = NextHop::V4(Ipv4Addr::new(192, 0, 2, 1));
            }),
            (Action::NextHop(NextHopAction::Unchanged), |_| {}),
            (
                Action::NextHop(NextHopAction::Address(next_hop.into())),
                |route| {
                    route.next_hop = NextHop::V4(Ipv4Addr::new(198, 51, 100, 1));
                },
            ),
            (
                Action::NextHop(NextHopAction::Address(
                    core::net::Ipv6Addr::LOCALHOST.into(),
                )),
                |_| {},
            ),
        ];
        for (action, expect) in cases {
            let (mut changed, mut expected) = (route(), route());
            action.apply(&mut changed, Family::Ipv4Unicast, &SESSION);
            expect(&mut expected);
            assert_eq!(changed, expected, "{action:?}");
        }
    }

    #[test]
    fn rare_attributes_that_become_empty_are_none_so_that_equal_sets_stay_equal() {
        let mut changed = route();
        Action::LargeCommunities(Edit::Replace(vec![])).apply(
            &mut changed,
            Family::Ipv4Unicast,
            &SESSION,
        );
        Action::ExtendedCommunities(Edit::Replace(vec![])).apply(
            &mut changed,
            Family::Ipv4Unicast,
            &SESSION,
        );
        assert_eq!(changed.rare, None);
        let mut kept = route();
        kept.rare.as_mut().unwrap().aggregator = Some(Aggregator {
            asn: Asn(1),
            router_id: RouterId(1),
        });
        Action::LargeCommunities(Edit::Replace(vec![])).apply(
            &mut kept,
            Family::Ipv4Unicast,
            &SESSION,
        );
        Action::ExtendedCommunities(Edit::Replace(vec![])).apply(
            &mut kept,
            Family::Ipv4Unicast,
            &SESSION,
        );
        assert!(kept.rare.is_some());
    }

    #[test]
    fn the_first_rule_with_a_verdict_decides_and_sees_the_changes_of_those_before_it() {
        let rule = |name: &str, matches, actions, verdict| Rule {
            matches,
            actions,
            verdict,
            ..Rule::new(name)
        };
        let tagged = Match::Community(SetMatch::Any(vec![Community(99)]));
        let policy = Policy::new(
            "p",
            vec![
                rule(
                    "skip",
                    vec![Match::Origin(Origin::Igp)],
                    vec![],
                    Some(Verdict::Reject),
                ),
                rule(
                    "tag",
                    vec![],
                    vec![Action::Communities(Edit::Add(vec![Community(99)]))],
                    None,
                ),
                rule(
                    "tagged",
                    vec![tagged],
                    vec![Action::LocalPref(5)],
                    Some(Verdict::Accept),
                ),
                rule("never", vec![], vec![], Some(Verdict::Reject)),
            ],
            Verdict::Reject,
        );
        let outcome = policy.evaluate(&route(), &subject(), &SESSION);
        assert_eq!(
            (outcome.verdict, outcome.decided_by),
            (Verdict::Accept, Some(2))
        );
        let mut changed = route();
        policy.apply(&outcome, &mut changed, Family::Ipv4Unicast, &SESSION);
        assert_eq!(changed.local_pref, Some(5));
        assert!(changed.communities.contains(&Community(99)));
    }

    #[test]
    fn what_no_rule_decides_gets_the_default_and_stays_as_it_is() {
        for policy in [Policy::accept_all(), Policy::reject_all()] {
            let outcome = policy.evaluate(&route(), &subject(), &SESSION);
            assert_eq!(
                (outcome.verdict, outcome.decided_by),
                (policy.default_verdict(), None)
            );
            assert!(outcome.is_unchanged());
        }
    }
}
