//! `bpf(2)` and what else of the kernel aya does not offer: batches, raw keys and values, link and map facts.
//!
//! aya 0.14 has no batch operations; a million single updates of an LPM trie cost twice what batches do.

#![expect(
    unsafe_code,
    reason = "raw system calls; every other module of the crate is safe"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info, bpf_map_type};

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of plain integers; the kernel wants unused bytes to be zero.
    unsafe { std::mem::zeroed() }
}

/// # Safety
///
/// Every pointer within `attr` must be valid for what `command` does with it.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a valid bpf_attr of this size; its pointers are the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn address<T: ?Sized>(data: &T) -> u64 {
    (&raw const *data).cast::<u8>() as u64
}

/// Opens a pinned object.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed_attr();
    // SAFETY: writing a field of a union of integers; `path` outlives the call and ends with a zero byte.
    let fd = unsafe {
        attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
        bpf(bpf_cmd::BPF_OBJ_GET, &mut attr)?
    };
    owned(fd)
}

fn info<T: Copy>(fd: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: only called for the kernel's info structs, plain integers for which zero is valid.
    let mut info: T = unsafe { std::mem::zeroed() };
    let mut attr = zeroed_attr();
    // SAFETY: `info` is writable for `info_len` bytes during the call.
    unsafe {
        attr.info.bpf_fd = fd.as_raw_fd().cast_unsigned();
        attr.info.info = (&raw mut info) as u64;
        attr.info.info_len = size_of::<T>() as u32;
        bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    }
    Ok(info)
}

/// Type, sizes, capacity and flags of a map.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    info(fd)
}

/// The interface that an XDP link is attached to, 0 if it is gone.
pub(crate) fn xdp_link_ifindex(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let info: bpf_link_info = info(fd)?;
    // SAFETY: the xdp arm is a plain integer; for a link of another kind its value is meaningless but valid.
    Ok(unsafe { info.__bindgen_anon_1.xdp.ifindex })
}

/// Opens a map by its id.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: writing a field of a union of integers.
    let fd = unsafe {
        attr.__bindgen_anon_6.__bindgen_anon_1.map_id = id;
        bpf(bpf_cmd::BPF_MAP_GET_FD_BY_ID, &mut attr)?
    };
    owned(fd)
}

/// Makes an array map.
pub(crate) fn create_array(name: &str, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: writing fields of a union of integers; the name has room and ends with a zero byte.
    let fd = unsafe {
        attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        attr.__bindgen_anon_1.key_size = 4;
        attr.__bindgen_anon_1.value_size = value_size;
        attr.__bindgen_anon_1.max_entries = max_entries;
        let room = attr.__bindgen_anon_1.map_name.len() - 1;
        for (to, from) in attr
            .__bindgen_anon_1
            .map_name
            .iter_mut()
            .zip(name.bytes().take(room))
        {
            *to = from.cast_signed();
        }
        bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr)?
    };
    owned(fd)
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The interface that a TCX link is attached to, 0 if it is gone.
pub(crate) fn tcx_link_ifindex(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let info: bpf_link_info = info(fd)?;
    // SAFETY: the tcx arm is plain integers; for a link of another kind its value is meaningless but valid.
    Ok(unsafe { info.__bindgen_anon_1.tcx.ifindex })
}

/// Writes one entry.
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attr = zeroed_attr();
    // SAFETY: the caller gives as many bytes as the map's key and value sizes; the kernel reads them only.
    unsafe {
        attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
        attr.__bindgen_anon_2.key = address(key);
        attr.__bindgen_anon_2.__bindgen_anon_1.value = address(value);
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr)?;
    }
    Ok(())
}

/// Removes one entry; one that is not there is fine.
pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let mut attr = zeroed_attr();
    // SAFETY: the caller gives as many bytes as the map's key size; the kernel reads them only.
    let result = unsafe {
        attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
        attr.__bindgen_anon_2.key = address(key);
        bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr)
    };
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(drop),
    }
}

/// Reads one entry into `value`; false if it is not there.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = zeroed_attr();
    // SAFETY: the caller gives as many bytes as the map's key size, and for the value what the kernel writes: its size,
    // for per-CPU maps times the possible CPUs.
    let result = unsafe {
        attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
        attr.__bindgen_anon_2.key = address(key);
        attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
        bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)
    };
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How far a batch got.
pub(crate) struct Batch {
    /// Entries carried out.
    pub(crate) done: usize,
    /// What the kernel said to the next one; `None` if all are done.
    pub(crate) error: Option<io::Error>,
}

/// Writes `count` entries lying one behind the other in `keys` and `values`.
pub(crate) fn update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: usize) -> Batch {
    batch(
        bpf_cmd::BPF_MAP_UPDATE_BATCH,
        map,
        keys,
        Some(values),
        count,
    )
}

/// Removes `count` entries lying one behind the other in `keys`.
pub(crate) fn delete_batch(map: BorrowedFd<'_>, keys: &[u8], count: usize) -> Batch {
    batch(bpf_cmd::BPF_MAP_DELETE_BATCH, map, keys, None, count)
}

