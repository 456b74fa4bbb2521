//! The configuration as a recording holds it: the objects that were read and what the host added, as YAML. A replay lowers
//! it with the code that the daemon itself uses, so that a recording outlives changes of the speaker's own types.
//!
//! Keys are not in it. In their place stand `redacted-1`, `redacted-2` and so on, the same one for the same key, so that a
//! change of keys is still one.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow};
use causeway_bgp::config::SpeakerConfig;
use causeway_config::{Generation, Instance};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Surroundings;

/// What a configuration was made of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Recorded {
    /// The node that it was read for.
    pub(crate) node_name: String,
    /// The instance has been removed since; the speaker waits for another one.
    #[serde(default)]
    parked: bool,
    host: Host,
    objects: Vec<Value>,
}

/// What the host added.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Host {
    hostname: Option<String>,
    router_id: Option<Ipv4Addr>,
    addresses: Vec<IpAddr>,
    interfaces: BTreeMap<String, u32>,
    assume_reachable: bool,
    restarting_seconds: Option<u64>,
}

/// Keys that were met so far, by which each gets its number.
#[derive(Default)]
pub(crate) struct Keys(Vec<Box<[u8]>>);

impl Keys {
    fn placeholder(&mut self, key: &[u8]) -> String {
        let known = self.0.iter().position(|other| **other == *key);
        let index = known.unwrap_or_else(|| {
            self.0.push(key.into());
            self.0.len() - 1
        });
        format!("redacted-{}", index + 1)
    }
}

/// The text of a configuration; with `parked` of what is left of its speaker when its instance is removed.
///
/// # Errors
///
/// If it can't be written as YAML.
pub(crate) fn write(
    (generation, parked): (&Generation, bool),
    node_name: &str,
    around: &Surroundings,
    keys: &mut Keys,
) -> Result<String> {
    let mut objects = generation.objects.clone();
    objects.extend(secrets(generation, keys));
    let recorded = Recorded {
        node_name: node_name.to_owned(),
        parked,
        host: Host {
            hostname: around.hostname.clone(),
            router_id: around.router_id,
            addresses: around.addresses.clone(),
            interfaces: around.interfaces.clone(),
            assume_reachable: around.assume_reachable,
            restarting_seconds: around.restarting.map(|limit| limit.as_secs()),
        },
        objects,
    };
    serde_saphyr::to_string(&recorded).context("the configuration can't be written as YAML")
}

/// What was recorded.
///
/// # Errors
///
/// If the text is not what [`write`] writes.
pub(crate) fn read(text: &str) -> Result<Recorded> {
    serde_saphyr::from_str(text).map_err(|error| anyhow!("{error}"))
}

impl Recorded {
    /// The checked configuration.
    ///
    /// # Errors
    ///
    /// If this version refuses what the recording one accepted.
    pub(crate) fn generation(&self) -> Result<Generation> {
        let texts: Vec<_> = self
            .objects
            .iter()
            .map(|object| (name(object), object.to_string()))
            .collect();
        let texts: Vec<_> = texts
            .iter()
            .map(|(n, t)| (n.as_str(), t.as_str()))
            .collect();
        causeway_config::load_texts(&texts, &self.node_name)
            .map_err(|errors| anyhow!("\n{}", crate::reload::listed(&errors)))
    }

    /// The speaker's configuration.
    ///
    /// # Errors
    ///
    /// If this version refuses what the recording one accepted.
    pub(crate) fn speaker(&self) -> Result<SpeakerConfig> {
        let generation = self.generation()?;
        let instance = generation
            .instance
            .as_ref()
            .with_context(|| format!("no BGP instance for node {}", self.node_name))?;
        let around = Surroundings {
            hostname: self.host.hostname.clone(),
            router_id: self.host.router_id,
            addresses: self.host.addresses.clone(),
            interfaces: self.host.interfaces.clone(),
            assume_reachable: self.host.assume_reachable,
            restarting: self.host.restarting_seconds.map(Duration::from_secs),
        };
        if self.parked {
            return super::parked(instance, &around);
        }
        super::speaker(instance, &around)
    }
}

fn name(object: &Value) -> String {
    let text = |pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("?")
    };
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

