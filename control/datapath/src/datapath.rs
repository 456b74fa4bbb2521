//! The loaded object with its maps.

mod read;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::{Program, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable, bytes_of, cast_slice};
use causeway_maps::catalogue::{
    ALL, CONFIG, COUNTERS, FLAT4, FLAT4_ROOTS, FLAT4_TABLE, GROUPS, LAYOUT, LIVENESS, MAX_IFINDEX,
    NEXT_HOPS, PODS4, PODS6, PORTS, ROUTES4, ROUTES6, TX_PORTS, VLANS,
};
use causeway_maps::{
    Config, Counter, Flat4Block, Flat4Root, Group, GroupId, Hook, MapSpec, NextHop, NextHopId,
    Reason, TxPort, VlanKey,
};
use causeway_plan::{Dump, Op};

use crate::attach::{self, AttachMode, Attachment, XdpMode};
use crate::dump;
use crate::error::{ApplyError, Error, KeyFailure};
use crate::migrate;
use crate::pins::{Found, Layouts, PinDir, Recreated};
use crate::preflight::check_host;
use crate::sys;
use crate::tc::{self, TcHook, TcProgram};

const XDP_PROGRAM: &str = "causeway_xdp";
/// Entries of one batched system call. Longer ones gain nothing and keep the CPU in the kernel.
const BATCH_ENTRIES: usize = 4_096;

/// Where things are.
#[derive(Clone, Debug)]
pub struct LoadOptions<'a> {
    /// Directory of the pins, on a BPF file system. Made if absent.
    pub pin_dir: PathBuf,
    /// The eBPF object, 8-byte aligned: that of the feature `embedded-object`, or the file that
    /// `cargo xtask build-ebpf` wrote.
    pub object: Cow<'a, [u8]>,
}

/// The kernel side: maps, and the programs that use them.
///
/// Dropping it leaves everything at work; a later [`Self::load`] finds it again.
#[derive(Debug)]
pub struct Datapath {
    pins: PinDir,
    maps: Maps,
    object: Ebpf,
    recreated: Vec<Recreated>,
    state: State,
    tc: TcHook,
}

/// How far a change of version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Some maps are new and empty; programs of an earlier version are at work.
    Incomplete,
    /// Programs may be replaced.
    Ready,
    /// The maps in use are those that are pinned in their places.
    Committed,
}

/// Whether a map's entries refer to those of others, or others' to its.
fn bound(spec: &MapSpec) -> bool {
    let bound = [
        &ROUTES4, &ROUTES6, &GROUPS, &NEXT_HOPS, &LIVENESS, &PORTS, &VLANS, &TX_PORTS, &CONFIG,
    ];
    bound.iter().any(|other| other.name == spec.name)
}

