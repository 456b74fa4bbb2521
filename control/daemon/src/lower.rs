//! From the checked configuration to what the speaker takes.

mod policy;
pub(crate) mod recorded;

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use causeway_api::bgp::{LinkBandwidth, NextHopMode as ApiNextHop};
use causeway_api::cidr::Cidr;
use causeway_bgp::config::{
    DynamicConfig, Excess, FamilyConfig, GracefulRestartConfig, MaxPrefixes, Md5Key, PeerConfig,
    RemoteAs, SessionConfig, ShutdownMessage, SpeakerConfig, TimersConfig, TransportOptions, Ttl,
};
use causeway_bgp::origin::Originated;
use causeway_bgp::rib::{
    Confederation, FamilySession, LinkBandwidthMode, MedConfig, MissingMed, NextHopMode, RibConfig,
};
use causeway_bgp::types::{Asn, Prefix, RouterId};
use causeway_bgp::wire::ClusterId;
use causeway_config::{Instance, PeerAs, Template};

/// TTL of iBGP sessions, which may run over any number of hops (RFC 4271 names none; the usual default of hosts).
const INTERNAL_HOPS: u8 = 64;

/// Facts of this host that a configuration may leave open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// Its name, for the capability.
    pub(crate) hostname: Option<String>,
    /// Indices of the interfaces that peers are reached by.
    pub(crate) interfaces: BTreeMap<String, u32>,
    /// Own addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The router id for a configuration that sets none, chosen when the speaker started: an identifier stays the same as
    /// long as the speaker runs (RFC 4271 4.2).
    pub(crate) router_id: Option<Ipv4Addr>,
    /// Whether next hops count as reachable without anybody saying so.
    pub(crate) assume_reachable: bool,
    /// Whether the forwarding tables outlived the last daemon, and how long to wait for peers.
    pub(crate) restarting: Option<Duration>,
}

/// The speaker's configuration.
///
/// # Errors
///
/// If the host lacks what the configuration leaves open or asks for: an address for the router id, an interface.
pub(crate) fn speaker(instance: &Instance, around: &Surroundings) -> Result<SpeakerConfig> {
    let spec = &instance.spec;
    let router_id = spec
        .router_id
        .or(around.router_id)
        .ok_or_else(|| {
            anyhow!(
                "instance {}: no router id; set routerID, as this host has no IPv4 address to take it from",
                spec.name
            )
        })?;
    let local_asn = Asn(spec.local_asn);
    let paths = spec.maximum_paths.unwrap_or_default();
    let med = spec.med.unwrap_or_default();
    let mut rib = RibConfig::new(local_asn, RouterId(router_id.to_bits()));
    rib.cluster_id = spec.cluster_id.map(|id| ClusterId(id.to_bits()));
    rib.confederation = spec.confederation.as_ref().map(|spec| Confederation {
        identifier: Asn(spec.identifier),
        // One list may serve all members.
        members: (spec.members.iter().copied().map(Asn))
            .filter(|member| *member != local_asn)
            .collect(),
    });
    rib.default_local_pref = spec
        .default_local_preference
        .unwrap_or(rib.default_local_pref);
    rib.med = MedConfig {
        always_compare: med.always_compare,
        missing: if med.missing_as_worst {
            MissingMed::Worst
        } else {
            MissingMed::Best
        },
    };
    rib.maximum_paths_ebgp = paths.ebgp;
    rib.maximum_paths_ibgp = paths.ibgp;
    rib.multipath_relax = spec.multipath_relax;
    rib.link_bandwidth = match spec.link_bandwidth {
        None | Some(LinkBandwidth::WhenAll) => LinkBandwidthMode::WhenAll,
        Some(LinkBandwidth::Ignore) => LinkBandwidthMode::Ignore,
    };
    rib.prefer_oldest = spec.prefer_oldest;
    rib.assume_reachable = around.assume_reachable;

    let mut config = SpeakerConfig::new(rib);
    config.hostname = around.hostname.as_deref().map(Into::into);
    config.own_addresses.clone_from(&around.addresses);
    config.restarting = around.restarting;
    config.originated = instance
        .originated
        .iter()
        .filter_map(|cidr| Some(Originated::new(prefix(*cidr)?)))
        .collect();
    for peer in &instance.peers {
        let remote_as = remote_as(peer.peer_as);
        let session = session(local_asn, remote_as, &peer.template, peer.local_address);
        let mut lowered = PeerConfig::new(&peer.name, peer.address, Arc::new(session));
        lowered.port = peer
            .template
            .spec
            .transport
            .peer_port
            .unwrap_or(lowered.port);
        lowered.passive = peer.template.spec.transport.passive;
        lowered.scope = match &peer.interface {
            Some(name) => Some(*around.interfaces.get(name).with_context(|| {
                format!(
                    "peer {}: no interface {name}; correct `interface` or create it",
                    peer.name
                )
            })?),
            None => None,
        };
        config.peers.push(lowered);
    }
    for (group, peer_as, template) in &instance.dynamic {
        config.dynamic.push(DynamicConfig {
            name: group.name.as_str().into(),
            ranges: group
                .prefixes
                .iter()
                .filter_map(|cidr| prefix(*cidr))
                .collect(),
            limit: usize::try_from(group.limit.unwrap_or(100)).unwrap_or(usize::MAX),
            session: Arc::new(session(local_asn, remote_as(*peer_as), template, None)),
        });
    }
    Ok(config)
}

