//! Checks of `BGPPeerConfig` and of what it refers to.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use causeway_api::bgp::{
    AdvertisementType, Afi, BgpAdvertisement, BgpPeerConfig, BgpPeerConfigSpec, PeerFamily, Safi,
};
use causeway_api::filter::{BGP_FILTER, BgpFilter, FilterAction};
use causeway_api::secret::PASSWORD_KEY;

use super::{Checker, at_most_message_bytes, filter};
use crate::community::{Community, WELL_KNOWN, well_known};
use crate::limits;
use crate::model::{Family, Password, Template};
use crate::parse::{Origin, Sourced, suggestion};

/// Templates by name; the defaults under the empty name.
pub(super) type Templates = HashMap<String, Arc<Template>>;

pub(super) fn resolve(checker: &mut Checker<'_>) -> Templates {
    advertisements(checker);
    let defaults = Template {
        name: String::new(),
        spec: BgpPeerConfigSpec::default(),
        password: None,
        families: [Afi::Ipv4, Afi::Ipv6].map(plain_family).to_vec(),
    };
    let mut templates = Templates::from([(String::new(), Arc::new(defaults))]);
    for config in &checker.objects.peers {
        let template = template(checker, config);
        templates.insert(config.object.metadata.name.clone(), Arc::new(template));
    }
    templates
}

fn plain_family(afi: Afi) -> Family {
    Family {
        spec: PeerFamily {
            afi,
            safi: Safi::Unicast,
            advertisements: None,
            import: Vec::new(),
            export: Vec::new(),
            next_hop: None,
            default_route: None,
            max_prefixes: None,
        },
        import: Vec::new(),
        export: Vec::new(),
        advertisements: Vec::new(),
    }
}

fn template(checker: &mut Checker<'_>, config: &Sourced<BgpPeerConfig>) -> Template {
    let (spec, origin) = (&config.object.spec, &*config.origin);
    ranges(checker, spec, origin);
    let password = spec
        .auth_secret_ref
        .as_deref()
        .and_then(|name| password(checker, origin, name));
    let families = match &spec.families {
        None => [Afi::Ipv4, Afi::Ipv6].map(plain_family).to_vec(),
        Some(families) => {
            if families.is_empty() {
                let remedy = "name a family, or remove the field for IPv4 and IPv6";
                checker.mistake(origin, "spec.families", "empty", remedy);
            }
            families
                .iter()
                .enumerate()
                .map(|(n, family)| resolve_family(checker, origin, families, n, family))
                .collect()
        }
    };
    Template {
        name: config.object.metadata.name.clone(),
        spec: spec.clone(),
        password,
        families,
    }
}

fn ranges(checker: &mut Checker<'_>, spec: &BgpPeerConfigSpec, origin: &Origin) {
    let timers = &spec.timers;
    for (name, value) in [
        ("connectRetryTimeSeconds", timers.connect_retry_time_seconds),
        ("idleHoldTimeSeconds", timers.idle_hold_time_seconds),
        ("idleHoldTimeMaxSeconds", timers.idle_hold_time_max_seconds),
        ("sendHoldTimeSeconds", timers.send_hold_time_seconds),
        ("keepAliveTimeSeconds", timers.keep_alive_time_seconds),
    ] {
        checker.range(origin, &format!("spec.timers.{name}"), value, (1, u16::MAX));
    }
    let hold = timers.hold_time_seconds.unwrap_or(90);
    if hold == 1 || hold == 2 {
        checker.mistake(
            origin,
            "spec.timers.holdTimeSeconds",
            format!("a hold time of {hold} s is forbidden (RFC 4271 4.2)"),
            "write 0 (no keepalives) or at least 3",
        );
    } else if let Some(keep_alive) = timers.keep_alive_time_seconds
        && hold != 0
        && keep_alive >= hold
    {
        checker.mistake(
            origin,
            "spec.timers.keepAliveTimeSeconds",
            format!("{keep_alive} s is not less than the hold time of {hold} s"),
            format!("write {} or leave it out", (hold / 3).max(1)),
        );
    }
    let (least, most) = (
        timers.idle_hold_time_seconds.unwrap_or(1),
        timers.idle_hold_time_max_seconds.unwrap_or(60),
    );
    if least > most {
        checker.mistake(
            origin,
            "spec.timers.idleHoldTimeSeconds",
            format!("{least} s is more than the longest pause of {most} s"),
            "make it at most idleHoldTimeMaxSeconds",
        );
    }
    checker.range(origin, "spec.ebgpMultihop", spec.ebgp_multihop, (1, 255));
    checker.range(origin, "spec.ttlSecurity", spec.ttl_security, (1, 254));
    if spec.ebgp_multihop.is_some() && spec.ttl_security.is_some() {
        checker.mistake(
            origin,
            "spec.ttlSecurity",
            "contradicts ebgpMultihop",
            "keep ttlSecurity alone; it takes the number of hops too",
        );
    }
    checker.range(
        origin,
        "spec.transport.peerPort",
        spec.transport.peer_port,
        (1, u16::MAX),
    );
    checker.range(origin, "spec.transport.dscp", spec.transport.dscp, (0, 63));
    if let Some(asn) = spec.local_asn {
        checker.asn(origin, "spec.localASN", asn);
    }
    if let Some(restart) = &spec.graceful_restart {
        let at = "spec.gracefulRestart";
        checker.range(
            origin,
            &format!("{at}.restartTimeSeconds"),
            restart.restart_time_seconds,
            (1, 4095),
        );
        checker.range(
            origin,
            &format!("{at}.staleTimeSeconds"),
            restart.stale_time_seconds,
            (1, u16::MAX),
        );
    }
    if let Some(message) = &spec.shutdown_message {
        if !at_most_message_bytes(message) {
            checker.mistake(
                origin,
                "spec.shutdownMessage",
                format!(
                    "{} bytes, more than {} (RFC 9003)",
                    message.len(),
                    limits::SHUTDOWN_MESSAGE_BYTES
                ),
                "shorten it",
            );
        }
        if !spec.shutdown {
            let remedy = "remove it, or write `shutdown: true`";
            checker.mistake(
                origin,
                "spec.shutdownMessage",
                "there is no shutdown to explain",
                remedy,
            );
        }
    }
}

