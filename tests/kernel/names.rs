//! What a stranger's tool sees.

use std::process::Command;

use serde_json::Value;

use crate::rig::Rig;
use crate::world::World;

#[test]
fn bpftool_names_the_fields_of_every_table() {
    let mut rig = Rig::new();
    rig.install(&World::simple());
    for &(name, id) in rig.map_ids() {
        let output = Command::new("bpftool")
            .args(["--json", "map", "dump", "id", &id.to_string()])
            .output()
            .expect("bpftool is installed");
        assert!(
            output.status.success(),
            "bpftool can't dump {name}: {output:?}"
        );
        let dump: Value = serde_json::from_slice(&output.stdout).expect("bpftool writes JSON");
        let entry = dump
            .as_array()
            .and_then(|entries| entries.iter().find(|entry| is_used(entry)))
            .unwrap_or_else(|| panic!("{name} has an entry"));
        let formatted = &entry["formatted"];
        match name {
            "routes4" | "routes6" => {
                let bits = if name == "routes4" { 16 } else { 48 };
                assert_eq!(formatted["key"]["prefix_len"], bits, "{name}: {formatted}");
                assert!(formatted["key"]["data"].is_array(), "{name}: {formatted}");
                assert_eq!(formatted["value"], 3, "{name}: {formatted}");
            }
            "groups" => {
                assert_eq!(formatted["value"]["member_count"], 1, "{formatted}");
                let slot = &formatted["value"]["slots"][255];
                assert_eq!(slot["order"][0], 1, "{formatted}");
            }
            _ => {
                assert_eq!(formatted["value"]["ifindex"], 13, "{formatted}");
                assert_eq!(formatted["value"]["mtu"], 1500, "{formatted}");
                assert!(formatted["value"]["dst_mac"].is_array(), "{formatted}");
            }
        }
    }
}

/// Arrays are dumped with all of their slots.
fn is_used(entry: &Value) -> bool {
    match &entry["formatted"]["value"] {
        Value::Object(fields) => fields
            .values()
            .any(|field| field.as_u64().is_some_and(|value| value != 0)),
        value => value.as_u64().is_some_and(|value| value != 0),
    }
}
