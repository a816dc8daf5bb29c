//! A small file system of a test's own: a tmpfs in a mount namespace, which is gone with the test.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "FIELDSEAL_TEST_NAMESPACE";

/// Runs the test of this name again in a mount namespace of its own, where it may mount. True inside;
/// false outside, once the test inside has passed.
pub(super) fn in_a_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg(std::env::current_exe().unwrap()).args([
        "--exact",
        test,
        "--nocapture",
        "--ignored",
    ]);
    let output = command.env(INSIDE, "1").output().expect("`unshare` (util-linux) is missing");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a mount namespace (run it as root, or allow user namespaces):\n{said}"
    );
    false
}

/// It is unmounted when this is dropped.
pub(super) struct SmallDisk(PathBuf);

fn mount(arguments: &[&str], at: &Path) {
    let output = Command::new("mount").args(arguments).arg(at).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl SmallDisk {
    /// A disk of so many bytes, with what is in the directory.
    pub(super) fn under(directory: &Path, bytes: u64) -> Self {
        let aside = directory.with_extension("aside");
        std::fs::rename(directory, &aside).unwrap();
        std::fs::create_dir(directory).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "tmpfs"], directory);
        let inside = aside.join(".");
        let copied = Command::new("cp").arg("-a").arg(inside).arg(directory).status().unwrap();
        assert!(copied.success());
        Self(directory.to_owned())
    }

    /// The directory as it is, read-only.
    pub(super) fn read_only(directory: &Path) -> Self {
        mount(&["--bind", directory.to_str().unwrap()], directory);
        mount(&["-o", "remount,bind,ro"], directory);
        Self(directory.to_owned())
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Writes until nothing is left.
    pub(super) fn fill(&self) {
        let mut file = self.open();
        let written = std::iter::repeat_n([1; 4096], 1 << 20).try_for_each(|b| file.write_all(&b));
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }

    /// Writes until so many bytes are left.
    pub(super) fn fill_to(&self, left: u64) {
        let mut file = self.open();
        let free = || {
            let found = rustix::fs::statvfs(&self.0).unwrap();
            found.f_bavail * found.f_frsize
        };
        while free() > left {
            file.write_all(&[1; 64 * 1024]).unwrap();
        }
    }

    fn open(&self) -> File {
        OpenOptions::new().append(true).create(true).open(self.ballast()).unwrap()
    }

    /// Gives everything back.
    pub(super) fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a sidecar that is still there is killed later.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