/// The key, or a mistake: a session that was to be protected never goes unprotected.
fn password(checker: &mut Checker<'_>, origin: &Origin, name: &str) -> Option<Password> {
    let objects = checker.objects;
    let field = "spec.authSecretRef";
    let Some(secret) = objects
        .secrets
        .iter()
        .find(|s| s.object.metadata.name == name)
    else {
        let known: Vec<_> = objects
            .secrets
            .iter()
            .map(|s| s.object.metadata.name.as_str())
            .collect();
        checker.unknown(origin, field, "Secret", name, &known);
        return None;
    };
    let bytes = match (
        secret.object.string_data.get(PASSWORD_KEY),
        secret.object.data.get(PASSWORD_KEY),
    ) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(encoded)) => match STANDARD.decode(encoded.trim()) {
            Ok(bytes) => bytes,
            Err(_) => {
                let remedy = "encode it with `base64`, or use stringData";
                checker.mistake(&secret.origin, "data.password", "is not base64", remedy);
                return None;
            }
        },
        (None, None) => {
            let remedy = "add `password` to its data or stringData";
            checker.mistake(&secret.origin, "", "has no key `password`", remedy);
            return None;
        }
    };
    if bytes.is_empty() || bytes.len() > limits::MD5_KEY_BYTES {
        checker.mistake(
            &secret.origin,
            "",
            format!("the password has {} bytes", bytes.len()),
            format!(
                "Linux takes TCP MD5 keys of 1 to {} bytes",
                limits::MD5_KEY_BYTES
            ),
        );
        return None;
    }
    Some(Password::new(&bytes))
}

fn resolve_family(
    checker: &mut Checker<'_>,
    origin: &Origin,
    all: &[PeerFamily],
    n: usize,
    family: &PeerFamily,
) -> Family {
    let at = format!("spec.families[{n}]");
    if all[..n]
        .iter()
        .any(|earlier| (earlier.afi, earlier.safi) == (family.afi, family.safi))
    {
        checker.mistake(
            origin,
            format!("{at}.afi"),
            "the family is listed twice",
            "list it once",
        );
    }
    if let Some(limit) = &family.max_prefixes {
        checker.range(
            origin,
            &format!("{at}.maxPrefixes.limit"),
            Some(limit.limit),
            (1, u32::MAX),
        );
        checker.range(
            origin,
            &format!("{at}.maxPrefixes.warnPercent"),
            limit.warn_percent,
            (1, 100),
        );
        checker.range(
            origin,
            &format!("{at}.maxPrefixes.restartAfterSeconds"),
            limit.restart_after_seconds,
            (1, u32::MAX),
        );
        if limit.warn_only && limit.restart_after_seconds.is_some() {
            checker.mistake(
                origin,
                format!("{at}.maxPrefixes.warnOnly"),
                "a limit that only warns ends no session that could be restarted",
                "remove `warnOnly` or `restartAfterSeconds`",
            );
        }
    }
    let advertisements = family
        .advertisements
        .as_ref()
        .map_or_else(Vec::new, |selector| {
            let chosen = |a: &&Sourced<BgpAdvertisement>| {
                selector.selects(&a.object.metadata.labels)
                    && checker.selects(a.object.spec.node_selector.as_ref())
            };
            let found = checker.objects.advertisements.iter().filter(chosen);
            found.map(|a| Arc::new(a.object.clone())).collect()
        });
    Family {
        spec: family.clone(),
        import: filters(checker, origin, &format!("{at}.import"), &family.import),
        export: filters(checker, origin, &format!("{at}.export"), &family.export),
        advertisements,
    }
}

