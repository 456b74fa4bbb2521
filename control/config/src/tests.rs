//! Whole configurations: the examples are right, and each mistake is named with its place and its remedy.

use std::path::Path;

use crate::model::PeerAs;
use crate::{Generation, load, load_texts};

/// Mistakes as they are shown, one per line.
fn mistakes(yaml: &str) -> String {
    let errors = load_texts(&[("x.yaml", yaml)], "node-1").expect_err("is accepted");
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn accepted(yaml: &str) -> Generation {
    load_texts(&[("x.yaml", yaml)], "node-1").unwrap_or_else(|errors| {
        panic!(
            "{}",
            errors.iter().map(|e| format!("{e}\n")).collect::<String>()
        )
    })
}

fn cluster(instance: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: BGPClusterConfig\nmetadata: {{name: c}}\nspec:\n  bgpInstances:\n    - name: main\n      localASN: 65000\n{instance}"
    )
}

fn peer_config(spec: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: BGPPeerConfig\nmetadata: {{name: tor}}\nspec:\n{spec}"
    )
}

fn filter(rules: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: BGPFilter\nmetadata: {{name: f}}\nspec:\n  rules:\n{rules}"
    )
}

#[test]
fn every_example_is_accepted_on_its_node_and_elsewhere() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let kinds = load(&examples.join("kinds"), "node-1").unwrap();
    let instance = kinds.instance.unwrap();
    assert_eq!(
        instance.spec.router_id.unwrap().to_string(),
        "192.0.2.11",
        "the override of node-1"
    );
    assert_eq!(instance.spec.local_port, Some(1179));
    assert_eq!(
        instance.peers[0].local_address.unwrap().to_string(),
        "198.51.100.2"
    );
    assert_eq!(
        instance.peers[0]
            .template
            .password
            .as_ref()
            .unwrap()
            .expose(),
        b"correct horse battery staple"
    );
    assert_eq!(instance.peers[2].peer_as, PeerAs::External);
    assert_eq!(kinds.node.hash_seed, Some(42));
    assert!(
        load(&examples.join("kinds"), "node-2")
            .unwrap()
            .instance
            .is_none()
    );

    let two_tors = load(&examples.join("two-tors"), "anything").unwrap();
    assert_eq!(two_tors.instance.unwrap().peers.len(), 2);
    assert_eq!(two_tors.node.uplinks, ["client", "tor-a", "tor-b"]);

    let member = load(&examples.join("confederation"), "anything").unwrap();
    let spec = member.instance.unwrap().spec;
    assert_eq!(spec.confederation.unwrap().identifier, 64512);
}

#[test]
fn no_key_is_shown() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/kinds");
    let generation = load(&examples, "node-1").unwrap();
    let shown = format!(
        "{generation:?}{}",
        serde_json::to_string(&generation.objects).unwrap()
    );
    assert!(!shown.contains("horse"));
}

#[test]
fn nothing_configured_is_a_configuration() {
    assert_eq!(accepted("# nothing\n---\n"), Generation::default());
}

#[test]
fn an_unknown_field_names_its_line_and_what_was_meant() {
    let yaml = cluster(
        "      peers:\n        - name: a\n          peerAsn: 65001\n          peerAddress: 10.0.0.1\n",
    );
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:10: BGPClusterConfig c: spec.bgpInstances[0].peers[0].peerAsn: unknown field `peerAsn`; did you mean `peerASN`?"
    );
}

#[test]
fn several_unknown_fields_of_a_document_are_all_reported() {
    let yaml = peer_config("  shutdwon: true\n  timers:\n    holdTime: 9\n  bfdProfile: fast\n");
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:5: BGPPeerConfig tor: spec.shutdwon: unknown field `shutdwon`; did you mean `shutdown`?\n\
         x.yaml:7: BGPPeerConfig tor: spec.timers.holdTime: unknown field `holdTime`; did you mean `holdTimeSeconds`?\n\
         x.yaml:8: BGPPeerConfig tor: spec.bfdProfile: field `bfdProfile` is not implemented in this version; remove it; shorter timers detect failures meanwhile"
    );
}

