//! The production object, loaded and filled.

use std::path::PathBuf;
use std::process::Command;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::xdp::DevMap;
use aya::maps::{Array, LpmTrie, Map, MapData, PerCpuArray};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use bytemuck::{NoUninit, bytes_of};
use causeway_maps::{Config, Group, Hook, NextHop, Port, Reason};

use crate::world::{TX_PORTS, World};

/// Room for what comes out: more than the kernel gives a linear frame.
const OUT_BYTES: usize = 4096;

/// A loaded program with its maps, in a network namespace that lives as long as the thread.
pub(crate) struct Rig {
    ebpf: Ebpf,
    config: Array<MapData, [u8; size_of::<Config>()]>,
    ports: Array<MapData, [u8; size_of::<Port>()]>,
    routes4: LpmTrie<MapData, [u8; 4], u32>,
    routes6: LpmTrie<MapData, [u8; 16], u32>,
    groups: Array<MapData, [u8; size_of::<Group>()]>,
    next_hops: Array<MapData, [u8; size_of::<NextHop>()]>,
    liveness: Array<MapData, [u8; 4]>,
    counters: PerCpuArray<MapData, [u64; 2]>,
    installed: Option<World>,
    map_ids: Vec<(&'static str, u32)>,
}

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `XDP_*`.
    pub(crate) action: u32,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
}

impl Rig {
    /// Loads the object.
    ///
    /// # Panics
    ///
    /// With one sentence on how to go on when we are not root or there is no object.
    pub(crate) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "kernel tests load eBPF programs and need root: run `cargo xtask test kernel` as root"
        );
        let path = object_path();
        let object = std::fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "cannot read {}: {error}; `cargo xtask build-ebpf` makes it",
                path.display()
            )
        });
        make_interfaces();
        let mut ebpf = Ebpf::load(&object).expect("the object's maps can be made");
        let program: &mut Xdp = ebpf
            .program_mut("causeway_xdp")
            .expect("the object has the program")
            .try_into()
            .expect("it is an XDP program");
        program.load().expect("the verifier accepts the program");
        let map_ids = ["routes4", "routes6", "groups", "next_hops"]
            .map(|name| (name, map_id(&ebpf, name)))
            .into();
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .unwrap_or_else(|| panic!("the object has map {name}"))
        };
        let mut tx_ports = DevMap::try_from(take("tx_ports")).expect("tx_ports is a device map");
        for &ifindex in TX_PORTS {
            tx_ports
                .set(ifindex, ifindex, None, 0)
                .expect("the interface exists");
        }
        Self {
            config: take("config").try_into().expect("config has its layout"),
            ports: take("ports").try_into().expect("ports has its layout"),
            routes4: take("routes4").try_into().expect("routes4 has its layout"),
            routes6: take("routes6").try_into().expect("routes6 has its layout"),
            groups: take("groups").try_into().expect("groups has its layout"),
            next_hops: take("next_hops")
                .try_into()
                .expect("next_hops has its layout"),
            liveness: take("liveness")
                .try_into()
                .expect("liveness has its layout"),
            counters: take("counters")
                .try_into()
                .expect("counters has its layout"),
            ebpf,
            installed: None,
            map_ids,
        }
    }

    /// Makes the maps hold `world` and nothing else.
    pub(crate) fn install(&mut self, world: &World) {
        if let Some(old) = self.installed.take() {
            for &(addr, len) in old.routes4.keys() {
                self.routes4
                    .remove(&Key::new(len.into(), addr))
                    .expect("it is there");
            }
            for &(addr, len) in old.routes6.keys() {
                self.routes6
                    .remove(&Key::new(len.into(), addr))
                    .expect("it is there");
            }
            old.ports.keys().for_each(|&id| erase(&mut self.ports, id));
            old.groups
                .keys()
                .for_each(|&id| erase(&mut self.groups, id));
            old.next_hops
                .keys()
                .for_each(|&id| erase(&mut self.next_hops, id));
            old.liveness
                .keys()
                .for_each(|&id| erase(&mut self.liveness, id));
        }
        for (&(addr, len), id) in &world.routes4 {
            self.routes4
                .insert(&Key::new(len.into(), addr), id, 0)
                .expect("it fits");
        }
        for (&(addr, len), id) in &world.routes6 {
            self.routes6
                .insert(&Key::new(len.into(), addr), id, 0)
                .expect("it fits");
        }
        write(&mut self.config, 0, &world.config);
        world
            .ports
            .iter()
            .for_each(|(&id, value)| write(&mut self.ports, id, value));
        world
            .groups
            .iter()
            .for_each(|(&id, value)| write(&mut self.groups, id, value));
        for (&id, value) in &world.next_hops {
            write(&mut self.next_hops, id, value);
        }
        for (&id, value) in &world.liveness {
            write(&mut self.liveness, id, value);
        }
        self.installed = Some(world.clone());
    }

    /// Gives the program a frame that came in on `ingress`.
    pub(crate) fn run(&self, ingress: u32, frame: &[u8]) -> Outcome {
        let mut out = vec![0; OUT_BYTES];
        let result = self
            .program()
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(&context(ingress, frame.len())),
                ..TestRunOptions::default()
            })
            .expect("the kernel runs the program");
        out.truncate(result.data_size_out as usize);
        Outcome {
            action: result.return_value,
            frame: out,
        }
    }

    /// Packets and bytes counted so far, over all CPUs.
    pub(crate) fn counted(&self, reason: Reason) -> [u64; 2] {
        self.counters
            .get(&Hook::Xdp.slot(reason), 0)
            .expect("every reason has a counter")
            .iter()
            .fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    }

    /// [`Self::counted`] for every reason.
    pub(crate) fn all_counted(&self) -> Vec<[u64; 2]> {
        Reason::ALL
            .iter()
            .map(|&reason| self.counted(reason))
            .collect()
    }

    /// Names and ids of the maps that bpftool is asked about.
    pub(crate) fn map_ids(&self) -> &[(&'static str, u32)] {
        &self.map_ids
    }

    fn program(&self) -> &Xdp {
        self.ebpf
            .program("causeway_xdp")
            .and_then(|program| program.try_into().ok())
            .expect("it was loaded")
    }
}

