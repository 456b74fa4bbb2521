//! The datapath crate against the real kernel: pins, layouts, batches, links.
//!
//! `plan`: what the planner wants, in the maps.

mod plan;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytemuck::Zeroable;
use causeway_datapath::{
    AttachMode, Datapath, Error, LoadOptions, OBJECT, TcHook, TcProgram, XdpMode,
};
use causeway_maps::catalogue::{ALL, LAYOUT, MAX_IFINDEX, NEXT_HOPS, ROUTES4};
use causeway_maps::{
    Flat4Block, Flat4Root, Group, GroupId, Hook, NextHop, NextHopId, Reason, RouteKey4, RouteKey6,
};
use causeway_plan::{Dump, Op};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use support::Lab;

/// Calls `work` in a node with two interfaces joined to each other, with a BPF file system that nobody else sees.
fn on_a_host(work: impl FnOnce(&Path) -> Result<()> + Send) {
    Lab::test(|lab| {
        let host = lab.node("host")?;
        host.link("up0", &host, "up1")?;
        let bpffs = host.dir().join("bpf");
        std::fs::create_dir_all(&bpffs)?;
        host.enter(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), none)
                .context("cannot mount a BPF file system")?;
            work(&bpffs)
        })?
    });
}

fn options(bpffs: &Path) -> LoadOptions<'static> {
    LoadOptions {
        pin_dir: bpffs.join("causeway"),
        object: OBJECT.into(),
    }
}

fn ifindex(interface: &str) -> Result<u32> {
    Ok(nix::net::if_::if_nametoindex(interface)?)
}

fn route4(n: u32) -> (RouteKey4, GroupId) {
    (
        RouteKey4 {
            prefix_len: 32,
            addr: (0x0a00_0000 + n).to_be_bytes(),
        },
        GroupId(2 + n % 7),
    )
}

fn route6(n: u128) -> (RouteKey6, GroupId) {
    let addr = (0x2001_0db8 << 96) + (n << 64);
    (
        RouteKey6 {
            prefix_len: 64,
            addr: addr.to_be_bytes(),
        },
        GroupId(2),
    )
}

/// One of each kind of entry.
fn some_of_everything() -> Vec<Op> {
    let mut group = Group::EMPTY;
    group.member_count = 1;
    group.slots.iter_mut().for_each(|slot| slot.order[0] = 5);
    let next_hop = NextHop {
        ifindex: 1,
        tx_ifindex: 1,
        mtu: 1500,
        flags: 1,
        dst_mac: [1; 6],
        src_mac: [2; 6],
        vlan: 0,
        reserved: 0,
        addr: [0; 16],
    };
    vec![
        Op::PutNextHop(NextHopId(5), next_hop),
        Op::PutGroup(GroupId(2), Box::new(group)),
        Op::PutRoutes4(vec![route4(1), route4(2)]),
        Op::PutRoutes6(vec![route6(1)]),
    ]
}

/// A process that wrote [`some_of_everything`] and has ended.
fn leave_everything(options: &LoadOptions<'_>) -> Result<()> {
    let mut datapath = Datapath::load(options)?;
    for op in &some_of_everything() {
        datapath.apply(op)?;
    }
    Ok(datapath.commit()?)
}

#[test]
fn entries_and_programs_outlive_the_process_and_are_replaced_in_place() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        let up0 = ifindex("up0")?;
        let mut first = Datapath::load(&options)?;
        ensure!(
            first.recreated().is_empty(),
            "nothing was there to be recreated"
        );
        let attachment = first.attach("up0", up0, AttachMode::Native)?;
        ensure!(attachment.mode == XdpMode::Native && !attachment.replaced);
        for op in &some_of_everything() {
            first.apply(op)?;
        }
        let before = first.dump()?;
        ensure!(before.routes4.len() == 2 && before.routes6.len() == 1 && before.groups.len() == 1);
        drop(first);

        let mut second = Datapath::load(&options)?;
        ensure!(
            second.recreated().is_empty(),
            "the same layout was recreated"
        );
        ensure!(second.dump()? == before, "entries were lost");
        ensure!(
            second.attached()? == [(up0, XdpMode::Native)],
            "the program was detached"
        );
        let attachment = second.attach("up0", up0, AttachMode::Auto)?;
        ensure!(
            attachment.replaced,
            "the program was attached a second time"
        );
        second.detach(up0)?;
        ensure!(second.attached()?.is_empty());

        let pins = second.pin_dir().to_owned();
        second.unload()?;
        ensure!(!pins.exists(), "pins are left");
        Ok(())
    });
}