/// Whether the planner makes a map from others, and the programs do without it meanwhile.
fn derived(spec: &MapSpec) -> bool {
    let derived = [&PODS4, &PODS6, &FLAT4_ROOTS, &FLAT4];
    derived.iter().any(|other| other.name == spec.name)
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapUsage {
    /// Map.
    pub map: &'static str,
    /// Entries in use; zeroed array slots are not.
    pub entries: usize,
    /// Capacity.
    pub capacity: u32,
}

impl Datapath {
    /// Checks the host, opens the pinned maps that still fit, makes the others, and loads the programs. Attached programs
    /// of an earlier process go on until [`Self::attach`] replaces them.
    ///
    /// # Errors
    ///
    /// If the host can't, another process keeps these pins, or the kernel refuses the object.
    pub fn load(options: &LoadOptions<'_>) -> Result<Self, Error> {
        check_host(&options.pin_dir)?;
        if options.object.is_empty() {
            return Err(Error::NoObject);
        }
        let pins = PinDir::open(&options.pin_dir)?;
        pins.discard_next()?;
        let found = pins.examine()?;
        // Ids bind these maps together: one that can't be converted takes the others with it.
        let misfits = || ALL.iter().zip(&found);
        let lost = |(spec, found): (&MapSpec, &Found)| {
            bound(spec) && matches!(found, Found::Misfit { by: None, .. })
        };
        let all_anew = misfits().any(lost);
        let path = |(spec, found): (&MapSpec, &Found)| {
            let anew = match found {
                Found::Nothing => false,
                Found::Fitting => all_anew && (bound(spec) || derived(spec)),
                Found::Misfit { .. } => true,
            };
            if anew {
                pins.next(spec)
            } else {
                pins.map(spec)
            }
        };
        let paths: Vec<PathBuf> = misfits().map(path).collect();
        let mut loader = EbpfLoader::new();
        for (spec, path) in ALL.iter().zip(&paths) {
            loader.map_pin_path(spec.name, path);
        }
        let mut object = loader
            .load(&options.object)
            .map_err(|error| Error::Load(Box::new(error)))?;
        let maps = Maps::open(&paths)?;
        maps.record_layouts()?;
        let mut recreated = Vec::new();
        for (spec, (found, path)) in ALL.iter().zip(found.into_iter().zip(&paths)) {
            let Found::Misfit { map, reason, by } = found else {
                if *path == pins.next(spec) {
                    recreated.push(Recreated {
                        map: spec.name,
                        reason: "it belongs to others that are made anew".to_owned(),
                        migrated: None,
                    });
                }
                continue;
            };
            let migrated = match by.filter(|_| !all_anew && !derived(spec)) {
                Some(by) => Some(
                    migrate::migrate(&map, maps.fd(spec), spec, &by)
                        .map_err(Error::system(format!("converting map {}", spec.name)))?,
                ),
                None => None,
            };
            recreated.push(Recreated {
                map: spec.name,
                reason,
                migrated,
            });
        }
        for (_, program) in object.programs_mut() {
            let loaded = match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => Ok(()),
            };
            loaded.map_err(|error| Error::Load(Box::new(error)))?;
        }
        xdp_program(&mut object)?;
        let mut datapath = Self {
            pins,
            maps,
            object,
            recreated,
            state: State::Ready,
            tc: TcHook::of_this_kernel(),
        };
        if datapath.recreated.is_empty() {
            datapath.commit()?;
        } else if all_anew && !datapath.attached()?.is_empty() {
            datapath.state = State::Incomplete;
        }
        Ok(datapath)
    }

    /// Whether programs of an earlier version are at work, with maps of their own, and must not be replaced before these
    /// maps hold what they need: then call [`Self::completed`].
    #[must_use]
    pub fn incomplete(&self) -> bool {
        self.state == State::Incomplete
    }

    /// The maps hold all that is wanted: programs may be replaced.
    pub fn completed(&mut self) {
        if self.state == State::Incomplete {
            self.state = State::Ready;
        }
    }

    /// The programs at work use these maps: those of an earlier version go. Until then an earlier version's stay, for a
    /// successor of this process. Call it after [`Self::attach`] on every interface; calling it again does nothing.
    ///
    /// # Errors
    ///
    /// If a pin can't be renamed.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.state != State::Ready {
            return Ok(());
        }
        self.pins.commit_next()?;
        self.state = State::Committed;
        Ok(())
    }

    /// Pinned maps that did not fit and were made anew, empty.
    #[must_use]
    pub fn recreated(&self) -> &[Recreated] {
        &self.recreated
    }

    /// Attaches XDP to an interface, or replaces the program that an earlier process left there.
    ///
    /// # Errors
    ///
    /// If the interface is gone, somebody else's, or can't do it in this mode.
    pub fn attach(
        &mut self,
        interface: &str,
        ifindex: u32,
        mode: AttachMode,
    ) -> Result<Attachment, Error> {
        let links = self.pins.links();
        attach::attach(
            xdp_program(&mut self.object)?,
            &links,
            (interface, ifindex),
            mode,
        )
    }

    /// Detaches XDP from an interface; nothing attached is fine.
    ///
    /// # Errors
    ///
    /// If the link can't be unpinned.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), Error> {
        attach::detach(&self.pins.links(), ifindex)
    }

    /// Attaches a TC program to an interface's ingress, or replaces the one that an earlier process left there.
    ///
    /// # Errors
    ///
    /// If the interface is gone, or the kernel can't.
    pub fn attach_tc(
        &mut self,
        interface: &str,
        ifindex: u32,
        program: TcProgram,
    ) -> Result<TcHook, Error> {
        let links = self.pins.links();
        let loaded = self.object.program_mut(program.name());
        let loaded: Option<&mut SchedClassifier> = loaded.and_then(|p| p.try_into().ok());
        let loaded = loaded.ok_or_else(|| Error::WrongObject {
            what: format!("TC program {}", program.name()),
        })?;
        tc::attach(loaded, &links, (interface, ifindex), self.tc)?;
        Ok(self.tc)
    }

    /// Detaches the TC program from an interface; nothing attached is fine.
    ///
    /// # Errors
    ///
    /// If the link can't be unpinned.
    pub fn detach_tc(&mut self, ifindex: u32) -> Result<(), Error> {
        tc::detach(&self.pins.links(), ifindex, self.tc)
    }

    /// Hangs TC programs here from now on, whatever the kernel can.
    pub fn set_tc_hook(&mut self, hook: TcHook) {
        self.tc = hook;
    }

    /// Interfaces with our XDP program, by index.
    ///
    /// # Errors
    ///
    /// If a pinned link can't be read.
    pub fn attached(&self) -> Result<Vec<(u32, XdpMode)>, Error> {
        attach::attached(&self.pins.links())
    }

    /// Carries out one operation. Doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// The entries that the kernel refused; all the others are written.
    pub fn apply(&mut self, op: &Op) -> Result<(), ApplyError> {
        let maps = &self.maps;
        match op {
            Op::PutConfig(config) => maps.put(&CONFIG, 0, config),
            Op::PutPort(ifindex, port) => maps.put(&PORTS, *ifindex, port),
            Op::ClearPort(ifindex) => maps.put(&PORTS, *ifindex, &causeway_maps::Port::zeroed()),
            Op::PutTxPort(ifindex) => maps.put(
                &TX_PORTS,
                *ifindex,
                &TxPort {
                    ifindex: *ifindex,
                    program: 0,
                },
            ),
            Op::ClearTxPort(ifindex) => maps.delete(&TX_PORTS, &[*ifindex]),
            Op::PutNextHop(id, next_hop) => maps.put(&NEXT_HOPS, id.0, next_hop),
            Op::ClearNextHop(id) => maps.put(&NEXT_HOPS, id.0, &NextHop::zeroed()),
            Op::PutGroup(id, group) => maps.put(&GROUPS, id.0, group.as_ref()),
            Op::ClearGroup(id) => maps.put(&GROUPS, id.0, &Group::zeroed()),
            Op::PutRoutes4(routes) => maps.put_routes(&ROUTES4, routes),
            Op::DeleteRoutes4(keys) => maps.delete(&ROUTES4, keys),
            Op::PutRoutes6(routes) => maps.put_routes(&ROUTES6, routes),
            Op::DeleteRoutes6(keys) => maps.delete(&ROUTES6, keys),
            Op::PutVlan(key, ifindex) => maps.put_keyed(&VLANS, key, ifindex),
            Op::ClearVlan(key) => maps.delete(&VLANS, &[*key]),
            Op::PutPods4(entries) => maps.put_routes(&PODS4, entries),
            Op::PutPods6(entries) => maps.put_routes(&PODS6, entries),
            Op::PutFlat4Roots(roots) => {
                let roots: Vec<_> = roots
                    .iter()
                    .map(|(o, root)| (u32::from(*o), *root))
                    .collect();
                maps.put_all(&FLAT4_ROOTS, &roots)
            }
            Op::PutFlat4Rows(rows) => maps.put_rows(rows),
            Op::DropFlat4(octet) => maps.delete(&FLAT4, &[u32::from(*octet)]),
        }
    }

    /// Says why a next hop is dead: bits of [`causeway_maps::dead`], 0 for alive. For the owner of liveness alone.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn set_liveness(&self, id: NextHopId, bits: u32) -> Result<(), ApplyError> {
        self.maps.put(&LIVENESS, id.0, &bits)
    }

    /// The next hops that are dead, and why.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn dead(&self) -> Result<Vec<(NextHopId, u32)>, Error> {
        let slots = dump::slots::<u32>(self.maps.fd(&LIVENESS));
        let slots = slots.map_err(Error::system("reading map liveness"))?;
        let dead = slots.into_iter().map(|(id, bits)| (NextHopId(id), bits));
        Ok(dead.collect())
    }

    /// Reads every map that the planner writes.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn dump(&self) -> Result<Dump, Error> {
        self.maps.dump().map_err(Error::system("reading the maps"))
    }

    /// How full each map is that grows.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn usage(&self) -> Result<Vec<MapUsage>, Error> {
        let dump = self.dump()?;
        let usage = |spec: &MapSpec, entries| MapUsage {
            map: spec.name,
            entries,
            capacity: spec.max_entries,
        };
        Ok(vec![
            usage(&ROUTES4, dump.routes4.len()),
            usage(&ROUTES6, dump.routes6.len()),
            usage(&GROUPS, dump.groups.len()),
            usage(&NEXT_HOPS, dump.next_hops.len()),
        ])
    }

    /// What became of packets so far, summed over CPUs: every hook in the order of [`Hook::ALL`], every reason at it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn counters(&self) -> Result<Vec<(Hook, Reason, Counter)>, Error> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(path, source)| Error::system(format!("reading {path}"))(source))?;
        let mut per_cpu = vec![Counter::zeroed(); cpus];
        let outcomes = Hook::ALL
            .iter()
            .flat_map(|hook| Reason::ALL.iter().map(move |reason| (*hook, *reason)));
        let mut read = |(hook, reason): (Hook, Reason)| {
            let key = hook.slot(reason).to_ne_bytes();
            let values = bytemuck::cast_slice_mut(&mut per_cpu);
            sys::lookup(self.maps.fd(&COUNTERS), &key, values)
                .map_err(Error::system("reading map counters"))?;
            let sum = per_cpu
                .iter()
                .fold(Counter::zeroed(), |sum, counter| Counter {
                    packets: sum.packets + counter.packets,
                    bytes: sum.bytes + counter.bytes,
                });
            Ok((hook, reason, sum))
        };
        outcomes.map(&mut read).collect()
    }

    /// Entries of the map that is pinned under this name, whichever it is: the one that the programs at work use.
    ///
    /// # Errors
    ///
    /// If there is none, or the kernel refuses to be read.
    pub fn pinned_entries(pin_dir: &Path, map: &str) -> Result<usize, Error> {
        let count = || {
            let map = sys::open_pin(&pin_dir.join(map))?;
            migrate::count(map.as_fd())
        };
        count().map_err(Error::system(format!("reading map {map}")))
    }

    /// Directory of the pins.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        self.pins.path()
    }

    /// Detaches every program and removes every pin: forwarding by XDP ends.
    ///
    /// # Errors
    ///
    /// If a pin can't be removed.
    pub fn unload(self) -> Result<(), Error> {
        tc::detach_all(self.tc);
        self.pins.remove()
    }

    /// [`Self::unload`] without loading first, for what an earlier process left in `pin_dir`. Nothing there is fine.
    ///
    /// # Errors
    ///
    /// If another process keeps the pins, or one can't be removed.
    pub fn unload_pins(pin_dir: &Path) -> Result<(), Error> {
        check_host(pin_dir)?;
        if pin_dir.exists() {
            tc::detach_all(TcHook::of_this_kernel());
            PinDir::open(pin_dir)?.remove()
        } else {
            Ok(())
        }
    }
}

