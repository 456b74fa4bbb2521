//! The production object, loaded and filled.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Command;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::of_maps::ArrayOfMaps;
use aya::maps::xdp::DevMap;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray};
use aya::programs::{
    SchedClassifier, TcAttachType, TestRun, TestRunOptions, TestRunResult, Xdp, tc, xdp::XdpMode,
};
use bytemuck::{NoUninit, bytes_of};
use causeway_maps::catalogue::OCTETS;
use causeway_maps::{Config, Flat4Block, Flat4Root, Group, Hook, NextHop, Port, Reason, VlanKey};

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
    pods4: Array<MapData, [u8; 4]>,
    pods6: Array<MapData, [u8; 4]>,
    flat4_roots: Array<MapData, [u8; size_of::<Flat4Root>()]>,
    flat4: MapData,
    vlans: HashMap<MapData, [u8; size_of::<VlanKey>()], u32>,
    counters: PerCpuArray<MapData, [u64; 2]>,
    installed: Option<World>,
    map_ids: Vec<(&'static str, u32)>,
}

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `XDP_*` or `TC_ACT_*`.
    pub(crate) action: u32,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
}

impl Rig {
    /// Loads the object in a network namespace with the interfaces of [`crate::world`].
    pub(crate) fn new() -> Self {
        make_interfaces();
        Self::here(TX_PORTS)
    }

    /// Loads the object in the network namespace of this thread, with these redirect targets.
    ///
    /// # Panics
    ///
    /// With one sentence on how to go on when we are not root or there is no object.
    pub(crate) fn here(redirect_targets: &[u32]) -> Self {
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
        let mut ebpf = Ebpf::load(&object).expect("the object's maps can be made");
        for name in ["causeway_tc_uplink", "causeway_tc_pod"] {
            let program: &mut SchedClassifier = ebpf
                .program_mut(name)
                .expect("the object has the program")
                .try_into()
                .expect("it is a classifier");
            program.load().expect("the verifier accepts the program");
        }
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
        for &ifindex in redirect_targets {
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
            pods4: take("pods4").try_into().expect("pods4 has its layout"),
            pods6: take("pods6").try_into().expect("pods6 has its layout"),
            flat4_roots: take("flat4_roots")
                .try_into()
                .expect("flat4_roots has its layout"),
            flat4: match take("flat4") {
                Map::ArrayOfMaps(data) => data,
                other => panic!("flat4 is an array of maps, not {other:?}"),
            },
            vlans: take("vlans").try_into().expect("vlans has its layout"),
            counters: take("counters")
                .try_into()
                .expect("counters has its layout"),
            ebpf,
            installed: None,
            map_ids,
        }
    }

    /// Attaches a TC program to an interface, until this is dropped.
    pub(crate) fn attach_tc(&mut self, hook: Hook, interface: &str) {
        // Where there is no TCX. It may be there already; if it can't be made, attaching says so.
        let _ = tc::qdisc_add_clsact(interface);
        let program: &mut SchedClassifier = self
            .ebpf
            .program_mut(&format!("causeway_{}", hook.name()))
            .and_then(|program| program.try_into().ok())
            .expect("it was loaded");
        program
            .attach(interface, TcAttachType::Ingress)
            .expect("the interface takes a program");
    }

    /// Attaches XDP to an interface, until this is dropped.
    pub(crate) fn attach_xdp(&mut self, interface: &str) {
        let program: &mut Xdp = self
            .ebpf
            .program_mut("causeway_xdp")
            .and_then(|program| program.try_into().ok())
            .expect("it was loaded");
        program
            .attach(interface, XdpMode::Driver)
            .expect("the interface takes a program");
    }

    /// Counters that are not 0, by hook and reason, for a message.
    pub(crate) fn named_counters(&self) -> Vec<(Hook, Reason, u64)> {
        Hook::ALL
            .iter()
            .flat_map(|&hook| Reason::ALL.iter().map(move |&reason| (hook, reason)))
            .map(|(hook, reason)| (hook, reason, self.counted(hook, reason)[0]))
            .filter(|(.., packets)| *packets > 0)
            .collect()
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
            old.pods4.keys().for_each(|&id| erase(&mut self.pods4, id));
            old.pods6.keys().for_each(|&id| erase(&mut self.pods6, id));
            for &octet in old.flat4_roots.keys() {
                erase(&mut self.flat4_roots, octet.into());
            }
            for &octet in old.flat4.keys() {
                self.remove_table(octet);
            }
            for &tag in old.vlans.keys() {
                self.vlans.remove(&vlan_key(tag)).expect("it is there");
            }
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
        for (&id, value) in &world.pods4 {
            write(&mut self.pods4, id, value);
        }
        for (&id, value) in &world.pods6 {
            write(&mut self.pods6, id, value);
        }
        for (&octet, value) in &world.flat4_roots {
            write(&mut self.flat4_roots, octet.into(), value);
        }
        for (&octet, table) in &world.flat4 {
            self.add_table(octet, table);
        }
        for (&tag, ifindex) in &world.vlans {
            self.vlans
                .insert(vlan_key(tag), ifindex, 0)
                .expect("it fits");
        }
        for (&id, value) in &world.liveness {
            write(&mut self.liveness, id, value);
        }
        self.installed = Some(world.clone());
    }