#[test]
fn applying_twice_is_the_same_as_once_and_removal_leaves_nothing() {
    on_a_host(|bpffs| {
        let mut datapath = Datapath::load(&options(bpffs))?;
        for op in some_of_everything().iter().chain(&some_of_everything()) {
            datapath.apply(op)?;
        }
        let lo = ifindex("lo")?;
        datapath.apply(&Op::PutTxPort(lo))?;
        ensure!(datapath.dump()?.tx_ports == [lo]);
        let removals = [
            Op::DeleteRoutes4(vec![route4(1).0, route4(2).0, route4(3).0]),
            Op::DeleteRoutes6(vec![route6(1).0]),
            Op::ClearGroup(GroupId(2)),
            Op::ClearNextHop(NextHopId(5)),
            Op::ClearTxPort(lo),
        ];
        for op in removals.iter().chain(&removals) {
            datapath.apply(op)?;
        }
        ensure!(datapath.dump()? == Dump::default());
        Ok(())
    });
}

#[test]
fn a_hundred_thousand_routes_arrive_whole_in_both_families() {
    on_a_host(|bpffs| {
        let mut datapath = Datapath::load(&options(bpffs))?;
        let routes4: Vec<_> = (0..100_000).map(route4).collect();
        let routes6: Vec<_> = (0..100_000).map(route6).collect();
        datapath.apply(&Op::PutRoutes4(routes4.clone()))?;
        datapath.apply(&Op::PutRoutes6(routes6.clone()))?;
        let dump = datapath.dump()?;
        ensure!(dump.routes4 == routes4.iter().copied().collect());
        ensure!(dump.routes6 == routes6.iter().copied().collect());
        // Every other one, among them some that never were there.
        let odd = (1..120_000).step_by(2).map(|n| route4(n).0).collect();
        datapath.apply(&Op::DeleteRoutes4(odd))?;
        let even = routes4.iter().copied().step_by(2).collect();
        ensure!(datapath.dump()?.routes4 == even);
        Ok(())
    });
}

#[test]
fn an_entry_that_the_kernel_refuses_is_named_and_the_others_are_written() {
    on_a_host(|bpffs| {
        let mut datapath = Datapath::load(&options(bpffs))?;
        let impossible = RouteKey4 {
            prefix_len: 33,
            addr: [10, 9, 9, 9],
        };
        let routes = vec![route4(1), (impossible, GroupId(2)), route4(2)];
        let error = datapath.apply(&Op::PutRoutes4(routes)).unwrap_err();
        ensure!(
            error.map == "routes4" && error.failures.len() == 1,
            "{error}"
        );
        ensure!(error.failures[0].key == bytemuck::bytes_of(&impossible));
        ensure!(datapath.dump()?.routes4.len() == 2);

        let beyond = NextHopId(NEXT_HOPS.max_entries);
        let error = datapath
            .apply(&Op::PutNextHop(beyond, NextHop::zeroed()))
            .unwrap_err();
        ensure!(error.failures[0].is_full(), "{error}");
        Ok(())
    });
}

/// Records a layout hash for a pinned map, as a release of another time would have left it.
fn label(options: &LoadOptions<'_>, map: &str, hash: u64) -> Result<()> {
    let show = std::process::Command::new("bpftool")
        .args(["-j", "map", "show", "pinned"])
        .arg(options.pin_dir.join(map))
        .output()?;
    let facts: serde_json::Value = serde_json::from_slice(&show.stdout)?;
    let id = u32::try_from(facts["id"].as_u64().context("no id")?)?;
    let bytes = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    let (key, value) = (bytes(&id.to_ne_bytes()), bytes(&hash.to_ne_bytes()));
    let words = [vec!["key".into()], key, vec!["value".into()], value].concat();
    let layout = options.pin_dir.join(LAYOUT.name);
    bpftool(&["map", "update", "pinned"], &layout, &words)
}

/// The hash of a layout that nobody knows.
const UNKNOWN: u64 = 1;

