//! A copy in a file of a directory, on another volume.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::frames::{self, Frame};
use super::reader::{Frames, unavailable};
use super::{COPIED_KEYRING, CopyError, CopyOwner, Moment, Place, base};
use crate::backend::Backend;

/// The file's name.
pub(super) const NAME: &str = "store.copy";
/// The least that a copy grows beyond its base before it is begun anew.
const GROWS: u64 = if cfg!(test) { 16 * 1024 } else { 64 * 1024 * 1024 };

pub(super) struct FileCopy {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    /// Where the next group goes: everything before is durable.
    end: u64,
    /// How long the base is.
    base: u64,
    /// The revision of the base.
    pub(super) began: u64,
}

impl FileCopy {
    /// Goes on with the copy that is there if it is this store's and as far, and was begun at the
    /// revision `since` or later; or begins one.
    pub(super) fn open(
        directory: &Path,
        owner: CopyOwner,
        now: Moment,
        backend: &dyn Backend,
        since: u64,
    ) -> Result<Self, CopyError> {
        // It is not made: on a volume that is not mounted it would be on the wrong disk.
        fs::metadata(directory).map_err(|e| unavailable(directory, &e))?;
        let path = directory.join(NAME);
        match path.try_exists().map_err(|e| unavailable(&path, &e))? {
            false => Self::begin(&path, owner, now, backend),
            true => match Found::look(&path, owner, now)? {
                Found::GoesOn { began, .. } if began < since => {
                    let old = File::options().write(true).open(&path);
                    let begun = Self::begin(&path, owner, now, backend)?;
                    old.and_then(|old| blank(&old)).map_err(|e| unavailable(&path, &e))?;
                    Ok(begun)
                }
                Found::GoesOn { base, end, began } => Self::go_on(path, base, end, began),
                Found::Behind => Self::begin(&path, owner, now, backend),
                Found::Apart(name) => {
                    let aside = directory.join(name);
                    tracing::warn!(
                        event = "store_copy_set_aside",
                        file = %aside.display(),
                        "the copy that was there does not belong to this store as it is; it is kept, \
                         and another one is begun"
                    );
                    fs::rename(&path, &aside).map_err(|e| unavailable(&aside, &e))?;
                    Self::begin(&path, owner, now, backend)
                }
            },
        }
    }

    fn go_on(path: PathBuf, base: u64, end: u64, began: u64) -> Result<Self, CopyError> {
        let failed = |e: io::Error| unavailable(&path, &e);
        let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
        // What follows was never acknowledged.
        file.set_len(end).and_then(|()| file.sync_all()).map_err(failed)?;
        let identity = identity(&file).map_err(failed)?;
        Ok(Self { file, identity, end, base, began, path })
    }

    /// Writes the beginning of a copy under another name, and puts it in the place of the one before.
    fn begin(
        path: &Path,
        owner: CopyOwner,
        now: Moment,
        backend: &dyn Backend,
    ) -> Result<Self, CopyError> {
        let failed = |e: io::Error| unavailable(path, &e);
        let staged = path.with_extension("copy.new");
        let made = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged);
        let mut out = BufWriter::with_capacity(1 << 17, made.map_err(failed)?);
        let mut end = 0;
        let written = base(backend, owner, now, |frame| {
            end += frame.len() as u64;
            out.write_all(&frame)
        });
        written.map_err(failed)?;
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        let directory = path.parent().unwrap_or(path);
        file.sync_all()
            .and_then(|()| fs::rename(&staged, path))
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(failed)?;
        let identity = identity(&file).map_err(failed)?;
        let (path, began) = (path.to_owned(), now.revision);
        Ok(Self { path, file, identity, end, base: end, began })
    }
}