    fn add_table(&mut self, octet: u8, groups: &BTreeMap<(u8, u8), u32>) {
        let mut table: Array<MapData, [u8; size_of::<Flat4Block>()]> =
            Array::create(OCTETS, 0).expect("a table can be made");
        let mut blocks: BTreeMap<u8, Flat4Block> = BTreeMap::new();
        for (&(second, third), &group) in groups {
            let block = blocks
                .entry(second)
                .or_insert(Flat4Block { groups: [0; 256] });
            block.groups[usize::from(third)] = group;
        }
        for (second, block) in blocks {
            write(&mut table, second.into(), &block);
        }
        let mut tables = ArrayOfMaps::<_, Array<MapData, [u8; size_of::<Flat4Block>()]>>::try_from(
            Map::ArrayOfMaps(self.flat4_again()),
        )
        .expect("flat4 is an array of maps");
        tables
            .set(octet.into(), &table, 0)
            .expect("the table is as those of flat4");
    }

    /// The same map by another descriptor.
    fn flat4_again(&self) -> MapData {
        let id = self.flat4.info().expect("a map has information").id();
        MapData::from_id(id).expect("it is there")
    }

    /// Empties the slot, which aya has no call for.
    fn remove_table(&mut self, octet: u8) {
        const BPF_MAP_DELETE_ELEM: i32 = 3;
        let key = u32::from(octet);
        let attributes = [
            self.flat4.fd().as_fd().as_raw_fd() as u64,
            &raw const key as u64,
        ];
        // SAFETY: the attributes of this command are a descriptor and the address of a key of four bytes.
        let result = unsafe {
            nix::libc::syscall(
                nix::libc::SYS_bpf,
                BPF_MAP_DELETE_ELEM,
                &raw const attributes,
                size_of_val(&attributes),
            )
        };
        assert_eq!(result, 0, "a slot can be emptied");
    }

    /// Gives the XDP program a frame that came in on `ingress`.
    pub(crate) fn run(&self, ingress: u32, frame: &[u8]) -> Outcome {
        self.run_behind(ingress, frame, 0)
    }

    /// [`Self::run`] with `meta` bytes of metadata in front of the frame, a multiple of 4; they take its headroom.
    pub(crate) fn run_behind(&self, ingress: u32, frame: &[u8], meta: usize) -> Outcome {
        let program: &Xdp = self
            .ebpf
            .program("causeway_xdp")
            .and_then(|program| program.try_into().ok())
            .expect("it was loaded");
        let mut data = vec![0; meta];
        data.extend(frame);
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [meta as u32, data.len() as u32, 0, ingress, 0, 0];
        let mut outcome = test_run(program, &data, &context);
        outcome.frame.drain(..meta);
        outcome
    }

    /// Gives a TC program a packet that came in on `ingress`, and that is to be cut into segments with `segment_size`
    /// bytes of payload unless this is 0.
    pub(crate) fn run_tc(
        &self,
        hook: Hook,
        ingress: u32,
        frame: &[u8],
        segment_size: u32,
    ) -> Outcome {
        let name = format!("causeway_{}", hook.name());
        let program: &SchedClassifier = self
            .ebpf
            .program(&name)
            .and_then(|program| program.try_into().ok())
            .expect("it was loaded");
        // `struct __sk_buff` in words.
        let mut context = [0_u32; 48];
        context[10] = ingress;
        context[44] = segment_size;
        test_run(program, frame, &context)
    }

    /// Packets and bytes counted so far at a hook, over all CPUs.
    pub(crate) fn counted(&self, hook: Hook, reason: Reason) -> [u64; 2] {
        self.counters
            .get(&hook.slot(reason), 0)
            .expect("every reason has a counter")
            .iter()
            .fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    }

    /// [`Self::counted`] for every hook and reason, in the order of their slots.
    pub(crate) fn all_counted(&self) -> Vec<[u64; 2]> {
        let slots = Hook::ALL
            .iter()
            .flat_map(|&hook| Reason::ALL.iter().map(move |&reason| (hook, reason)));
        slots
            .map(|(hook, reason)| self.counted(hook, reason))
            .collect()
    }

    /// Names and ids of the maps that bpftool is asked about.
    pub(crate) fn map_ids(&self) -> &[(&'static str, u32)] {
        &self.map_ids
    }
}

/// Bytes of metadata that the kernel takes in front of a frame: Debian 12's, in the machine of the `vm` suite, takes fewer.
pub(crate) fn longest_metadata() -> usize {
    match std::env::var_os("CAUSEWAY_VM") {
        Some(_) => 32,
        None => 252,
    }
}

fn test_run<P>(program: &P, data: &[u8], context: &[u32]) -> Outcome
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut out = vec![0; OUT_BYTES];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(data),
            data_out: Some(&mut out),
            ctx_in: Some(bytemuck::cast_slice(context)),
            ..TestRunOptions::default()
        })
        .expect("the kernel runs the program");
    out.truncate(result.data_size_out as usize);
    Outcome {
        action: result.return_value,
        frame: out,
    }
}

fn vlan_key((parent, vid): (u32, u16)) -> [u8; size_of::<VlanKey>()] {
    let reserved = 0;
    bytemuck::cast(VlanKey {
        parent,
        vid,
        reserved,
    })
}

fn map_id(ebpf: &Ebpf, name: &str) -> u32 {
    match ebpf.map(name) {
        Some(Map::LpmTrie(data) | Map::Array(data)) => {
            data.info().expect("a map has information").id()
        }
        other => panic!("{name} is a table, not {other:?}"),
    }
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