#[test]
fn a_map_of_an_unknown_layout_is_made_anew_with_those_it_is_bound_to() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        leave_everything(&options)?;
        // `groups` names next hops by id, and routes name groups: ids of two makings would mix.
        label(&options, "groups", UNKNOWN)?;
        let datapath = Datapath::load(&options)?;
        let recreated = datapath.recreated();
        let named = |map| recreated.iter().any(|other| other.map == map);
        ensure!(
            ["groups", "routes4", "routes6", "next_hops", "pods4"].map(named) == [true; 5],
            "{recreated:?}"
        );
        ensure!(!named("counters"), "{recreated:?}");
        let dump = datapath.dump()?;
        ensure!(dump.groups.is_empty() && dump.routes4.is_empty() && dump.next_hops.is_empty());
        ensure!(!datapath.incomplete(), "there is no program to wait for");
        Ok(())
    });
}

#[test]
fn an_upgrade_that_is_not_completed_leaves_programs_and_maps_as_they_were() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        let up0 = ifindex("up0")?;
        let mut datapath = Datapath::load(&options)?;
        datapath.attach("up0", up0, AttachMode::Native)?;
        for op in &some_of_everything() {
            datapath.apply(op)?;
        }
        datapath.commit()?;
        let before = datapath.dump()?;
        drop(datapath);
        label(&options, "groups", UNKNOWN)?;

        // Killed before its maps were complete, twice.
        for _ in 0..2 {
            let datapath = Datapath::load(&options)?;
            ensure!(datapath.incomplete(), "programs of before are at work");
            ensure!(datapath.dump()?.routes4.is_empty());
        }
        let pinned = Datapath::pinned_entries(&options.pin_dir, "routes4")?;
        ensure!(
            pinned == 2,
            "{pinned} of the routes that the old programs use"
        );

        let mut datapath = Datapath::load(&options)?;
        for op in &some_of_everything() {
            datapath.apply(op)?;
        }
        datapath.completed();
        ensure!(datapath.attach("up0", up0, AttachMode::Auto)?.replaced);
        datapath.commit()?;
        drop(datapath);
        let datapath = Datapath::load(&options)?;
        ensure!(
            datapath.recreated().is_empty(),
            "{:?}",
            datapath.recreated()
        );
        ensure!(datapath.dump()? == before);
        Ok(())
    });
}

/// Some maps have taken their places and some have not: each is still known for what it is.
#[test]
fn a_process_that_dies_between_two_renames_leaves_maps_that_its_successor_understands() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        let mut datapath = Datapath::load(&options)?;
        datapath.attach("up0", ifindex("up0")?, AttachMode::Native)?;
        datapath.commit()?;
        drop(datapath);
        label(&options, "groups", UNKNOWN)?;
        label(&options, "counters", UNKNOWN)?;
        drop(Datapath::load(&options)?);
        for map in ["counters", "groups"] {
            let next = options.pin_dir.join("next").join(map);
            std::fs::rename(&next, options.pin_dir.join(map))?;
            let datapath = Datapath::load(&options)?;
            let misfits = datapath.recreated().iter();
            let misfits: Vec<_> = misfits
                .filter(|other| other.reason.contains("layout"))
                .map(|other| other.map)
                .collect();
            let left: &[&str] = if map == "counters" { &["groups"] } else { &[] };
            ensure!(misfits == left, "after {map}: {:?}", datapath.recreated());
        }
        Ok(())
    });
}

/// What is known of maps that are gone is forgotten: a daemon may fail a hundred times before it succeeds.
#[test]
fn an_upgrade_may_fail_any_number_of_times() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        let mut datapath = Datapath::load(&options)?;
        datapath.attach("up0", ifindex("up0")?, AttachMode::Native)?;
        drop(datapath);
        label(&options, "groups", UNKNOWN)?;
        for _ in 0..12 {
            ensure!(Datapath::load(&options)?.incomplete());
        }
        let layouts = Datapath::pinned_entries(&options.pin_dir, LAYOUT.name)?;
        ensure!(layouts <= 2 * ALL.len(), "{layouts}");
        Ok(())
    });
}