fn xdp_program(object: &mut Ebpf) -> Result<&mut Xdp, Error> {
    object
        .program_mut(XDP_PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| Error::WrongObject {
            what: format!("XDP program {XDP_PROGRAM}"),
        })
}

/// Descriptors of the maps, in the order of the catalogue.
#[derive(Debug)]
struct Maps(Vec<OwnedFd>);

impl Maps {
    fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        let open = |(spec, path): (&MapSpec, &PathBuf)| {
            sys::open_pin(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::WrongObject {
                    what: format!("map {}", spec.name),
                },
                _ => Error::system(format!("opening map {}", spec.name))(error),
            })
        };
        ALL.iter()
            .zip(paths)
            .map(open)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn fd(&self, spec: &MapSpec) -> BorrowedFd<'_> {
        let position = ALL.iter().position(|other| other.name == spec.name);
        self.0[position.expect("every spec is in the catalogue")].as_fd()
    }

    /// Notes the layouts of all maps, new ones among them.
    fn record_layouts(&self) -> Result<(), Error> {
        let layouts = Layouts(self.fd(&LAYOUT));
        for spec in ALL {
            let failed = Error::system(format!("recording the layout of map {}", spec.name));
            layouts.record(self.fd(spec), spec).map_err(failed)?;
        }
        Ok(())
    }

    fn put<V: Pod>(&self, spec: &MapSpec, index: u32, value: &V) -> Result<(), ApplyError> {
        self.put_keyed(spec, &index, value)
    }

    fn put_keyed<K: Pod, V: Pod>(
        &self,
        spec: &MapSpec,
        key: &K,
        value: &V,
    ) -> Result<(), ApplyError> {
        let key = bytes_of(key);
        sys::update(self.fd(spec), key, bytes_of(value)).map_err(|error| ApplyError {
            map: spec.name,
            failures: vec![KeyFailure {
                key: key.to_vec(),
                error,
            }],
        })
    }

    /// Writes rows of flat tables, those of one octet at a time.
    fn put_rows(&self, rows: &[([u8; 2], Box<Flat4Block>)]) -> Result<(), ApplyError> {
        let mut failures = Vec::new();
        let mut unmade = self.make_flat_tables(rows.iter().map(|([octet, _], _)| *octet));
        for rows in rows.chunk_by(|([a, _], _), ([b, _], _)| a == b) {
            let Some(([octet, _], _)) = rows.first() else {
                continue;
            };
            let table = match unmade.remove(octet) {
                Some(error) => Err(error),
                None => self.flat_table(*octet),
            };
            let keys: Vec<u32> = rows.iter().map(|([_, row], _)| u32::from(*row)).collect();
            let blocks: Vec<Flat4Block> = rows.iter().map(|(_, block)| **block).collect();
            let mut refused = Vec::new();
            match table {
                Ok(table) => {
                    let table = table.as_fd();
                    in_batches(
                        &keys,
                        &mut refused,
                        |at| {
                            let (keys, blocks) = (&keys[at..], &blocks[at..]);
                            let (bytes, count) = (cast_slice(blocks), keys.len());
                            sys::update_batch(table, cast_slice(keys), bytes, count)
                        },
                        |at| sys::update(table, bytes_of(&keys[at]), bytes_of(&blocks[at])),
                    );
                }
                Err(error) => refused.extend(keys.iter().map(|row| KeyFailure {
                    key: row.to_ne_bytes().to_vec(),
                    error: same_error(&error),
                })),
            }
            // Known to the planner by both octets.
            let row = |failure: &KeyFailure| failure.key.first().copied().unwrap_or(0);
            failures.extend(refused.into_iter().map(|failure| KeyFailure {
                key: vec![*octet, row(&failure)],
                error: failure.error,
            }));
        }
        refused(&FLAT4_TABLE, failures)
    }

    /// Makes the tables of these first octets that are not there; returns those that could not be made.
    ///
    /// All by one call: after each on an array of maps the kernel waits until no program can be at work with what was there
    /// before, some 10 ms (before Linux 6.8 it does so after each entry of a batch).
    fn make_flat_tables(&self, octets: impl Iterator<Item = u8>) -> BTreeMap<u8, io::Error> {
        let octets: BTreeSet<u8> = octets.collect();
        let mut unmade = BTreeMap::new();
        let (mut keys, mut tables) = (Vec::new(), Vec::new());
        for octet in octets {
            let mut id = [0; 4];
            let key = u32::from(octet);
            let made = match sys::lookup(self.fd(&FLAT4), bytes_of(&key), &mut id) {
                Ok(true) => continue,
                Ok(false) => sys::create_array(
                    FLAT4_TABLE.name,
                    FLAT4_TABLE.value_size,
                    FLAT4_TABLE.max_entries,
                ),
                Err(error) => Err(error),
            };
            match made {
                Ok(table) => {
                    keys.push(key);
                    tables.push(table);
                }
                Err(error) => {
                    unmade.insert(octet, error);
                }
            }
        }
        let values: Vec<i32> = tables.iter().map(AsRawFd::as_raw_fd).collect();
        let mut refused = Vec::new();
        in_batches(
            &keys,
            &mut refused,
            |at| {
                let (keys, values) = (&keys[at..], &values[at..]);
                sys::update_batch(
                    self.fd(&FLAT4),
                    cast_slice(keys),
                    cast_slice(values),
                    keys.len(),
                )
            },
            |at| sys::update(self.fd(&FLAT4), bytes_of(&keys[at]), bytes_of(&values[at])),
        );
        // Keys in the machine's byte order: the first octet's number is the first or the last of their bytes.
        let octet = |failure: &KeyFailure| failure.key.iter().copied().find(|byte| *byte != 0);
        unmade.extend(
            refused
                .into_iter()
                .map(|failure| (octet(&failure).unwrap_or(0), failure.error)),
        );
        unmade
    }

    /// The table of a first octet.
    fn flat_table(&self, octet: u8) -> io::Result<OwnedFd> {
        let key = u32::from(octet).to_ne_bytes();
        let mut id = [0; 4];
        if sys::lookup(self.fd(&FLAT4), &key, &mut id)? {
            sys::map_by_id(u32::from_ne_bytes(id))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// The rows of all flat tables, zeroed ones left out.
    fn flat_rows(&self) -> io::Result<BTreeMap<[u8; 2], Box<Flat4Block>>> {
        let mut rows = BTreeMap::new();
        for octet in 0..=u8::MAX {
            let mut id = [0; 4];
            if !sys::lookup(self.fd(&FLAT4), &u32::from(octet).to_ne_bytes(), &mut id)? {
                continue;
            }
            let table = sys::map_by_id(u32::from_ne_bytes(id))?;
            let blocks = dump::slots::<Flat4Block>(table.as_fd())?.into_iter();
            rows.extend(blocks.filter_map(|(row, block)| {
                Some(([octet, u8::try_from(row).ok()?], Box::new(block)))
            }));
        }
        Ok(rows)
    }

    fn put_routes<K: Pod>(
        &self,
        spec: &MapSpec,
        routes: &[(K, GroupId)],
    ) -> Result<(), ApplyError> {
        let entries = routes.iter().map(|(key, group)| (*key, group.0));
        self.put_all(spec, &entries.collect::<Vec<_>>())
    }

    fn put_all<K: Pod, V: Pod>(
        &self,
        spec: &MapSpec,
        entries: &[(K, V)],
    ) -> Result<(), ApplyError> {
        let map = self.fd(spec);
        let mut failures = Vec::new();
        for entries in entries.chunks(BATCH_ENTRIES) {
            let keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
            let values: Vec<V> = entries.iter().map(|(_, value)| *value).collect();
            in_batches(
                &keys,
                &mut failures,
                |at| {
                    let (keys, values) = (&keys[at..], &values[at..]);
                    sys::update_batch(map, cast_slice(keys), cast_slice(values), keys.len())
                },
                |at| sys::update(map, bytes_of(&keys[at]), bytes_of(&values[at])),
            );
        }
        refused(spec, failures)
    }

    fn delete<K: Pod>(&self, spec: &MapSpec, keys: &[K]) -> Result<(), ApplyError> {
        let map = self.fd(spec);
        let mut failures = Vec::new();
        for keys in keys.chunks(BATCH_ENTRIES) {
            in_batches(
                keys,
                &mut failures,
                |at| sys::delete_batch(map, cast_slice(&keys[at..]), keys.len() - at),
                |at| sys::delete(map, bytes_of(&keys[at])),
            );
        }
        refused(spec, failures)
    }

    fn dump(&self) -> io::Result<Dump> {
        let id = |(id, value)| (NextHopId(id), value);
        let mut tx_ports = Vec::new();
        for ifindex in 0..MAX_IFINDEX {
            let mut value = TxPort::zeroed();
            let value = bytemuck::bytes_of_mut(&mut value);
            if sys::lookup(self.fd(&TX_PORTS), &ifindex.to_ne_bytes(), value)? {
                tx_ports.push(ifindex);
            }
        }
        Ok(Dump {
            routes4: routes(self.fd(&ROUTES4))?,
            routes6: routes(self.fd(&ROUTES6))?,
            groups: dump::slots(self.fd(&GROUPS))?
                .into_iter()
                .map(|(id, group)| (GroupId(id), group))
                .collect(),
            next_hops: dump::slots(self.fd(&NEXT_HOPS))?
                .into_iter()
                .map(id)
                .collect(),
            ports: dump::slots(self.fd(&PORTS))?.into_iter().collect(),
            tx_ports,
            vlans: dump::entries::<VlanKey, u32>(self.fd(&VLANS))?
                .into_iter()
                .collect(),
            pods4: groups(self.fd(&PODS4))?,
            pods6: groups(self.fd(&PODS6))?,
            flat4_roots: dump::slots::<Flat4Root>(self.fd(&FLAT4_ROOTS))?
                .into_iter()
                .filter_map(|(octet, root)| Some((u8::try_from(octet).ok()?, root)))
                .collect(),
            flat4: self.flat_rows()?,
            config: dump::slots::<Config>(self.fd(&CONFIG))?
                .pop()
                .map(|(_, config)| config),
        })
    }
}

/// Entries of an array of group ids, zeros left out.
fn groups(map: BorrowedFd<'_>) -> io::Result<BTreeMap<u32, GroupId>> {
    let slots = dump::slots::<u32>(map)?.into_iter();
    Ok(slots
        .map(|(index, group)| (index, GroupId(group)))
        .collect())
}

/// The same error once more: `io::Error` is not `Clone`.
fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}

