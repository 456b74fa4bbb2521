//! Checks of `BGPFilter`.

use std::collections::HashSet;

use causeway_api::cidr::Cidr;
use causeway_api::filter::{FilterAction, FilterRule};

use super::Checker;
use crate::community::{Community, FORMS};
use crate::limits;
use crate::parse::Origin;

pub(super) fn check(checker: &mut Checker<'_>) {
    for filter in &checker.objects.filters {
        let origin = &*filter.origin;
        let mut names = HashSet::new();
        for (n, rule) in filter.object.spec.rules.iter().enumerate() {
            let at = format!("spec.rules[{n}]");
            if rule.name.is_empty() || !names.insert(&rule.name) {
                let problem = if rule.name.is_empty() {
                    "empty".to_owned()
                } else {
                    format!("`{}` stands here twice", rule.name)
                };
                let remedy = "give each rule of the filter a name of its own";
                checker.mistake(origin, format!("{at}.name"), problem, remedy);
            }
            prefixes(checker, origin, &at, rule);
            paths(checker, origin, &at, rule);
            communities(checker, origin, &at, rule);
            if let (FilterAction::Reject, Some(_)) = (rule.action, &rule.set) {
                checker.mistake(
                    origin,
                    format!("{at}.set"),
                    "a rejected route has no attributes to set",
                    "remove `set`, or make the action Accept or Next",
                );
            }
            if let (FilterAction::Next, None) = (rule.action, &rule.set) {
                checker.mistake(
                    origin,
                    format!("{at}.action"),
                    "a rule that neither decides nor changes anything has no effect",
                    "add `set`, or make the action Accept or Reject",
                );
            }
        }
    }
}

fn prefixes(checker: &mut Checker<'_>, origin: &Origin, at: &str, rule: &FilterRule) {
    networks(checker, origin, &format!("{at}.cidr"), &rule.cidr);
    networks(checker, origin, &format!("{at}.nextHop"), &rule.next_hop);
    if rule.match_operator.is_some() && rule.cidr.is_empty() {
        checker.mistake(
            origin,
            format!("{at}.matchOperator"),
            "there is nothing to compare with",
            "add `cidr`, or remove `matchOperator`",
        );
    }
    let Some(lengths) = rule.prefix_length else {
        return;
    };
    let field = format!("{at}.prefixLength");
    let bits = if rule.cidr.is_empty() {
        128
    } else {
        rule.cidr
            .iter()
            .map(|cidr| cidr.bits())
            .max()
            .unwrap_or(128)
    };
    let (min, max) = (lengths.min.unwrap_or(0), lengths.max.unwrap_or(bits));
    checker.range(origin, &format!("{field}.min"), lengths.min, (0, bits));
    checker.range(origin, &format!("{field}.max"), lengths.max, (0, bits));
    if min > max {
        let problem = format!("no length is at least {min} and at most {max}");
        checker.mistake(origin, field, problem, "make min at most max");
    }
}

/// Prefixes with bits behind their length are likely mistyped.
pub(super) fn networks(checker: &mut Checker<'_>, origin: &Origin, field: &str, cidrs: &[Cidr]) {
    for (n, cidr) in cidrs.iter().enumerate() {
        if !cidr.is_network() {
            checker.mistake(
                origin,
                format!("{field}[{n}]"),
                format!("{cidr} has bits set behind its length"),
                format!("write {}, or a longer length", cidr.network()),
            );
        }
    }
}

fn paths(checker: &mut Checker<'_>, origin: &Origin, at: &str, rule: &FilterRule) {
    for (n, asn) in rule.as_path_prefix.iter().enumerate() {
        checker.asn(origin, &format!("{at}.asPathPrefix[{n}]"), *asn);
    }
    if let Some(path) = &rule.as_path {
        if let Some(asn) = path.contains {
            checker.asn(origin, &format!("{at}.asPath.contains"), asn);
        }
        if let Some(asn) = path.originator {
            checker.asn(origin, &format!("{at}.asPath.originator"), asn);
        }
        if let Some(length) = path.length
            && length.min.unwrap_or(0) > length.max.unwrap_or(u32::MAX)
        {
            let field = format!("{at}.asPath.length");
            checker.mistake(
                origin,
                field,
                "min is more than max",
                "make min at most max",
            );
        }
    }
    let Some(set) = &rule.set else { return };
    if let Some(prepend) = set.as_path_prepend {
        let field = format!("{at}.set.asPathPrepend");
        checker.range(
            origin,
            &format!("{field}.count"),
            Some(prepend.count),
            (1, limits::PREPEND),
        );
        if let Some(asn) = prepend.asn {
            checker.asn(origin, &format!("{field}.asn"), asn);
        }
    }
    if set.remove_med && set.med.is_some() {
        checker.mistake(
            origin,
            format!("{at}.set.removeMed"),
            "the MED can't be set and removed",
            "keep `med` or `removeMed`",
        );
    }
}

fn communities(checker: &mut Checker<'_>, origin: &Origin, at: &str, rule: &FilterRule) {
    if let Some(matched) = &rule.communities {
        let at = format!("{at}.communities");
        for (field, list) in [
            ("any", &matched.any),
            ("all", &matched.all),
            ("none", &matched.none),
        ] {
            forms(checker, origin, &format!("{at}.{field}"), list);
        }
    }
    if let Some(change) = rule.set.as_ref().and_then(|set| set.communities.as_ref()) {
        let at = format!("{at}.set.communities");
        forms(
            checker,
            origin,
            &format!("{at}.replace"),
            change.replace.as_deref().unwrap_or_default(),
        );
        forms(checker, origin, &format!("{at}.remove"), &change.remove);
        forms(checker, origin, &format!("{at}.add"), &change.add);
    }
}

fn forms(checker: &mut Checker<'_>, origin: &Origin, field: &str, list: &[String]) {
    for (n, text) in list.iter().enumerate() {
        if Community::parse(text).is_none() {
            let problem = format!("`{text}` is not a community");
            checker.mistake(origin, format!("{field}[{n}]"), problem, FORMS);
        }
    }
}