#[test]
fn a_map_of_another_capacity_gives_its_entries_to_the_new_one() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        leave_everything(&options)?;
        let routes4 = options.pin_dir.join("routes4");
        std::fs::remove_file(&routes4)?;
        let words = [
            "type", "lpm_trie", "key", "8", "value", "4", "entries", "16", "name", "routes4",
            "flags", "1",
        ];
        bpftool(&["map", "create"], &routes4, &words.map(String::from))?;
        let bytes = "key 32 0 0 0 10 0 0 1 value 3 0 0 0";
        let words: Vec<String> = bytes.split(' ').map(String::from).collect();
        bpftool(&["map", "update", "pinned"], &routes4, &words)?;
        label(&options, "routes4", ROUTES4.layout_hash)?;

        let datapath = Datapath::load(&options)?;
        let [recreated] = datapath.recreated() else {
            anyhow::bail!("{:?}", datapath.recreated());
        };
        ensure!(
            recreated.map == "routes4" && recreated.migrated == Some(1),
            "{recreated:?}"
        );
        ensure!(recreated.reason.contains("capacity"), "{recreated:?}");
        let dump = datapath.dump()?;
        let (key, _) = route4(1);
        ensure!(
            dump.routes4.get(&key) == Some(&GroupId(3)),
            "{:?}",
            dump.routes4
        );
        ensure!(dump.groups.len() == 1 && dump.next_hops.len() == 1);
        Ok(())
    });
}

#[test]
fn tc_programs_are_replaced_in_place_and_go_with_the_rest_by_either_way() {
    let hooks = match std::env::var_os("CAUSEWAY_VM") {
        // Before Linux 6.6 there is no TCX.
        Some(_) => &[TcHook::Clsact][..],
        None => &[TcHook::Tcx, TcHook::Clsact],
    };
    for &hook in hooks {
        on_a_host(move |bpffs| {
            let options = options(bpffs);
            let up0 = ifindex("up0")?;
            for _ in 0..2 {
                let mut datapath = Datapath::load(&options)?;
                datapath.set_tc_hook(hook);
                datapath.attach_tc("up0", up0, TcProgram::Uplink)?;
                datapath.attach_tc("up1", ifindex("up1")?, TcProgram::Pod)?;
                let there = tc_programs(&options.pin_dir, "up0")?;
                ensure!(there == 1, "{hook:?}: {there} programs");
            }
            ensure!(
                tc_programs(&options.pin_dir, "up0")? == 1,
                "{hook:?}: it went with the process"
            );
            let mut datapath = Datapath::load(&options)?;
            datapath.set_tc_hook(hook);
            datapath.detach_tc(up0)?;
            datapath.detach_tc(up0)?;
            ensure!(
                tc_programs(&options.pin_dir, "up0")? == 0,
                "{hook:?}: it stays after a detach"
            );
            ensure!(tc_programs(&options.pin_dir, "up1")? == 1);
            datapath.unload()?;
            ensure!(
                tc_programs(&options.pin_dir, "up1")? == 0,
                "{hook:?}: it stays"
            );
            Ok(())
        });
    }
}

/// TC programs on an interface: pinned links, of which bpftool before 7.3 knows nothing, and filters.
fn tc_programs(pin_dir: &Path, interface: &str) -> Result<usize> {
    let pin = pin_dir.join(format!("links/tc-{}", ifindex(interface)?));
    let output = std::process::Command::new("tc")
        .args(["filter", "show", "dev", interface, "ingress"])
        .output()?;
    let filters = String::from_utf8(output.stdout)?;
    Ok(usize::from(pin.exists()) + filters.matches("direct-action").count())
}

#[test]
fn flat_tables_are_made_written_and_dropped() {
    on_a_host(|bpffs| {
        let mut datapath = Datapath::load(&options(bpffs))?;
        datapath.commit()?;
        let row = |group| {
            Box::new(Flat4Block {
                groups: [group; 256],
            })
        };
        let rows = vec![([10, 3], row(7)), ([10, 4], row(8)), ([11, 0], row(9))];
        let root = Flat4Root { mode: 2, group: 5 };
        let ops = [
            Op::PutFlat4Rows(rows.clone()),
            Op::PutFlat4Roots(vec![(10, root)]),
            Op::PutPods4(vec![(0, GroupId(3)), (65_535, GroupId(4))]),
            Op::PutPods6(vec![(1, GroupId(3))]),
        ];
        for op in ops.iter().chain(&ops) {
            datapath.apply(op)?;
        }
        let mut wanted = Dump::default();
        ops.iter().for_each(|op| wanted.apply(op));
        let dump = datapath.dump()?;
        ensure!(dump.flat4 == wanted.flat4 && dump.flat4_roots == wanted.flat4_roots);
        ensure!(dump.pods4 == wanted.pods4 && dump.pods6 == wanted.pods6);
        datapath.apply(&Op::DropFlat4(10))?;
        datapath.apply(&Op::DropFlat4(10))?;
        ensure!(datapath.dump()?.flat4.keys().all(|[octet, _]| *octet == 11));
        datapath.set_liveness(NextHopId(7), 2)?;
        ensure!(datapath.dead()? == [(NextHopId(7), 2)]);
        Ok(())
    });
}

