//! The loaded object with its maps.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable, bytes_of, cast_slice};
use causeway_maps::catalogue::{
    ALL, CONFIG, COUNTERS, GROUPS, LAYOUT, MAX_IFINDEX, NEXT_HOPS, PORTS, ROUTES4, ROUTES6,
    TX_PORTS,
};
use causeway_maps::{
    Config, Counter, Group, GroupId, Hook, MapSpec, NextHop, NextHopId, Reason, TxPort,
};
use causeway_plan::{Dump, Op};

use crate::attach::{self, AttachMode, Attachment, XdpMode};
use crate::dump;
use crate::error::{ApplyError, Error, KeyFailure};
use crate::pins::{PinDir, Recreated};
use crate::preflight::check_host;
use crate::sys;

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
        let recreated = pins.discard_misfits()?;
        let mut loader = EbpfLoader::new();
        for spec in ALL {
            loader.map_pin_path(spec.name, pins.map(spec));
        }
        let mut object = loader
            .load(&options.object)
            .map_err(|error| Error::Load(Box::new(error)))?;
        let maps = Maps::open(&pins)?;
        PinDir::record_hashes(maps.fd(&LAYOUT))?;
        let program = xdp_program(&mut object)?;
        program
            .load()
            .map_err(|error| Error::Load(Box::new(error)))?;
        Ok(Self {
            pins,
            maps,
            object,
            recreated,
        })
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

    /// Interfaces with our program, by index.
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
        }
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

    /// What became of packets at XDP so far, summed over CPUs, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    ///
    /// If the kernel refuses to be read.
    pub fn counters(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(path, source)| Error::system(format!("reading {path}"))(source))?;
        let mut per_cpu = vec![Counter::zeroed(); cpus];
        let mut counters = Vec::with_capacity(Reason::ALL.len());
        for &reason in Reason::ALL {
            let key = Hook::Xdp.slot(reason).to_ne_bytes();
            let values = bytemuck::cast_slice_mut(&mut per_cpu);
            sys::lookup(self.maps.fd(&COUNTERS), &key, values)
                .map_err(Error::system("reading map counters"))?;
            let sum = per_cpu
                .iter()
                .fold(Counter::zeroed(), |sum, counter| Counter {
                    packets: sum.packets + counter.packets,
                    bytes: sum.bytes + counter.bytes,
                });
            counters.push((reason, sum));
        }
        Ok(counters)
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
    fn open(pins: &PinDir) -> Result<Self, Error> {
        let open = |spec: &MapSpec| {
            sys::open_pin(&pins.map(spec)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::WrongObject {
                    what: format!("map {}", spec.name),
                },
                _ => Error::system(format!("opening map {}", spec.name))(error),
            })
        };
        ALL.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    fn fd(&self, spec: &MapSpec) -> BorrowedFd<'_> {
        let position = ALL.iter().position(|other| other.name == spec.name);
        self.0[position.expect("every spec is in the catalogue")].as_fd()
    }

    fn put<V: Pod>(&self, spec: &MapSpec, index: u32, value: &V) -> Result<(), ApplyError> {
        let key = index.to_ne_bytes();
        sys::update(self.fd(spec), &key, bytes_of(value)).map_err(|error| ApplyError {
            map: spec.name,
            failures: vec![KeyFailure {
                key: key.to_vec(),
                error,
            }],
        })
    }

    fn put_routes<K: Pod>(
        &self,
        spec: &MapSpec,
        routes: &[(K, GroupId)],
    ) -> Result<(), ApplyError> {
        let map = self.fd(spec);
        let mut failures = Vec::new();
        for routes in routes.chunks(BATCH_ENTRIES) {
            let keys: Vec<K> = routes.iter().map(|(key, _)| *key).collect();
            let groups: Vec<u32> = routes.iter().map(|(_, group)| group.0).collect();
            in_batches(
                &keys,
                &mut failures,
                |at| {
                    let (keys, groups) = (&keys[at..], &groups[at..]);
                    sys::update_batch(map, cast_slice(keys), cast_slice(groups), keys.len())
                },
                |at| sys::update(map, bytes_of(&keys[at]), bytes_of(&groups[at])),
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
            config: dump::slots::<Config>(self.fd(&CONFIG))?
                .pop()
                .map(|(_, config)| config),
        })
    }
}

fn routes<K: Pod + Ord>(map: BorrowedFd<'_>) -> io::Result<std::collections::BTreeMap<K, GroupId>> {
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