fn filters(
    checker: &mut Checker<'_>,
    origin: &Origin,
    field: &str,
    names: &[String],
) -> Vec<Arc<BgpFilter>> {
    let objects = checker.objects;
    let mut found = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let field = format!("{field}[{n}]");
        match objects
            .filters
            .iter()
            .find(|f| f.object.metadata.name == *name)
        {
            Some(filter) => {
                let last = n + 1 == names.len();
                if !last && filter.object.spec.default_action != Some(FilterAction::Next) {
                    checker.mistake(
                        origin,
                        &field,
                        format!("BGPFilter `{name}` decides on every route, so that the filters behind it are never reached"),
                        format!("write `defaultAction: Next` in BGPFilter {name}, or put it last"),
                    );
                }
                found.push(Arc::new(filter.object.clone()));
            }
            None => {
                let known: Vec<_> = objects
                    .filters
                    .iter()
                    .map(|f| f.object.metadata.name.as_str())
                    .collect();
                checker.unknown(origin, &field, BGP_FILTER, name, &known);
            }
        }
    }
    found
}

fn advertisements(checker: &mut Checker<'_>) {
    for advertisement in &checker.objects.advertisements {
        let origin = &*advertisement.origin;
        for (n, group) in advertisement.object.spec.advertisements.iter().enumerate() {
            let at = format!("spec.advertisements[{n}]");
            if group.advertisement_type != AdvertisementType::Prefix {
                let name = group.advertisement_type.name();
                checker.mistake(
                    origin,
                    format!("{at}.advertisementType"),
                    format!("type {name} is not implemented in this version"),
                    "use `advertisementType: Prefix` and list the prefixes",
                );
            } else if group.prefixes.is_empty() {
                let remedy = "list what to announce";
                checker.mistake(origin, format!("{at}.prefixes"), "empty", remedy);
            }
            filter::networks(checker, origin, &format!("{at}.prefixes"), &group.prefixes);
            let Some(attributes) = &group.attributes else {
                continue;
            };
            let field = format!("{at}.attributes");
            checker.range(
                origin,
                &format!("{field}.asPathPrepend"),
                attributes.as_path_prepend,
                (0, limits::PREPEND),
            );
            let Some(communities) = &attributes.communities else {
                continue;
            };
            let field = format!("{field}.communities");
            let standard =
                |text: &str| matches!(Community::parse(text), Some(Community::Standard(_)));
            let large = |text: &str| matches!(Community::parse(text), Some(Community::Large(..)));
            for (n, text) in communities
                .standard
                .iter()
                .enumerate()
                .filter(|(_, text)| !standard(text))
            {
                let problem = format!("`{text}` is not a standard community");
                let remedy = "write ASN:VALUE with numbers up to 65535 (RFC 1997)";
                checker.mistake(origin, format!("{field}.standard[{n}]"), problem, remedy);
            }
            for (n, text) in communities
                .large
                .iter()
                .enumerate()
                .filter(|(_, text)| !large(text))
            {
                let problem = format!("`{text}` is not a large community");
                let remedy = "write GLOBAL:LOCAL1:LOCAL2 with numbers up to 4294967295 (RFC 8092)";
                checker.mistake(origin, format!("{field}.large[{n}]"), problem, remedy);
            }
            for (n, text) in communities
                .well_known
                .iter()
                .enumerate()
                .filter(|(_, text)| well_known(text).is_none())
            {
                let problem = format!("`{text}` is not a well-known community");
                let remedy = suggestion(text, WELL_KNOWN.map(|(name, _)| name));
                checker.mistake(origin, format!("{field}.wellKnown[{n}]"), problem, remedy);
            }
        }
    }
}