fn bpftool(verb: &[&str], path: &Path, words: &[String]) -> Result<()> {
    let output = std::process::Command::new("bpftool")
        .args(verb)
        .arg(path)
        .args(words)
        .output()
        .context("bpftool does not start; `cargo xtask setup` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bpftool {verb:?}: {said}");
    Ok(())
}

#[test]
fn a_second_process_is_told_that_the_pins_are_in_use() {
    on_a_host(|bpffs| {
        let options = options(bpffs);
        let _first = Datapath::load(&options)?;
        let error = Datapath::load(&options).unwrap_err();
        ensure!(matches!(error, Error::InUse { .. }), "{error}");
        ensure!(error.to_string().contains("--bpffs"), "{error}");
        Ok(())
    });
}

#[test]
fn a_failed_attach_is_one_sentence_that_names_the_interface() {
    on_a_host(|bpffs| {
        let mut datapath = Datapath::load(&options(bpffs))?;
        let gone = datapath
            .attach("gone0", 4_000, AttachMode::Auto)
            .unwrap_err();
        ensure!(matches!(gone, Error::NoInterface { .. }), "{gone}");
        ensure!(gone.to_string().contains("gone0"), "{gone}");
        let large = datapath
            .attach("late0", MAX_IFINDEX, AttachMode::Auto)
            .unwrap_err();
        ensure!(matches!(large, Error::IfindexTooLarge { .. }), "{large}");

        let mut other = Datapath::load(&LoadOptions {
            pin_dir: bpffs.join("another"),
            ..options(bpffs)
        })?;
        let up0 = ifindex("up0")?;
        other.attach("up0", up0, AttachMode::Auto)?;
        let occupied = datapath.attach("up0", up0, AttachMode::Auto).unwrap_err();
        ensure!(matches!(occupied, Error::Occupied { .. }), "{occupied}");
        ensure!(occupied.to_string().contains("xdp off"), "{occupied}");
        Ok(())
    });
}

#[test]
fn what_cannot_be_loaded_says_what_to_do() {
    on_a_host(|bpffs| {
        ensure!(!OBJECT.is_empty(), "{}", Error::NoObject);
        let elsewhere = LoadOptions {
            pin_dir: PathBuf::from("/proc/pins"),
            ..options(bpffs)
        };
        let error = Datapath::load(&elsewhere).unwrap_err();
        ensure!(matches!(error, Error::NotBpffs { .. }), "{error}");
        let empty = LoadOptions {
            object: Vec::new().into(),
            ..options(bpffs)
        };
        let error = Datapath::load(&empty).unwrap_err();
        ensure!(
            error.to_string().contains("cargo xtask build-ebpf"),
            "{error}"
        );
        let garbage = LoadOptions {
            object: vec![0; 64].into(),
            ..options(bpffs)
        };
        let error = Datapath::load(&garbage).unwrap_err();
        ensure!(matches!(error, Error::Load(_)), "{error}");
        // None of them left anything in the way.
        Datapath::load(&options(bpffs))?;
        Ok(())
    });
}

#[test]
fn counters_begin_at_zero_and_name_every_hook_and_reason() {
    on_a_host(|bpffs| {
        let datapath = Datapath::load(&options(bpffs))?;
        let counters = datapath.counters()?;
        ensure!(counters.len() == Hook::ALL.len() * Reason::ALL.len());
        ensure!(
            counters
                .iter()
                .all(|(_, _, counter)| counter.packets == 0 && counter.bytes == 0)
        );
        Ok(())
    });
}
