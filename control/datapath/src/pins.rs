//! Pinned maps: which of them still fit this program.
//!
//! aya takes any map that it finds pinned, whatever its type, sizes or meaning. So each is checked first against the
//! catalogue, and by the layout hash that the map `layout` keeps for it. One that doesn't fit is made anew beside the old
//! one, in the directory `next`; it takes the old one's place when the programs that use it are at work. A process that dies
//! before leaves the old maps to its successor, and the old programs never notice. Between two renames some maps are new
//! and some are not; as hashes are kept by the kernel's id of a map, each of them is still known for what it is.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use causeway_maps::MapSpec;
use causeway_maps::catalogue::{ALL, LAYOUT};

use crate::dump;
use crate::error::Error;
use crate::migrate::{self, Conversion};
use crate::sys;

/// Where pins are unless told otherwise.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/causeway";

/// How long to wait for a predecessor that is just ending; a killed process keeps its lock until the kernel has freed it.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A pinned map that did not fit and was made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreated {
    /// Map.
    pub map: &'static str,
    /// What differs.
    pub reason: String,
    /// Entries that were converted and taken over; `None` if it is empty.
    pub migrated: Option<usize>,
}

/// What is pinned in the place of a map.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// This very map.
    Fitting,
    /// Another one.
    Misfit {
        map: OwnedFd,
        reason: String,
        /// How to convert its entries, if that is known.
        by: Option<Conversion>,
    },
}

/// Directory of the pins, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct PinDir {
    path: PathBuf,
    _lock: OwnedFd,
}

impl PinDir {
    /// Makes the directory if need be and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let links = path.join("links");
        fs::create_dir_all(&links).map_err(Error::system(format!("mkdir {}", links.display())))?;
        let lock: OwnedFd = fs::File::open(path)
            .map_err(Error::system(format!("open {}", path.display())))?
            .into();
        let give_up = Instant::now() + LOCK_WAIT;
        while !sys::try_lock(lock.as_fd())
            .map_err(Error::system(format!("lock {}", path.display())))?
        {
            if Instant::now() >= give_up {
                return Err(Error::InUse {
                    dir: path.to_owned(),
                });
            }
            thread::sleep(LOCK_RETRY);
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn map(&self, spec: &MapSpec) -> PathBuf {
        self.path.join(spec.name)
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// Where a map is pinned until the programs that use it are at work.
    pub(crate) fn next(&self, spec: &MapSpec) -> PathBuf {
        self.path.join(NEXT).join(spec.name)
    }

    /// What is to become of each pinned map, by position in the catalogue.
    pub(crate) fn examine(&self) -> Result<Vec<Found>, Error> {
        let layouts = self.layouts()?;
        let mut ids = Vec::with_capacity(ALL.len());
        let mut examine = |spec: &'static MapSpec| {
            let path = self.map(spec);
            let Some(map) = open_if_pinned(&path)? else {
                return Ok(Found::Nothing);
            };
            let read = || -> io::Result<_> {
                let id = sys::map_info(map.as_fd())?.id;
                let layouts = layouts.as_ref().map(|layouts| Layouts(layouts.as_fd()));
                let recorded = layouts.map_or(Ok(None), |layouts| layouts.of(id))?;
                Ok((id, recorded, differences(map.as_fd(), spec)?))
            };
            let failed = Error::system(format!("reading the facts of map {}", path.display()));
            let (id, recorded, differing) = read().map_err(failed)?;
            ids.push(id);
            Ok(fate(spec, map, recorded.unwrap_or(0), &differing))
        };
        let found = ALL.iter().map(&mut examine).collect::<Result<_, Error>>()?;
        if let Some(layouts) = &layouts {
            let forgotten = Layouts(layouts.as_fd()).retain(&ids);
            forgotten.map_err(Error::system(
                "forgetting the layouts of maps that are gone",
            ))?;
        }
        Ok(found)
    }

    /// Forgets the maps of an upgrade that was not completed: the programs at work use others.
    pub(crate) fn discard_next(&self) -> Result<(), Error> {
        let next = self.path.join(NEXT);
        if !next.exists() {
            fs::create_dir(&next).map_err(Error::system(format!("mkdir {}", next.display())))?;
        }
        for path in list(&next)? {
            fs::remove_file(&path)
                .map_err(Error::system(format!("unpinning {}", path.display())))?;
        }
        Ok(())
    }

    /// Puts the new maps in the place of the old ones.
    pub(crate) fn commit_next(&self) -> Result<(), Error> {
        for path in list(&self.path.join(NEXT))? {
            if let Some(name) = path.file_name() {
                let to = self.path.join(name);
                fs::rename(&path, &to)
                    .map_err(Error::system(format!("renaming {}", path.display())))?;
            }
        }
        Ok(())
    }

    /// The map of hashes, if there is one that can be understood.
    fn layouts(&self) -> Result<Option<OwnedFd>, Error> {
        let path = self.map(&LAYOUT);
        let Some(map) = open_if_pinned(&path)? else {
            return Ok(None);
        };
        let differing = differences(map.as_fd(), &LAYOUT);
        let differing = differing.map_err(Error::system(format!("reading {}", path.display())))?;
        Ok(differing.is_empty().then_some(map))
    }

    /// Removes every pin of ours, which detaches the programs and frees the maps.
    pub(crate) fn remove(self) -> Result<(), Error> {
        // Links first: with its maps unpinned a program would forward on from what it holds.
        let links = self.links();
        self.discard_next()?;
        let pins = ALL.iter().map(|spec| self.map(spec));
        for path in list(&links)?.into_iter().chain(pins) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::system(format!("unpinning {}", path.display()))(
                        error,
                    ));
                }
                _ => {}
            }
        }
        for dir in [&links, &self.path.join(NEXT), &self.path] {
            fs::remove_dir(dir).map_err(Error::system(format!("rmdir {}", dir.display())))?;
        }
        Ok(())
    }
}