#[test]
fn known_kinds_and_types_that_are_not_implemented_are_refused_by_name() {
    assert_eq!(
        mistakes("apiVersion: causeway.dev/v1alpha1\nkind: BFDProfile\nmetadata: {name: fast}\n"),
        "x.yaml:2: BFDProfile fast: kind: kind BFDProfile is not implemented in this version; remove the object"
    );
    let yaml = "apiVersion: causeway.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {name: a}\nspec:\n  advertisements:\n    - advertisementType: PodCIDR\n";
    assert_eq!(
        mistakes(yaml),
        "x.yaml:6: BGPAdvertisement a: spec.advertisements[0].advertisementType: type PodCIDR is not implemented in this version; use `advertisementType: Prefix` and list the prefixes"
    );
}

#[test]
fn services_are_refused_by_name_and_not_passed_over() {
    for (version, kind) in [("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice")] {
        assert_eq!(
            mistakes(&format!(
                "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: web}}"
            )),
            format!(
                "x.yaml:2: {kind} web: kind: kind {kind} is not implemented in this version; remove the object"
            )
        );
    }
}

#[test]
fn a_node_is_read_as_kubernetes_writes_it() {
    let generation = accepted(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: node-1\n  uid: 5b0c\n  labels: {rack: a}\n  managedFields: []\n\
         spec: {podCIDR: 10.0.1.0/24}\nstatus:\n  addresses: [{type: InternalIP, address: 192.0.2.1}]\n---\n\
         apiVersion: causeway.dev/v1alpha1\nkind: NodeConfig\nmetadata: {name: racks}\nspec:\n  \
         nodeSelector: {matchLabels: {rack: a}}\n  uplinks: {interfaces: [eth0]}\n",
    );
    assert_eq!(generation.node.uplinks, ["eth0"]);
}

#[test]
fn an_unknown_kind_names_what_was_meant() {
    assert_eq!(
        mistakes("apiVersion: causeway.dev/v1alpha1\nkind: BgpPeerconfig\nmetadata: {name: x}\n"),
        "x.yaml:2: BgpPeerconfig x: kind: unknown kind `BgpPeerconfig`; did you mean `BGPPeerConfig`?"
    );
}

#[test]
fn a_wrong_version_and_a_missing_name_are_reported_together() {
    assert_eq!(
        mistakes("apiVersion: causeway.dev/v1\nkind: BGPFilter\nspec: {}\n"),
        "x.yaml:1: BGPFilter: apiVersion: unknown version `causeway.dev/v1`; write `apiVersion: causeway.dev/v1alpha1`\n\
         x.yaml:1: BGPFilter: metadata.name: missing; use up to 253 lower-case letters, digits, `-` and `.`, with a letter or digit at both ends"
    );
}

#[test]
fn a_value_of_the_wrong_form_names_its_line() {
    let yaml = cluster(
        "      peers:\n        - name: a\n          peerASN: many\n          peerAddress: 10.0.0.1\n",
    );
    assert!(
        mistakes(&yaml)
            .starts_with("x.yaml:10: BGPClusterConfig c: spec.bgpInstances[0].peers[0].peerASN: ")
    );
    let yaml = cluster(
        "      dynamicNeighbors:\n        - name: a\n          dynamicASN: external\n          prefixes: [10.0.0.0]\n",
    );
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:11: BGPClusterConfig c: spec.bgpInstances[0].dynamicNeighbors[0].prefixes[0]: `10.0.0.0` is not a prefix; write ADDRESS/LENGTH, such as 10.0.0.0/8 or 2001:db8::/32"
    );
}

#[test]
fn what_is_not_yaml_names_its_line() {
    let text = mistakes("---\napiVersion: v1\nkind: [Secret\nmetadata: {name: x}\n");
    assert!(
        text.starts_with("x.yaml:") && text.contains("is not YAML"),
        "{text}"
    );
}

#[test]
fn a_missing_secret_keeps_the_peer_from_being_unprotected() {
    let yaml = peer_config("  authSecretRef: kye\n")
        + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {password: x}\n";
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:5: BGPPeerConfig tor: spec.authSecretRef: there is no Secret `kye`; did you mean `key`? If not, add a Secret of this name"
    );
}