fn routes<K: Pod + Ord>(map: BorrowedFd<'_>) -> io::Result<BTreeMap<K, GroupId>> {
    let entries = dump::entries::<K, u32>(map)?;
    Ok(entries
        .into_iter()
        .map(|(key, group)| (key, GroupId(group)))
        .collect())
}

/// Drives a batched call over `keys`. Where it stops, the entry in its way is tried alone, which tells whether it is that
/// entry's fault, and the batch goes on behind it: so a kernel that knows no batches for a kind of map works too.
fn in_batches<K: Pod>(
    keys: &[K],
    failures: &mut Vec<KeyFailure>,
    batch_from: impl Fn(usize) -> sys::Batch,
    single: impl Fn(usize) -> io::Result<()>,
) {
    let mut at = 0;
    while at < keys.len() {
        let batch = batch_from(at);
        at += batch.done;
        if batch.error.is_none() || at >= keys.len() {
            continue;
        }
        if let Err(error) = single(at) {
            failures.push(KeyFailure {
                key: bytes_of(&keys[at]).to_vec(),
                error,
            });
        }
        at += 1;
    }
}

fn refused(spec: &MapSpec, failures: Vec<KeyFailure>) -> Result<(), ApplyError> {
    if failures.is_empty() {
        Ok(())
    } else {
        Err(ApplyError {
            map: spec.name,
            failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A kernel that carries out what is below 100, and batches only as far as the first it doesn't.
    fn run(keys: &[u32], batches_work: bool) -> (Vec<u32>, Vec<u32>) {
        let done = RefCell::new(Vec::new());
        let mut failures = Vec::new();
        let refusal = || io::Error::from_raw_os_error(libc::ENOSPC);
        in_batches(
            keys,
            &mut failures,
            |at| {
                if !batches_work {
                    return sys::Batch {
                        done: 0,
                        error: Some(refusal()),
                    };
                }
                let good = keys[at..].iter().take_while(|&&key| key < 100).count();
                done.borrow_mut().extend(&keys[at..at + good]);
                let error = (at + good < keys.len()).then(refusal);
                sys::Batch { done: good, error }
            },
            |at| {
                if keys[at] >= 100 {
                    return Err(refusal());
                }
                done.borrow_mut().push(keys[at]);
                Ok(())
            },
        );
        let failed = failures
            .iter()
            .map(|f| *bytemuck::from_bytes::<u32>(&f.key))
            .collect();
        (done.into_inner(), failed)
    }

    #[test]
    fn a_refused_entry_does_not_stop_those_behind_it() {
        let (done, failed) = run(&[1, 2, 100, 3, 101, 102, 4], true);
        assert_eq!(done, [1, 2, 3, 4]);
        assert_eq!(failed, [100, 101, 102]);
    }

    #[test]
    fn without_batches_every_entry_is_tried_alone() {
        let (done, failed) = run(&[1, 100, 2], false);
        assert_eq!(done, [1, 2]);
        assert_eq!(failed, [100]);
    }
}