/// The configuration of a speaker whose instance was removed: itself, with nobody to speak to.
///
/// # Errors
///
/// As [`speaker`].
pub(crate) fn parked(instance: &Instance, around: &Surroundings) -> Result<SpeakerConfig> {
    let mut instance = instance.clone();
    instance.peers.clear();
    instance.dynamic.clear();
    instance.originated.clear();
    speaker(&instance, around)
}

/// The highest address that isn't a loopback or link-local one, as other speakers choose it.
pub(crate) fn router_id(addresses: &[IpAddr]) -> Option<Ipv4Addr> {
    addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
        .filter(|v4| !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified())
        .max()
}

fn prefix(cidr: Cidr) -> Option<Prefix> {
    Prefix::new(cidr.addr(), cidr.prefix_len())
}

fn remote_as(peer_as: PeerAs) -> RemoteAs {
    match peer_as {
        PeerAs::Exactly(asn) => RemoteAs::Exactly(Asn(asn)),
        PeerAs::Internal => RemoteAs::Internal,
        PeerAs::External => RemoteAs::External,
    }
}

fn session(
    instance_asn: Asn,
    remote_as: RemoteAs,
    template: &Template,
    local_address: Option<IpAddr>,
) -> SessionConfig {
    let spec = &template.spec;
    let local_asn = spec.local_asn.map_or(instance_asn, Asn);
    let families = template.families.iter().map(family).collect();
    let mut session = SessionConfig::new(remote_as, families);
    session.local_as = spec.local_asn.map(Asn).filter(|asn| *asn != instance_asn);
    session.local_address = local_address.or(spec.transport.local_address);
    session.shutdown = spec
        .shutdown
        .then(|| ShutdownMessage::new(spec.shutdown_message.as_deref().unwrap_or_default()));
    let internal = match remote_as {
        RemoteAs::Exactly(asn) => asn == local_asn,
        RemoteAs::Internal => true,
        RemoteAs::External | RemoteAs::Any => false,
    };
    session.transport = TransportOptions {
        md5: template
            .password
            .as_ref()
            .and_then(|password| Md5Key::new(password.expose())),
        ttl: match spec.ttl_security {
            Some(hops) => Ttl::Security { hops },
            None if internal => Ttl::Hops(INTERNAL_HOPS),
            None => Ttl::Hops(spec.ebgp_multihop.unwrap_or(1)),
        },
        dscp: spec.transport.dscp.unwrap_or(session.transport.dscp),
    };
    session.timers = timers(template);
    session.graceful_restart = spec
        .graceful_restart
        .as_ref()
        .filter(|restart| restart.enabled)
        .map(|restart| {
            let default = GracefulRestartConfig::default();
            GracefulRestartConfig {
                restart_time_seconds: restart
                    .restart_time_seconds
                    .unwrap_or(default.restart_time_seconds),
                stale_time: seconds(restart.stale_time_seconds).unwrap_or(default.stale_time),
                notification: restart.notification.unwrap_or(default.notification),
            }
        });
    session.extended_messages = spec.extended_messages.unwrap_or(true);
    session.route_reflector_client = spec.route_reflector_client;
    session.enforce_first_as = spec.enforce_first_as.unwrap_or(true);
    session.allow_own_as = spec.allow_own_as;
    session
}

fn timers(template: &Template) -> TimersConfig {
    let spec = &template.spec.timers;
    let default = TimersConfig::default();
    let hold = seconds(spec.hold_time_seconds).unwrap_or(default.hold);
    TimersConfig {
        connect_retry: seconds(spec.connect_retry_time_seconds).unwrap_or(default.connect_retry),
        hold,
        // Zero stands for a third of the negotiated hold time.
        keepalive: seconds(spec.keep_alive_time_seconds).unwrap_or_default(),
        idle_hold: seconds(spec.idle_hold_time_seconds).unwrap_or(default.idle_hold),
        idle_hold_max: seconds(spec.idle_hold_time_max_seconds).unwrap_or(default.idle_hold_max),
        send_hold: seconds(spec.send_hold_time_seconds).unwrap_or(default.send_hold),
    }
}

fn seconds(value: Option<u16>) -> Option<Duration> {
    value.map(|seconds| Duration::from_secs(seconds.into()))
}