/// The map `layout`: what other maps were made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layouts<'a>(pub(crate) BorrowedFd<'a>);

impl Layouts<'_> {
    /// The layout hash of the map with this id, if it is known.
    fn of(self, id: u32) -> io::Result<Option<u64>> {
        let mut hash = [0; 8];
        let known = sys::lookup(self.0, &id.to_ne_bytes(), &mut hash)?;
        Ok(known.then(|| u64::from_ne_bytes(hash)))
    }

    /// Notes that `map` has the layout of `spec`.
    pub(crate) fn record(self, map: BorrowedFd<'_>, spec: &MapSpec) -> io::Result<()> {
        let id = sys::map_info(map)?.id;
        sys::update(self.0, &id.to_ne_bytes(), &spec.layout_hash.to_ne_bytes())
    }

    /// Forgets all others: the kernel may give their ids to new maps.
    fn retain(self, ids: &[u32]) -> io::Result<()> {
        let known = dump::entries::<u32, u64>(self.0)?;
        for (id, _) in known.into_iter().filter(|(id, _)| !ids.contains(id)) {
            sys::delete(self.0, &id.to_ne_bytes())?;
        }
        Ok(())
    }
}

/// Files of a directory.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(Error::system(format!("listing {}", dir.display())))
}

fn open_if_pinned(path: &Path) -> Result<Option<OwnedFd>, Error> {
    match sys::open_pin(path) {
        Ok(map) => Ok(Some(map)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::system(format!("opening {}", path.display()))(error)),
    }
}

/// A fact in which a pinned map is not as the catalogue says.
struct Differing {
    fact: &'static str,
    pinned: u32,
    ours: u32,
}

fn differences(map: BorrowedFd<'_>, spec: &MapSpec) -> io::Result<Vec<Differing>> {
    let info = sys::map_info(map)?;
    let facts = [
        ("type", info.type_, spec.kind as u32),
        ("key size", info.key_size, spec.key_size),
        ("value size", info.value_size, spec.value_size),
        (CAPACITY, info.max_entries, spec.max_entries),
        ("flags", info.map_flags & !KERNEL_SET_FLAGS, spec.flags),
    ];
    let differing = facts.into_iter().filter(|(_, pinned, ours)| pinned != ours);
    Ok(differing
        .map(|(fact, pinned, ours)| Differing { fact, pinned, ours })
        .collect())
}

fn fate(spec: &'static MapSpec, map: OwnedFd, recorded: u64, differing: &[Differing]) -> Found {
    let same_layout = recorded == spec.layout_hash;
    let reason = match differing.first() {
        Some(Differing { fact, pinned, ours }) => {
            format!("its {fact} was {pinned} and is now {ours}")
        }
        None if same_layout => return Found::Fitting,
        None => format!(
            "its layout was {recorded:016x} and is now {:016x}",
            spec.layout_hash
        ),
    };
    let only_capacity = differing.iter().all(|other| other.fact == CAPACITY);
    let by = if same_layout && only_capacity {
        Some(Conversion::IDENTITY)
    } else {
        migrate::conversion(spec, recorded)
    };
    Found::Misfit { map, reason, by }
}

const CAPACITY: &str = "capacity";
/// Directory of maps that are not in use yet.
const NEXT: &str = "next";

/// `BPF_F_RDONLY_PROG`, which the kernel adds to device maps by itself: programs only redirect by them.
const KERNEL_SET_FLAGS: u32 = 1 << 7;