/// A Secret for every one that is referred to.
fn secrets(generation: &Generation, keys: &mut Keys) -> Vec<Value> {
    let mut placeholders = BTreeMap::new();
    for template in generation.instance.iter().flat_map(templates) {
        if let (Some(secret), Some(password)) = (&template.spec.auth_secret_ref, &template.password)
        {
            placeholders.insert(secret.clone(), keys.placeholder(password.expose()));
        }
    }
    let referred: BTreeSet<_> = generation
        .objects
        .iter()
        .filter_map(|object| object.pointer("/spec/authSecretRef")?.as_str())
        .collect();
    referred
        .into_iter()
        .map(|name| {
            let placeholder = placeholders.get(name).map_or("redacted", String::as_str);
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name},
                "stringData": {"password": placeholder},
            })
        })
        .collect()
}

fn templates(instance: &Instance) -> impl Iterator<Item = &causeway_config::Template> {
    let peers = instance.peers.iter().map(|peer| &*peer.template);
    peers.chain(instance.dynamic.iter().map(|(_, _, template)| &**template))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(dir: &str) -> Generation {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/examples")
            .join(dir);
        causeway_config::load(&dir, "node-1").unwrap()
    }

    fn around(generation: &Generation) -> Surroundings {
        let peers = &generation.instance.as_ref().unwrap().peers;
        let interfaces = peers.iter().filter_map(|peer| peer.interface.clone());
        Surroundings {
            hostname: Some("node-1".to_owned()),
            router_id: Some([192, 0, 2, 7].into()),
            addresses: vec![[192, 0, 2, 7].into()],
            interfaces: interfaces.zip(2..).collect(),
            assume_reachable: true,
            restarting: Some(Duration::from_secs(60)),
        }
    }

    /// Everything but the keys, whose text is left out of debug output.
    fn shown(config: &SpeakerConfig) -> String {
        format!("{config:#?}")
    }

    #[test]
    fn every_example_is_the_same_speaker_after_it_was_recorded() {
        for dir in ["kinds", "two-tors", "confederation"] {
            let generation = example(dir);
            let around = around(&generation);
            let instance = generation.instance.as_ref().unwrap();
            let direct = super::super::speaker(instance, &around).unwrap();
            let mut keys = Keys::default();
            let parked = write((&generation, true), "node-1", &around, &mut keys).unwrap();
            let parked = read(&parked).unwrap().speaker().unwrap();
            assert!(parked.peers.is_empty() && parked.rib == direct.rib, "{dir}");
            let text = write((&generation, false), "node-1", &around, &mut keys).unwrap();
            let again = read(&text).unwrap().speaker().unwrap();
            assert_eq!(shown(&again), shown(&direct), "{dir}");
        }
    }

    const PEER: &str = "
apiVersion: causeway.dev/v1alpha1
kind: BGPClusterConfig
metadata: {name: c}
spec:
  bgpInstances:
    - name: i
      localASN: 65000
      peers:
        - {name: e, peerASN: 65001, peerAddress: 10.0.0.2, peerConfigRef: {name: p}}
---
apiVersion: causeway.dev/v1alpha1
kind: BGPPeerConfig
metadata: {name: p}
spec: {authSecretRef: s}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: PASSWORD}
";

    #[test]
    fn no_key_is_recorded_but_its_change_is() {
        let mut keys = Keys::default();
        let mut recorded = |password: &str| {
            let yaml = PEER.replace("PASSWORD", password);
            let generation = causeway_config::load_texts(&[("x.yaml", &yaml)], "n").unwrap();
            let around = Surroundings {
                router_id: Some([192, 0, 2, 7].into()),
                ..Surroundings::default()
            };
            let text = write((&generation, false), "n", &around, &mut keys).unwrap();
            assert!(!text.contains(password), "{text}");
            let config = read(&text).unwrap().speaker().unwrap();
            config.peers[0].session.transport.md5.clone().unwrap()
        };
        let (first, second, third) = (
            recorded("hunter2"),
            recorded("hunter3"),
            recorded("hunter2"),
        );
        assert_ne!(first, second);
        assert_eq!(first, third);
        assert_eq!(first.expose(), b"redacted-1");
    }
}