fn family(family: &causeway_config::Family) -> FamilyConfig {
    let spec = &family.spec;
    let default_route = spec.default_route.unwrap_or_default();
    let routing = FamilySession {
        import: policy::import(family),
        export: policy::export(family),
        default_route_in: default_route.accept,
        default_route_out: default_route.advertise,
        next_hop: match spec.next_hop {
            None | Some(ApiNextHop::Default) => NextHopMode::Default,
            Some(ApiNextHop::SelfAddress) => NextHopMode::SelfAddress,
            Some(ApiNextHop::Unchanged) => NextHopMode::Unchanged,
            Some(ApiNextHop::ThirdParty) => NextHopMode::ThirdParty,
        },
    };
    let mut lowered = FamilyConfig::new(policy::family(spec.afi), routing);
    lowered.max_prefixes = spec.max_prefixes.map(|limit| MaxPrefixes {
        limit: limit.limit,
        warn_percent: limit.warn_percent.unwrap_or(75),
        excess: match limit.restart_after_seconds {
            _ if limit.warn_only => Excess::Warn,
            Some(seconds) => Excess::RestartAfter(Duration::from_secs(seconds.into())),
            None => Excess::Stop,
        },
    });
    lowered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(yaml: &str) -> SpeakerConfig {
        let generation = causeway_config::load_texts(&[("x.yaml", yaml)], "n").unwrap();
        let addresses = [
            "127.0.0.1",
            "10.0.0.1",
            "192.0.2.7",
            "169.254.3.3",
            "2001:db8::1",
        ]
        .map(|a| a.parse().unwrap())
        .to_vec();
        let around = Surroundings {
            router_id: router_id(&addresses),
            addresses,
            ..Surroundings::default()
        };
        let config = speaker(&generation.instance.unwrap(), &around).unwrap();
        config.validate().unwrap();
        config
    }

    const PLAIN: &str = "
apiVersion: causeway.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: c}
spec:
  bgpInstances:
    - name: i
      localASN: 65000
      peers:
        - {name: e, peerASN: 65001, peerAddress: 10.0.0.2}
        - {name: i, peerASN: 65000, peerAddress: 10.0.0.3}
";

    #[test]
    fn a_missing_router_id_is_the_highest_address_of_the_host() {
        let config = lowered(PLAIN);
        assert_eq!(config.rib.router_id.to_string(), "192.0.2.7");
    }

    #[test]
    fn without_policies_an_ebgp_peer_gets_and_gives_nothing() {
        let config = lowered(PLAIN);
        let session = &config.peers[0].session;
        assert_eq!(session.families.len(), 2);
        assert!(
            session
                .families
                .iter()
                .all(|f| f.routing.import.is_none() && f.routing.export.is_none())
        );
    }

    #[test]
    fn ebgp_stays_on_the_link_and_ibgp_does_not() {
        let config = lowered(PLAIN);
        assert_eq!(config.peers[0].session.transport.ttl, Ttl::Hops(1));
        assert_eq!(config.peers[1].session.transport.ttl, Ttl::Hops(64));
    }

    fn examples() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples")
    }

    fn valid(mut generation: causeway_config::Generation) -> SpeakerConfig {
        let instance = generation.instance.as_mut().unwrap();
        // Interfaces of the example that this host does not have.
        for peer in &mut instance.peers {
            peer.interface = peer.interface.as_ref().map(|_| "lo".to_owned());
        }
        let around = Surroundings {
            interfaces: [("lo".to_owned(), 1)].into(),
            ..Surroundings::default()
        };
        let config = speaker(instance, &around).unwrap();
        config.validate().unwrap();
        config
    }

    #[test]
    fn a_confederation_lists_the_other_members_only() {
        let yaml = PLAIN.replace(
            "      localASN: 65000\n",
            "      localASN: 65000\n      confederation: {identifier: 64512, members: [65000, 65001]}\n      linkBandwidth: Ignore\n",
        );
        let rib = lowered(&yaml).rib;
        let confederation = rib.confederation.unwrap();
        assert_eq!(confederation.identifier, Asn(64512));
        assert_eq!(confederation.members[..], [Asn(65001)]);
        assert_eq!(rib.link_bandwidth, LinkBandwidthMode::Ignore);
    }

    #[test]
    fn every_example_is_a_valid_speaker() {
        for dir in ["kinds", "two-tors", "confederation"] {
            let config = valid(causeway_config::load(&examples().join(dir), "node-1").unwrap());
            assert!(!config.originated.is_empty(), "{dir}");
        }
    }

    #[test]
    fn every_example_of_a_feature_is_a_valid_speaker_by_itself() {
        let mut files = 0;
        for entry in std::fs::read_dir(examples().join("bgp")).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&file).unwrap();
            let loaded = causeway_config::load_texts(&[(name, &*text)], "node-1");
            let config = valid(loaded.unwrap_or_else(|errors| panic!("{errors:?}")));
            assert!(config.peers.len() + config.dynamic.len() > 0, "{name}");
            files += 1;
        }
        assert!(files > 0);
    }
}
