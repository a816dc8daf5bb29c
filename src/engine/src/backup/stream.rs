//! What is inside the encrypted file of a backup.
//!
//! ```text
//! file     "FSBACKUP" | le32 format | header | keyring | entries* | end
//! frame    le32 length of payload | kind 1 | payload         at most 1 MiB
//! header   JSON: installation, incarnation, revision, anchor
//! keyring  the document as it stands in keyring.json
//! entries  (le16 length | path | le32 length | revision 8 | sealed)*
//! end      le64 records | le64 data keys
//! ```
//!
//! age authenticates every byte and the end. Entries are as the store keeps them, sealed.

use std::io::{self, Read, Write};

use fieldseal_keys::DATA_KEY_CLASS;
use fieldseal_store::RawEntry;
use serde::{Deserialize, Serialize};

use super::manifest::FORMAT;

const MAGIC: &[u8; 8] = b"FSBACKUP";
const HEADER: u8 = 1;
const KEYRING: u8 = 2;
const ENTRIES: u8 = 3;
const END: u8 = 4;
/// The longest payload.
const MAX_FRAME: usize = 1024 * 1024;
/// Bytes of entries that make a frame.
const FRAME: usize = 256 * 1024;

/// What the file says of itself: the same as the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub installation: String,
    pub incarnation: u64,
    pub revision: u64,
    pub anchor: String,
}

/// How much was written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub records: u64,
    pub data_keys: u64,
}

impl Counts {
    fn add(&mut self, entry: &RawEntry) {
        self.records += 1;
        self.data_keys += u64::from(entry.kind() == Some(DATA_KEY_CLASS));
    }
}

/// Writes the parts in their order.
pub(super) struct Writer<W: Write> {
    out: W,
    waiting: Vec<u8>,
    counts: Counts,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(mut out: W, header: &Header, keyring: &[u8]) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        let mut writer = Self { out, waiting: Vec::new(), counts: Counts::default() };
        writer.frame(HEADER, &serde_json::to_vec(header)?)?;
        writer.frame(KEYRING, keyring)?;
        Ok(writer)
    }

    pub(super) fn entry(&mut self, entry: &RawEntry) -> io::Result<()> {
        self.counts.add(entry);
        let too_long = |_| io::Error::other("an entry is too long");
        let path = u16::try_from(entry.path.len()).map_err(too_long)?;
        let stored = u32::try_from(entry.stored.len()).map_err(too_long)?;
        self.waiting.extend_from_slice(&path.to_le_bytes());
        self.waiting.extend_from_slice(&entry.path);
        self.waiting.extend_from_slice(&stored.to_le_bytes());
        self.waiting.extend_from_slice(&entry.stored);
        if self.waiting.len() < FRAME { Ok(()) } else { self.entries() }
    }

    /// Writes the end and hands back what was written to.
    pub(super) fn finish(mut self) -> io::Result<(W, Counts)> {
        if !self.waiting.is_empty() {
            self.entries()?;
        }
        let Counts { records, data_keys } = self.counts;
        let end = [records.to_le_bytes(), data_keys.to_le_bytes()].concat();
        self.frame(END, &end)?;
        Ok((self.out, self.counts))
    }

    fn entries(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.frame(ENTRIES, &waiting)
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_FRAME);
        let length = length.ok_or_else(|| io::Error::other("a part is too long"))?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&[kind])?;
        self.out.write_all(payload)
    }
}

/// The next thing in a backup.
pub(super) enum Part {
    Entries(Vec<RawEntry>),
    /// The whole was read, and has as much as it says.
    End(Counts),
}

/// Reads the parts in their order, and refuses any other.
pub(super) struct Reader<R: Read> {
    from: R,
    counts: Counts,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(mut from: R) -> io::Result<(Self, Header, Vec<u8>)> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        let mut format = [0; 4];
        from.read_exact(&mut format)?;
        if magic != *MAGIC || u32::from_le_bytes(format) != FORMAT {
            return Err(wrong("it does not begin as a backup does"));
        }
        let mut reader = Self { from, counts: Counts::default() };
        let header = reader.expect(HEADER)?;
        let header = serde_json::from_slice(&header).map_err(|_| wrong("its header is none"))?;
        let keyring = reader.expect(KEYRING)?;
        Ok((reader, header, keyring))
    }

    pub(super) fn part(&mut self) -> io::Result<Part> {
        let (kind, payload) = self.frame()?;
        match kind {
            ENTRIES => {
                let entries = entries(&payload).ok_or_else(|| wrong("an entry is cut off"))?;
                entries.iter().for_each(|entry| self.counts.add(entry));
                Ok(Part::Entries(entries))
            }
            END => {
                let Counts { records, data_keys } = self.counts;
                if payload != [records.to_le_bytes(), data_keys.to_le_bytes()].concat() {
                    return Err(wrong("it has more or fewer records than it says"));
                }
                // Reading on makes age check that this is the end.
                match self.from.read(&mut [0])? {
                    0 => Ok(Part::End(self.counts)),
                    _ => Err(wrong("something follows its end")),
                }
            }
            _ => Err(wrong("a part is out of place")),
        }
    }

    fn expect(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        let (found, payload) = self.frame()?;
        if found == kind { Ok(payload) } else { Err(wrong("a part is out of place")) }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.from.read_exact(&mut head)?;
        let [a, b, c, d, kind] = head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(wrong("a part is too long"));
        }
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload)?;
        Ok((kind, payload))
    }
}

fn entries(mut payload: &[u8]) -> Option<Vec<RawEntry>> {
    let mut found = Vec::new();
    while !payload.is_empty() {
        let (length, rest) = payload.split_first_chunk::<2>()?;
        let (path, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (stored, rest) = rest.split_at_checked(length)?;
        found.push(RawEntry { path: path.to_vec(), stored: stored.to_vec() });
        payload = rest;
    }
    Some(found)
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