fn map_id(ebpf: &Ebpf, name: &str) -> u32 {
    match ebpf.map(name) {
        Some(Map::LpmTrie(data) | Map::Array(data)) => {
            data.info().expect("a map has information").id()
        }
        other => panic!("{name} is a table, not {other:?}"),
    }
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(ingress: u32, len: usize) -> [u8; 24] {
    bytemuck::cast([0, len as u32, 0, ingress, 0, 0_u32])
}

fn erase<const N: usize>(map: &mut Array<MapData, [u8; N]>, id: u32) {
    if id < map.len() {
        map.set(id, [0; N], 0).expect("the slot exists");
    }
}

fn write<T: NoUninit, const N: usize>(map: &mut Array<MapData, [u8; N]>, id: u32, value: &T) {
    if id < map.len() {
        let bytes: [u8; N] = bytes_of(value).try_into().expect("the sizes agree");
        map.set(id, bytes, 0).expect("the slot exists");
    }
}

fn object_path() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.join("../target/ebpf/causeway.o")
}

/// Puts this thread into a network namespace with the interfaces 11 to 16. It ends with the thread.
fn make_interfaces() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root makes namespaces");
    for first in [11, 13, 15] {
        let second = first + 1;
        let (name, peer) = (format!("cw-{first}"), format!("cw-{second}"));
        let status = Command::new("ip")
            .args([
                "link",
                "add",
                &name,
                "index",
                &first.to_string(),
                "type",
                "veth",
            ])
            .args(["peer", "name", &peer, "index", &second.to_string()])
            .status()
            .expect("ip (package iproute2) is installed");
        assert!(status.success(), "`ip link add {name}` failed");
    }
}
