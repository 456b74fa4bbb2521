//! What a host must offer, asked before anything is tried, so that the answer is a sentence and not an errno.

use std::ffi::CStr;
use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::sys;

const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Bit numbers of `linux/capability.h`.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (39, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;
const USUAL_MOUNT_POINT: &str = "/sys/fs/bpf";

/// Checks privileges, kernel and BPF file system for pins in `pin_dir`, which need not exist yet.
///
/// # Errors
///
/// The first thing that is missing.
pub fn check_host(pin_dir: &Path) -> Result<(), Error> {
    check_capabilities(effective_capabilities()?)?;
    check_kernel(&sys::kernel_release())?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Error::NoBtf);
    }
    check_bpffs(pin_dir)
}

fn effective_capabilities() -> Result<u64, Error> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(Error::system(format!("cannot read {path}")))?;
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    Ok(field
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0))
}

fn check_capabilities(effective: u64) -> Result<(), Error> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    for (bit, capability) in CAPABILITIES {
        // CAP_SYS_ADMIN includes CAP_BPF, not CAP_NET_ADMIN (capabilities(7)).
        let implied = capability == "CAP_BPF" && has(CAP_SYS_ADMIN);
        if !has(bit) && !implied {
            return Err(Error::MissingCapability { capability });
        }
    }
    Ok(())
}

fn check_kernel(release: &CStr) -> Result<(), Error> {
    let release = release.to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST_KERNEL {
        return Err(Error::OldKernel {
            release: release.into_owned(),
        });
    }
    Ok(())
}

/// The usual place is mounted if it is not, as bpftool and systemd do; another one is the operator's.
fn check_bpffs(pin_dir: &Path) -> Result<(), Error> {
    if is_on_bpffs(pin_dir)? {
        return Ok(());
    }
    let usual = Path::new(USUAL_MOUNT_POINT);
    if pin_dir.starts_with(usual) && sys::mount_bpffs(usual).is_ok() && is_on_bpffs(pin_dir)? {
        return Ok(());
    }
    let mount_point = pin_dir.parent().unwrap_or(usual);
    Err(Error::NotBpffs {
        dir: pin_dir.to_owned(),
        mount_point: mount_point.to_owned(),
    })
}

fn is_on_bpffs(pin_dir: &Path) -> Result<bool, Error> {
    // The directory is made later; its nearest ancestor says where it will be.
    let existing = pin_dir.ancestors().find(|dir| dir.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    sys::is_bpffs(existing).map_err(Error::system(format!("statfs {}", existing.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        let all = 1 << 12 | 1 << 39;
        assert!(check_capabilities(all).is_ok());
        let error = check_capabilities(all & !(1 << 12)).unwrap_err();
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        let error = check_capabilities(1 << 12).unwrap_err();
        assert!(error.to_string().contains("CAP_BPF"), "{error}");
        assert!(check_capabilities(1 << 12 | 1 << CAP_SYS_ADMIN).is_ok());
    }

    #[test]
    fn an_old_kernel_is_refused_and_odd_releases_are_read() {
        assert!(check_kernel(c"6.1.0-13-amd64").is_ok());
        assert!(check_kernel(c"7.0-rc1").is_ok());
        assert!(matches!(
            check_kernel(c"5.15.0"),
            Err(Error::OldKernel { .. })
        ));
        assert!(matches!(
            check_kernel(c"strange"),
            Err(Error::OldKernel { .. })
        ));
    }

    #[test]
    fn a_directory_elsewhere_is_refused_with_the_mount_command() {
        let error = check_bpffs(Path::new("/proc/causeway-pins"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
    }
}
