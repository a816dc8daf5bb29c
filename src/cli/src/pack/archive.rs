//! The archive: POSIX ustar, and the same bytes for the same files.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::failure::{Exit, Failure};

const BLOCK: usize = 512;
/// What eleven octal digits can say.
const MOST_BYTES: u64 = (1 << 33) - 1;

/// A file of the archive.
pub(super) struct Packed {
    /// Its name under the archive's one directory.
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    File(File),
}

impl Packed {
    pub(super) fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let sha256 = Sha256::digest(&bytes).into();
        Self {
            name: name.into(),
            bytes: bytes.len() as u64,
            sha256,
            content: Content::Bytes(bytes),
        }
    }
}

/// A file of the archive that grows on the disk, without a name and closed to others.
pub(super) struct Growing {
    name: &'static str,
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Growing {
    pub(super) fn new(name: &'static str, beside: &Path) -> io::Result<Self> {
        let file = BufWriter::new(tempfile::tempfile_in(beside)?);
        Ok(Self { name, file, hash: Sha256::new(), bytes: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.file.write_all(bytes)
    }

    pub(super) fn finish(self) -> io::Result<Packed> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let (name, sha256) = (self.name.to_owned(), self.hash.finalize().into());
        Ok(Packed { name, bytes: self.bytes, sha256, content: Content::File(file) })
    }
}

/// Size and SHA-256 of an archive.
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

/// Writes the archive beside its place, closed to others, and puts it there at once if nothing is there
/// yet. Every file has this time, in seconds since 1970.
///
/// # Errors
/// `FILE_EXISTS` if something is there, `PACK_TOO_LARGE`, and trouble with writing.
pub(super) fn write(
    to: &Path,
    top: &str,
    time: u64,
    files: Vec<Packed>,
) -> Result<Written, Failure> {
    let failed = |error: &io::Error| Failure::io("cannot write", to, error);
    let parent = parent(to);
    let mut new = tempfile::NamedTempFile::new_in(parent).map_err(|e| failed(&e))?;
    let mut headers = vec![header(&format!("{top}/"), 0, time, b'5')?];
    for file in &files {
        headers.push(header(&format!("{top}/{}", file.name), file.bytes, time, b'0')?);
    }
    let written = fill(new.as_file_mut(), &headers, files).map_err(|e| failed(&e))?;
    new.as_file().sync_all().map_err(|e| failed(&e))?;
    new.persist_noclobber(to).map_err(|e| failed(&e.error))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|e| failed(&e))?;
    Ok(written)
}

/// Writes the headers, each file behind its own; the first one is that of the directory.
fn fill(to: &mut File, headers: &[Vec<u8>], files: Vec<Packed>) -> io::Result<Written> {
    let mut out = Out { to: BufWriter::new(to), hash: Sha256::new(), bytes: 0 };
    let contents = std::iter::once(None).chain(files.into_iter().map(Some));
    for (header, file) in headers.iter().zip(contents) {
        out.write(header)?;
        if let Some(file) = file {
            out.file(file)?;
        }
    }
    // Two empty blocks end an archive.
    out.write(&[0; 2 * BLOCK])?;
    out.to.flush()?;
    Ok(Written { bytes: out.bytes, sha256: out.hash.finalize().into() })
}

/// The directory in which a file stands.
pub(super) fn parent(of: &Path) -> &Path {
    of.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

struct Out<W: Write> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.to.write_all(bytes)
    }

    /// A file's bytes, and zeroes up to a whole block.
    fn file(&mut self, file: Packed) -> io::Result<()> {
        match file.content {
            Content::Bytes(bytes) => self.write(&bytes)?,
            Content::File(mut from) => {
                let mut part = vec![0; 1 << 16];
                loop {
                    let read = from.read(&mut part)?;
                    match part.get(..read) {
                        Some(read) if !read.is_empty() => self.write(read)?,
                        _ => break,
                    }
                }
            }
        }
        let whole = self.bytes.next_multiple_of(BLOCK as u64);
        let zeroes = usize::try_from(whole.saturating_sub(self.bytes)).unwrap_or(0);
        self.write(&vec![0; zeroes])
    }
}