#[test]
fn secrets_of_the_wrong_form_show_no_value() {
    let text = mistakes("apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: hunter2\n");
    assert!(
        text.starts_with("x.yaml:4: Secret k: stringData: ") && !text.contains("hunter2"),
        "{text}"
    );
    let reference = peer_config("  authSecretRef: k\n---\n");
    let text = mistakes(
        &(reference.clone()
            + "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\ndata: {password: \"hunter2!\"}\n"),
    );
    assert!(
        text.contains("is not base64") && !text.contains("hunter2"),
        "{text}"
    );
    let text = mistakes(
        &(reference + "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\ndata: {pasword: aaaa}\n"),
    );
    assert!(text.contains("has no key `password`"), "{text}");
}

#[test]
fn values_out_of_range_name_the_range() {
    let yaml = peer_config(
        "  timers: {holdTimeSeconds: 2, connectRetryTimeSeconds: 0}\n  transport: {dscp: 64, peerPort: 0}\n  ttlSecurity: 1\n  ebgpMultihop: 2\n",
    );
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:5: BGPPeerConfig tor: spec.timers.connectRetryTimeSeconds: 0 is out of range; write a number from 1 to 65535\n\
         x.yaml:5: BGPPeerConfig tor: spec.timers.holdTimeSeconds: a hold time of 2 s is forbidden (RFC 4271 4.2); write 0 (no keepalives) or at least 3\n\
         x.yaml:6: BGPPeerConfig tor: spec.transport.dscp: 64 is out of range; write a number from 0 to 63\n\
         x.yaml:6: BGPPeerConfig tor: spec.transport.peerPort: 0 is out of range; write a number from 1 to 65535\n\
         x.yaml:7: BGPPeerConfig tor: spec.ttlSecurity: contradicts ebgpMultihop; keep ttlSecurity alone; it takes the number of hops too"
    );
}

#[test]
fn peers_are_unique_and_complete() {
    let yaml = cluster(
        "      peers:\n        - {name: a, peerASN: 1, peerAddress: 10.0.0.1}\n        - {name: a, peerASN: 0, peerAddress: 10.0.0.2}\n        - {name: b, peerAddress: 10.0.0.1, peerASN: 1, dynamicASN: external}\n        - {name: c, peerASN: 1, peerAddress: \"fe80::1\"}\n        - {name: d, peerASN: 1, peerAddress: 10.0.0.4, peerConfigRef: {name: nowhere}}\n",
    );
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:10: BGPClusterConfig c: spec.bgpInstances[0].peers[1].name: `a` is used twice; rename one of them\n\
         x.yaml:10: BGPClusterConfig c: spec.bgpInstances[0].peers[1].peerASN: AS 0 is reserved (RFC 7607); write the AS of the peer, or `dynamicASN: external` (or `internal`) to learn it\n\
         x.yaml:11: BGPClusterConfig c: spec.bgpInstances[0].peers[2].dynamicASN: contradicts peerASN; keep peerASN or dynamicASN\n\
         x.yaml:11: BGPClusterConfig c: spec.bgpInstances[0].peers[2].peerAddress: peer `a` has the address 10.0.0.1 too; keep one peer per address\n\
         x.yaml:12: BGPClusterConfig c: spec.bgpInstances[0].peers[3].peerAddress: fe80::1 means nothing without its link; add `interface:` with the name of the link\n\
         x.yaml:13: BGPClusterConfig c: spec.bgpInstances[0].peers[4].peerConfigRef.name: there is no BGPPeerConfig `nowhere`; add a BGPPeerConfig of this name"
    );
}

#[test]
fn a_reference_to_an_object_that_is_wrong_itself_is_no_second_mistake() {
    let yaml = cluster(
        "      peers:\n        - {name: a, peerASN: 1, peerAddress: 10.0.0.1, peerConfigRef: {name: tor}}\n---\n",
    ) + &peer_config("  nonsense: 1\n");
    let text = mistakes(&yaml);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("unknown field `nonsense`"), "{text}");
}