/// Puts the keyring beside a copy, whole, if it is not the one that is there.
pub(super) fn put_beside(directory: &Path, keyring: &[u8]) -> Result<(), CopyError> {
    let path = directory.join(COPIED_KEYRING);
    if fs::read(&path).is_ok_and(|found| found == keyring) {
        return Ok(());
    }
    let staged = path.with_extension("json.new");
    let failed = |e: io::Error| unavailable(&path, &e);
    let made = File::options().write(true).create(true).truncate(true).mode(0o600).open(&staged);
    let mut file = made.map_err(failed)?;
    file.write_all(keyring)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&staged, &path))
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(failed)
}

/// Overwrites a file that has no name any more: where a file system writes in place, nothing of it
/// is left.
fn blank(old: &File) -> io::Result<()> {
    let (length, zeroes) = (old.metadata()?.len(), vec![0; 1 << 16]);
    let mut at = 0;
    while at < length {
        let take = usize::try_from(length - at).unwrap_or(zeroes.len()).min(zeroes.len());
        old.write_all_at(zeroes.get(..take).unwrap_or_default(), at)?;
        at += take as u64;
    }
    old.sync_data()
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

impl Place for FileCopy {
    fn put(&mut self, frames: &[Frame]) -> io::Result<()> {
        let found = fs::metadata(&self.path)?;
        if (found.dev(), found.ino()) != self.identity {
            return Err(io::Error::other("its file was removed or replaced"));
        }
        let all = frames.concat();
        self.file.write_all_at(&all, self.end)?;
        self.file.sync_data()?;
        self.end += all.len() as u64;
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.end > self.base.saturating_mul(4).max(self.base + GROWS)
    }
}

/// What a copy that is there is good for.
enum Found {
    /// It has come as far as the store.
    GoesOn { base: u64, end: u64, began: u64 },
    /// It is of this store and has nothing that the store has not.
    Behind,
    /// It has something that this store has not: it is kept under this name.
    Apart(String),
}

impl Found {
    fn look(path: &Path, owner: CopyOwner, now: Moment) -> Result<Self, CopyError> {
        let mut frames = Frames::open(path)?;
        let found = frames.header()?;
        let place = path.display().to_string();
        let named = |of: CopyOwner| {
            format!("the incarnation {} of the installation {}", of.incarnation, of.installation)
        };
        let is_other_life = found.incarnation == owner.incarnation && found.life != owner.life;
        if found.installation != owner.installation || is_other_life {
            let (found, expected) = (named(found), named(owner));
            return Err(CopyError::Foreign { place, found, expected });
        }
        if found.incarnation > owner.incarnation {
            let (found, own) = (found.incarnation, owner.incarnation);
            return Err(CopyError::Newer { place, found, own });
        }
        if found.incarnation < owner.incarnation {
            return Ok(Self::Apart(format!("store.incarnation-{}.copy", found.incarnation)));
        }
        let (mut base, mut began, mut newest, mut goes_on, mut ahead) = (0, 0, 0, None, 0_u32);
        // A copy that cannot be read to its end holds what is of use to nobody but a restore.
        let damaged = |now: Moment| Self::Apart(format!("store.damaged-{}.copy", now.revision));
        loop {
            let (kind, payload) = match frames.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(CopyError::Altered { .. }) => return Ok(damaged(now)),
                Err(error) => return Err(error),
            };
            if matches!(kind, frames::BASE_END | frames::GROUP) {
                let Some((at, _)) = frames::parse_moment(&payload) else { return Ok(damaged(now)) };
                if kind == frames::BASE_END {
                    (base, began) = (frames.offset, at.revision);
                }
                newest = at.revision;
                ahead = ahead.saturating_add(1);
                if (at.revision, at.anchor) == (now.revision, now.anchor) {
                    (goes_on, ahead) = (Some(frames.offset), 0);
                }
            }
        }
        match goes_on {
            // The copy is ahead by the group that was being written, which nobody was told of.
            Some(end) if ahead <= 1 => Ok(Self::GoesOn { base, end, began }),
            None if newest <= now.revision => Ok(Self::Behind),
            // The store went back in time: what it has lost is here.
            _ => Ok(Self::Apart(format!("store.revision-{newest}.copy"))),
        }
    }
}
