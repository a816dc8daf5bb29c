//! What is not read, whatever it says.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{Policy, default_files};

fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in default_files(&[]) {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn refused(dir: &Path) -> String {
    Policy::load(&Settings { dir: dir.to_owned() }).unwrap_err().to_string()
}

#[test]
fn a_pipe_is_refused_and_nobody_waits_for_it() {
    let dir = written();
    let pipe = dir.path().join("pipe.cedar");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero.cedar")).unwrap();
    let said = refused(dir.path());
    assert_eq!(said.lines().count(), 2, "{said}");
    for name in ["pipe.cedar: ", "zero.cedar: "] {
        assert!(said.contains(name) && said.contains("not a regular file"), "{said}");
    }
}

#[test]
fn what_everybody_can_write_to_is_refused() {
    let dir = written();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let file = dir.path().join("members.toml");
    set(&file, 0o666);
    let said = refused(dir.path());
    assert!(said.contains("members.toml: everybody can write to the file"), "{said}");
    set(&file, 0o664);
    set(dir.path(), 0o1777);
    let said = refused(dir.path());
    assert!(said.contains(": everybody can write to the policy directory"), "{said}");
    set(dir.path(), 0o775);
    assert!(Policy::load(&Settings { dir: dir.path().to_owned() }).is_ok());
    // What is mounted to be read only, nobody writes to.
    assert!(!open_to_all(0o777, StatVfsMountFlags::RDONLY));
    assert!(open_to_all(0o777, StatVfsMountFlags::NOSUID));
}
