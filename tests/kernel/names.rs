//! What a stranger's tool sees.

use std::process::Command;

use serde_json::Value;

use crate::rig::Rig;
use crate::world::{GROUP, NEXT_HOP, World};

#[test]
fn bpftool_names_the_fields_of_every_table() {
    let mut rig = Rig::new();
    rig.install(&World::simple());
    for &(name, id) in rig.map_ids() {
        let entry = match name {
            "groups" => entry_of(id, Some(GROUP)),
            "next_hops" => entry_of(id, Some(NEXT_HOP.into())),
            _ => entry_of(id, None),
        };
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

/// The entry of an array at `index`, or the only one of a trie. Arrays are not dumped: as JSON the groups alone are more
/// than a small machine holds.
fn entry_of(id: u32, index: Option<u32>) -> Value {
    let mut command = Command::new("bpftool");
    command.args(["--json", "map"]);
    match index {
        Some(index) => {
            command.args(["lookup", "id", &id.to_string(), "key"]);
            command.args(index.to_ne_bytes().map(|byte| byte.to_string()));
        }
        None => {
            command.args(["dump", "id", &id.to_string()]);
        }
    }
    let output = command.output().expect("bpftool is installed");
    assert!(output.status.success(), "bpftool: {output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("bpftool writes JSON");
    match answer {
        Value::Array(mut entries) => entries.pop().expect("the trie has an entry"),
        entry => entry,
    }
}