#[test]
fn filters_are_checked_rule_by_rule() {
    let yaml = filter(
        "    - {name: a, cidr: [10.0.0.1/8], action: Accept}\n    - {name: a, prefixLength: {min: 25, max: 24}, action: Accept}\n    - {name: b, communities: {any: [no-exprot]}, action: Accept}\n    - {name: c, action: Next}\n",
    );
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:6: BGPFilter f: spec.rules[0].cidr[0]: 10.0.0.1/8 has bits set behind its length; write 10.0.0.0/8, or a longer length\n\
         x.yaml:7: BGPFilter f: spec.rules[1].name: `a` stands here twice; give each rule of the filter a name of its own\n\
         x.yaml:7: BGPFilter f: spec.rules[1].prefixLength: no length is at least 25 and at most 24; make min at most max\n\
         x.yaml:8: BGPFilter f: spec.rules[2].communities.any[0]: `no-exprot` is not a community; write ASN:VALUE with numbers up to 65535, GLOBAL:LOCAL1:LOCAL2, rt:ASN:VALUE, ro:ASN:VALUE, bandwidth:ASN:BYTES_PER_SECOND, 0x and 16 hex digits, or a well-known name such as no-export\n\
         x.yaml:9: BGPFilter f: spec.rules[3].action: a rule that neither decides nor changes anything has no effect; add `set`, or make the action Accept or Reject"
    );
}

#[test]
fn a_filter_that_decides_everything_stands_last() {
    let yaml = filter("    []\n")
        + "---\n"
        + &peer_config("  families:\n    - afi: ipv4\n      import: [f, f]\n");
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:14: BGPPeerConfig tor: spec.families[0].import[0]: BGPFilter `f` decides on every route, so that the filters behind it are never reached; write `defaultAction: Next` in BGPFilter f, or put it last"
    );
}

#[test]
fn two_objects_of_one_name_name_each_other() {
    let yaml = filter("    []\n") + "---\n" + &filter("    []\n");
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:10: BGPFilter f: metadata.name: there already is one in x.yaml:3; rename or remove one of them"
    );
}

#[test]
fn a_second_instance_is_refused_by_name() {
    let yaml = cluster("    - {name: other, localASN: 0}\n");
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:8: BGPClusterConfig c: spec.bgpInstances[1]: more than one instance is not implemented in this version; keep one, and put all peers into it\n\
         x.yaml:8: BGPClusterConfig c: spec.bgpInstances[1].localASN: AS 0 is reserved (RFC 7607); write an AS number from 1 to 4294967295"
    );
}

#[test]
fn an_override_for_this_node_must_fit_its_instance() {
    let yaml = cluster(
        "      peers:\n        - {name: a, peerASN: 1, peerAddress: 10.0.0.1}\n---\n",
    ) + "apiVersion: causeway.dev/v1alpha1\nkind: BGPNodeConfigOverride\nmetadata: {name: node-1}\nspec:\n  bgpInstances:\n    - name: main\n      peers: [{name: aa}]\n    - name: mian\n";
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:17: BGPNodeConfigOverride node-1: spec.bgpInstances[0].peers[0].name: instance `main` has no peer `aa`; did you mean `a`?\n\
         x.yaml:18: BGPNodeConfigOverride node-1: spec.bgpInstances[1].name: this node has no instance `mian`; did you mean `main`?"
    );
}

#[test]
fn a_directory_that_is_not_there_says_so() {
    let errors = load(Path::new("/nonexistent/causeway"), "n").unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0]
            .to_string()
            .starts_with("/nonexistent/causeway: cannot read the directory: ")
    );
}

#[test]
fn ranges_of_pods_are_checked() {
    let yaml = "apiVersion: causeway.dev/v1alpha1\nkind: NodeConfig\nmetadata: {name: n}\nspec:\n  podCIDRs:\n    \
                - {cidr: 10.0.0.0/8, nodeMaskSize: 25}\n    - {cidr: 10.1.0.1/16, nodeMaskSize: 16}\n";
    let found = mistakes(yaml);
    for part in [
        "spec.podCIDRs[0].nodeMaskSize: 25 is no length of a block of 10.0.0.0/8; write 8 to 24",
        "spec.podCIDRs[1].cidr: there is another range of this family",
        "spec.podCIDRs[1].cidr: 10.1.0.1/16 has bits set behind its length; write 10.1.0.0/16",
    ] {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn a_limit_that_only_warns_restarts_nothing() {
    let yaml = peer_config(
        "  families:\n    - afi: ipv4\n      maxPrefixes: {limit: 5, warnOnly: true, restartAfterSeconds: 3}\n",
    );
    assert_eq!(
        mistakes(&yaml),
        "x.yaml:7: BGPPeerConfig tor: spec.families[0].maxPrefixes.warnOnly: a limit that only warns ends no session that \
         could be restarted; remove `warnOnly` or `restartAfterSeconds`"
    );
}