fn batch(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: Option<&[u8]>,
    count: usize,
) -> Batch {
    let mut attr = zeroed_attr();
    // SAFETY: the caller gives `count` keys and values of the map's sizes; the kernel reads them only.
    let result = unsafe {
        attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
        attr.batch.keys = address(keys);
        attr.batch.values = values.map_or(0, address);
        attr.batch.count = u32::try_from(count).unwrap_or(u32::MAX);
        bpf(command, &mut attr)
    };
    match result {
        Ok(_) => Batch {
            done: count,
            error: None,
        },
        // The count is written back unless that itself failed: then nothing is known, and nothing counts as done.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Batch {
            done: 0,
            error: Some(error),
        },
        Err(error) => {
            // SAFETY: an integer field, written by us and perhaps by the kernel.
            let written = unsafe { attr.batch.count } as usize;
            // The kernel writes how many it did, which is less than all; untouched, the command itself was refused.
            Batch {
                done: if written >= count { 0 } else { written },
                error: Some(error),
            }
        }
    }
}

/// Where a batched reading goes on.
pub(crate) struct Cursor {
    token: Vec<u8>,
    started: bool,
}

impl Cursor {
    /// At the beginning, for a map with keys of `key_size` bytes.
    pub(crate) fn new(key_size: usize) -> Self {
        // Hash maps keep a u32 here, tries and arrays a key.
        Self {
            token: vec![0; key_size.max(4)],
            started: false,
        }
    }
}

/// Reads up to `count` entries into `keys` and `values`; returns how many, and whether those were the last.
pub(crate) fn lookup_batch(
    map: BorrowedFd<'_>,
    cursor: &mut Cursor,
    keys: &mut [u8],
    values: &mut [u8],
    count: usize,
) -> io::Result<(usize, bool)> {
    let mut attr = zeroed_attr();
    let mut next = vec![0_u8; cursor.token.len()];
    // SAFETY: `keys` and `values` have room for `count` entries, the tokens for a key; all outlive the call.
    let (result, done) = unsafe {
        attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
        attr.batch.in_batch = if cursor.started {
            address(cursor.token.as_slice())
        } else {
            0
        };
        attr.batch.out_batch = next.as_mut_ptr() as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = u32::try_from(count).unwrap_or(u32::MAX);
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        (result, attr.batch.count as usize)
    };
    cursor.token = next;
    cursor.started = true;
    match result {
        Ok(_) => Ok((done, false)),
        // The end; what was read until there counts.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((done.min(count), true)),
        Err(error) => Err(error),
    }
}

/// Whether an interface has this index, in this network namespace.
pub(crate) fn interface_exists(ifindex: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call demands.
    !unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) }.is_null()
}

/// The name of the interface with this index, in this network namespace.
pub(crate) fn interface_name(ifindex: u32) -> Option<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call demands; a name that it returns ends with a zero byte within it.
    let name = unsafe {
        let name = libc::if_indextoname(ifindex, name.as_mut_ptr());
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name).to_owned()
    };
    name.into_string().ok()
}

/// The names of all interfaces of this network namespace.
pub(crate) fn interface_names() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the list ends with an index of 0, each name ends with a zero byte, and it is freed once.
    unsafe {
        let list = libc::if_nameindex();
        let mut entry = list;
        while !entry.is_null() && (*entry).if_index != 0 {
            if let Ok(name) = CStr::from_ptr((*entry).if_name).to_str() {
                names.push(name.to_owned());
            }
            entry = entry.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    names
}

/// `uname -r`.
pub(crate) fn kernel_release() -> Box<CStr> {
    // SAFETY: zero is valid for the struct's byte arrays, and uname only writes zero-terminated strings into it.
    let uts = unsafe {
        let mut uts: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut uts);
        uts
    };
    // SAFETY: uname ends the string within the array; had it failed, the array would be all zero.
    unsafe { CStr::from_ptr(uts.release.as_ptr()) }.into()
}

/// Whether `path` is on a BPF file system.
pub(crate) fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a zero byte and the struct is writable.
    let stat = unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &raw mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat
    };
    Ok(stat.f_type & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Mounts a BPF file system.
pub(crate) fn mount_bpffs(mount_point: &Path) -> io::Result<()> {
    let mount_point = CString::new(mount_point.as_os_str().as_bytes())?;
    let kind = c"bpf".as_ptr();
    // SAFETY: the strings end with zero bytes and outlive the call; no data is passed.
    let result = unsafe { libc::mount(kind, mount_point.as_ptr(), kind, 0, std::ptr::null()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes the directory's lock for as long as `dir` is open; false if somebody else has it.
pub(crate) fn try_lock(dir: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: a plain call on a valid descriptor.
    if unsafe { libc::flock(dir.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EWOULDBLOCK) {
        Ok(false)
    } else {
        Err(error)
    }
}