/// A header as POSIX.1-1988 describes it (ustar).
fn header(name: &str, bytes: u64, time: u64, kind: u8) -> Result<Vec<u8>, Failure> {
    let (prefix, name) = split(name).ok_or_else(|| {
        Failure::usage("PACK_TOO_LARGE", format!("{name:?} is too long a name for an archive"))
    })?;
    if bytes > MOST_BYTES {
        let what = format!("{name} is larger than the 8 GiB that a file of an archive may have");
        return Err(Failure::new(Exit::Usage, "PACK_TOO_LARGE", what)
            .advise("pack a shorter time, and the rest into archives of its own"));
    }
    let mode = if kind == b'5' { 0o700 } else { 0o600 };
    let mut header = Vec::with_capacity(BLOCK);
    let mut field = |text: &str, width: usize| {
        let end = header.len() + width;
        header.extend_from_slice(text.as_bytes());
        header.resize(end, 0);
    };
    field(name, 100);
    field(&format!("{mode:07o}"), 8);
    field("0000000", 8);
    field("0000000", 8);
    field(&format!("{bytes:011o}"), 12);
    field(&format!("{time:011o}"), 12);
    // The checksum is that of the header with blanks in its place.
    field("        ", 8);
    field(&char::from(kind).to_string(), 1);
    field("", 100);
    field("ustar", 6);
    field("00", 2);
    field("", 32 + 32 + 8 + 8);
    field(prefix, 155);
    field("", 12);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    for (place, byte) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *place = byte;
    }
    Ok(header)
}

/// A name as prefix and rest, where it is too long for the rest alone.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= 100 {
        return Some(("", name));
    }
    let fits = |at: &usize| *at <= 155 && name.len() - at - 1 <= 100;
    let at = name.match_indices('/').map(|(at, _)| at).find(fits)?;
    Some((name.get(..at)?, name.get(at + 1..).filter(|rest| !rest.is_empty())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_that_of_other_programs() {
        // As `tar --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@1700000000` writes it,
        // but for the names of owner and group.
        let made = header("top/file", 1234, 1_700_000_000, b'0').unwrap();
        assert_eq!(made.len(), BLOCK);
        assert_eq!(&made[..8], b"top/file");
        assert_eq!(&made[100..108], b"0000600\0");
        assert_eq!(&made[124..136], b"00000002322\0");
        assert_eq!(&made[136..148], b"14524770400\0");
        assert_eq!(&made[156..265], [&b"0"[..], &[0; 100], b"ustar\0" as &[u8], b"00"].concat());
        let blank = [&made[..148], b"        ", &made[156..]].concat();
        let sum: u32 = blank.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(made[148..156], *format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn a_long_name_is_split_and_one_that_cannot_be_is_refused() {
        let directory = format!("top/policies/{}", "d".repeat(64));
        let name = format!("{directory}/files/{}.cedar", "n".repeat(60));
        assert_eq!(split(&name).map(|(a, b)| format!("{a}/{b}")), Some(name.clone()));
        let (prefix, rest) = split(&name).unwrap();
        assert!(prefix.len() <= 155 && rest.len() <= 100 && !rest.is_empty());
        for bad in [format!("{directory}/files/{}", "n".repeat(101)), "n".repeat(101)] {
            let refused = header(&bad, 0, 0, b'0').unwrap_err();
            assert_eq!(refused.reason(), "PACK_TOO_LARGE");
        }
        assert_eq!(header("a", MOST_BYTES, 0, b'0').unwrap().len(), BLOCK);
        assert_eq!(header("a", MOST_BYTES + 1, 0, b'0').unwrap_err().reason(), "PACK_TOO_LARGE");
    }

    #[test]
    fn what_is_there_is_never_written_over_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a.tar");
        let files = || vec![Packed::new("a", "x"), Packed::new("b", vec![7; 512])];
        let written = write(&to, "top", 9, files()).unwrap();
        // Directory, two files with a block each, and the end.
        assert_eq!(written.bytes, 512 * (1 + 2 + 2 + 2));
        let bytes = std::fs::read(&to).unwrap();
        assert_eq!(
            (bytes.len() as u64, Sha256::digest(&bytes).into()),
            (written.bytes, written.sha256)
        );
        let refused = write(&to, "top", 9, vec![]).err().unwrap();
        assert_eq!((refused.exit(), refused.reason()), (Exit::Conflict, "FILE_EXISTS"));
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
        let same = write(&dir.path().join("b.tar"), "top", 9, files()).unwrap();
        assert_eq!(same.sha256, written.sha256);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
